import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { QUEUE_WAIT_MS_MAX } from '../../../sdk/protocol/limits.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

/** Three parts of 64 MB, which V8 takes one after the other (infra/host/roles.ts); what is kept of a call would be more. */
const YOUNG_MB = 192;

interface Outcome {
  readonly status: number;
  readonly ms: number;
  readonly retryAfter: string | null;
}

async function call(url: string): Promise<Outcome> {
  const started = performance.now();
  const response = await fetch(url);
  await response.text();
  return {
    status: response.status,
    ms: performance.now() - started,
    retryAfter: response.headers.get('retry-after'),
  };
}

/** `callers` call one after the other until `ms` have passed. */
async function flood(url: string, callers: number, ms: number): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const deadline = performance.now() + ms;
  const caller = async (): Promise<void> => {
    while (performance.now() < deadline) outcomes.push(await call(url));
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return outcomes;
}

const p99 = (outcomes: readonly Outcome[]): number => {
  const sorted = outcomes.map((one) => one.ms).toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.99)] as number;
};

describe('under load', () => {
  const server = useServer();

  it('every cold start gets a sandbox of its own that nobody used before', async () => {
    const url = await server.deploy('once', functionFixture('behaviour.ts'), {
      keepAlive: 0,
      concurrency: 1,
      max: 20,
    });
    const answers: string[] = [];
    for (let i = 0; i < 10; i++) answers.push(await (await fetch(`${url}/`)).text());
    answers.push(
      ...(await Promise.all(Array.from({ length: 5 }, () => fetch(`${url}/`).then((one) => one.text())))),
    );
    expect(new Set(answers)).toEqual(new Set(['call 1']));
  });

  it('a thousand simultaneous first requests are all answered by as many sandboxes as they need', async () => {
    const url = await server.deploy('thousand', functionFixture('behaviour.ts'), {
      concurrency: 200,
      max: 20,
      keepAlive: '1s',
    });
    await expect.poll(() => server.sandboxCount('thousand'), { timeout: 10_000 }).toBe(0);
    const results = await Promise.all(Array.from({ length: 1_000 }, () => call(`${url}/slow?ms=50`)));
    expect(new Set(results.map((one) => one.status))).toEqual(new Set([200]));
    expect(await server.sandboxCount('thousand')).toBeLessThanOrEqual(6);
  });

  it('at twice what a function can do, what it can do is still done, and the rest is refused at once', async () => {
    const url = await server.deploy('overload', functionFixture('behaviour.ts'), {
      concurrency: 1,
      max: 2,
      timeout: '5s',
    });
    // Two at a time, 100 ms each: 20 a second at most.
    await flood(`${url}/slow?ms=100`, 2, 1_000);
    const seconds = 4;
    const outcomes = await flood(`${url}/slow?ms=100`, 600, seconds * 1_000);
    const good = outcomes.filter((one) => one.status === 200);
    const refused = outcomes.filter((one) => one.status !== 200);
    expect(good.length / seconds).toBeGreaterThan(0.8 * 20);
    expect(refused.length).toBeGreaterThan(0);
    for (const one of refused) {
      expect([429, 503]).toContain(one.status);
      expect(one.retryAfter).not.toBeNull();
    }
    const prompt = refused.filter((one) => one.status === 429);
    expect(prompt.length).toBeGreaterThan(0);
    // None of them stood in the queue; how long 600 callers who never pause take to be heard is this machine's business.
    const half = prompt.toSorted((a, b) => a.ms - b.ms)[Math.floor(prompt.length / 2)];
    expect(half?.ms).toBeLessThan(QUEUE_WAIT_MS_MAX / 2);
  });

  it('a flood of one function does not starve another', async () => {
    const loud = await server.deploy('loud', functionFixture('behaviour.ts'), { concurrency: 4, max: 2 });
    const quiet = await server.deploy('quiet', functionFixture('behaviour.ts'));
    await Promise.all([call(loud), call(quiet)]);
    const alone = await flood(quiet, 1, 1_000);
    const flooding = flood(`${loud}/slow?ms=20`, 100, 3_000);
    const beside = await flood(quiet, 1, 2_500);
    await flooding;
    expect(new Set(beside.map((one) => one.status))).toEqual(new Set([200]));
    process.stdout.write(
      `quiet function, p99 alone ${p99(alone).toFixed(1)} ms, beside a flood ${p99(beside).toFixed(1)} ms\n`,
    );
    expect(p99(beside)).toBeLessThan(1_000);
  });

  it('memory of gateway and runner stays flat over many calls', async () => {
    const url = await server.deploy('flat', functionFixture('behaviour.ts'));
    const rss = async (role: string): Promise<number> => {
      const status = await readFile(`/proc/${await server.pidOf(role)}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
    };
    await flood(url, 32, 2_000);
    const before = { gateway: await rss('gateway'), runner: await rss('runner') };
    const outcomes = await flood(url, 32, 4_000);
    expect(outcomes.length).toBeGreaterThan(500);
    expect((await rss('gateway')) - before.gateway).toBeLessThan(YOUNG_MB);
    expect((await rss('runner')) - before.runner).toBeLessThan(YOUNG_MB);
  });
});
