/** The warm pool, scaling, and deploys under load; DEPLOYS=1000 makes it long. */
import { describe, expect, it } from 'vitest';
import { functionPids, isFrozen } from '../../bench/memory.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

const DEPLOYS = Number(process.env['DEPLOYS'] ?? 3);

describe('warm pool and scaling', () => {
  const server = useServer();
  const deploymentOf = async (url: string): Promise<string> => {
    const response = await fetch(`${url}/`);
    await response.text();
    return response.headers.get('skiff-deployment') ?? '';
  };

  const pidsOf = async (url: string, calls: number): Promise<Set<string>> => {
    const answers = await Promise.all(
      Array.from({ length: calls }, () => fetch(`${url}/`).then((one) => one.json())),
    );
    return new Set(
      answers.map((one) => String((one as { headers: unknown; invocationId: string; pid: number }).pid)),
    );
  };
  const sandboxes = (name: string): Promise<number> => server.sandboxCount(name);

  it('a warm sandbox is used again', async () => {
    const url = await server.deploy('reuse', functionFixture('behaviour.ts'));
    const numbers: string[] = [];
    for (let i = 0; i < 5; i++) numbers.push(await (await fetch(`${url}/`)).text());
    expect(numbers.map((one) => Number(one.split(' ')[1]))).toEqual([1, 2, 3, 4, 5]);
  });

  it('scales up when slots are short and never past the maximum', async () => {
    const url = await server.deploy('upward', functionFixture('behaviour.ts'), { concurrency: 1, max: 3 });
    const results = await Promise.all(Array.from({ length: 9 }, () => fetch(`${url}/slow?ms=300`)));
    expect(results.map((one) => one.status)).toEqual(Array.from({ length: 9 }, () => 200));
    expect(await sandboxes('upward')).toBe(3);
  });

  it('a hundred simultaneous first requests start only the sandboxes that their concurrency needs', async () => {
    const url = await server.deploy('flight', functionFixture('behaviour.ts'), {
      concurrency: 50,
      max: 10,
      keepAlive: '1s',
    });
    await expect.poll(() => sandboxes('flight'), { timeout: 10_000 }).toBe(0);
    const results = await Promise.all(Array.from({ length: 100 }, () => fetch(`${url}/slow?ms=200`)));
    expect(results.every((one) => one.status === 200)).toBe(true);
    expect(await sandboxes('flight')).toBeLessThanOrEqual(3);
  });

  it('scales to zero after its keep-alive time and comes back', async () => {
    const url = await server.deploy('to-zero', functionFixture('behaviour.ts'), { keepAlive: '1s' });
    expect((await fetch(`${url}/`)).status).toBe(200);
    await expect.poll(() => sandboxes('to-zero'), { timeout: 10_000 }).toBe(0);
    const back = await fetch(`${url}/`);
    expect(back.status).toBe(200);
    expect(Number(/cold;dur=([\d.]+)/.exec(back.headers.get('server-timing') ?? '')?.[1])).toBeGreaterThan(0);
  });

  it('keeps a minimum of sandboxes, frozen until they are called', async () => {
    // Found by its name among all that this machine runs.
    const name = `minimum-${process.pid}`;
    const url = await server.deploy(name, functionFixture('behaviour.ts'), { min: 2, keepAlive: '1s' });
    await expect.poll(() => sandboxes(name), { timeout: 15_000 }).toBe(2);
    const frozen = async () => Promise.all((await functionPids(name)).map(isFrozen));
    await expect.poll(frozen, { timeout: 15_000 }).toEqual([true, true]);
    expect((await fetch(url)).status).toBe(200);
  });

  it(
    'deploys under load fail no request, and after each nobody gets an older deployment',
    { timeout: 60_000 + DEPLOYS * 2_000 },
    async () => {
      const url = await server.deploy('switch', functionFixture('behaviour.ts'));
      const order = [await deploymentOf(url)];
      let isRunning = true;
      const statuses = new Map<number, number>();
      /** How many deploys had ended when the call began, and who answered. */
      const answers: (readonly [after: number, by: string])[] = [];
      const caller = async (): Promise<void> => {
        while (isRunning) {
          const after = order.length;
          const response = await fetch(`${url}/`);
          await response.text();
          statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
          answers.push([after, response.headers.get('skiff-deployment') ?? '']);
        }
      };
      const callers = Array.from({ length: 4 }, caller);
      for (let i = 0; i < DEPLOYS; i++) {
        await server.deploy('switch', functionFixture('behaviour.ts'), { env: { ROUND: String(i) } });
        order.push(await deploymentOf(url));
      }
      isRunning = false;
      await Promise.all(callers);
      expect([...statuses.keys()]).toEqual([200]);
      expect(statuses.get(200)).toBeGreaterThan(50);
      expect(new Set(order).size).toBe(DEPLOYS + 1);
      expect(answers.filter(([after, by]) => order.indexOf(by) < after - 1)).toEqual([]);
    },
  );

  it('calls of one sandbox run side by side up to its concurrency', async () => {
    const url = await server.deploy('side-by-side', functionFixture('echo.ts'), { concurrency: 8, max: 1 });
    expect((await pidsOf(url, 16)).size).toBe(1);
  });
});
