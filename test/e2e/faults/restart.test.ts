import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';

describe('any process may die', () => {
  let server: TestServer;
  let url: string;

  beforeAll(async () => {
    server = await startServer();
    ({ url } = await server.deploy(functionFixture('behaviour.ts'), [
      '--name',
      'survivor',
      '--timeout',
      '5s',
    ]));
  });
  afterAll(() => server.stop());

  const answers = (timeout = 20_000): Promise<void> =>
    expect
      .poll(
        () =>
          fetch(`${url}/`).then(
            (one) => one.status,
            () => 0,
          ),
        { timeout, interval: 100 },
      )
      .toBe(200);
  const sandboxes = (): string[] => readdirSync(join(server.dataDir, 'runner/sandboxes'));
  const pidOf = (name: string): number => server.state.processes[name] as number;
  const replaced = (name: string, pid: number): Promise<void> =>
    expect.poll(() => pidOf(name), { timeout: 10_000 }).not.toBe(pid);

  it.each(['gateway', 'builder', 'runner', 'redis-fast', 'redis', 'registry'])(
    'killing %s loses no function, and the server comes back by itself',
    async (name) => {
      await answers();
      const pid = server.kill(name);
      await replaced(name, pid);
      await answers();
      // The control API needs the durable store, which a warm call does not.
      await expect
        .poll(async () => JSON.stringify(await (await server.fetch('/v1/functions')).json()), {
          timeout: 10_000,
        })
        .toContain('"survivor"');
    },
  );

  it('kill -9 of the runner leaves no sandbox of the dead one behind', async () => {
    await answers();
    const before = new Set(sandboxes());
    expect(before.size).toBeGreaterThan(0);
    const pid = server.kill('runner');
    await replaced('runner', pid);
    await answers();
    expect(sandboxes().filter((name) => before.has(name))).toEqual([]);
  });

  it('a call on a runner that is killed is answered at once, as unknown, and not run again', async () => {
    await answers();
    const started = performance.now();
    const call = fetch(`${url}/deaf?ms=4000`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const pid = server.kill('runner');
    const response = await call;
    expect(response.status).toBe(502);
    expect(response.headers.get('skiff-outcome')).toBe('unknown');
    expect(performance.now() - started).toBeLessThan(3_500);
    await replaced('runner', pid);
    await answers();
  });

  it('leases of a killed runner make no later call hang', async () => {
    await answers();
    const hot = await Promise.all(
      Array.from({ length: 200 }, () => fetch(`${url}/`).then((one) => one.status)),
    );
    expect(new Set(hot)).toEqual(new Set([200]));
    const pid = server.kill('runner');
    const statuses = await Promise.all(
      Array.from({ length: 50 }, () =>
        fetch(`${url}/`, { signal: AbortSignal.timeout(15_000) }).then((one) => one.status),
      ),
    );
    for (const status of statuses) expect([200, 502, 503]).toContain(status);
    await replaced('runner', pid);
    await answers();
  });

  it('a frozen runner is given up, its calls get an answer, and it comes back with a new epoch', async () => {
    await answers();
    const pid = pidOf('runner');
    process.kill(pid, 'SIGSTOP');
    try {
      const response = await fetch(`${url}/`, { signal: AbortSignal.timeout(20_000) });
      expect([502, 503]).toContain(response.status);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await answers();
    expect(pidOf('runner')).toBe(pid);
  });

  it('while Redis is away calls are refused quickly with 503', async () => {
    await answers();
    const pids = ['redis-fast', 'redis'].map(pidOf);
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      const started = performance.now();
      // Past what is leased: a function nobody has called yet has to ask.
      const response = await fetch(`${server.url}/f/never-called/`, { signal: AbortSignal.timeout(20_000) });
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).not.toBeNull();
      expect(performance.now() - started).toBeLessThan(5_000);
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    await answers();
  });
});
