/**
 * Fail-over of the durable store under load, class `replicated`: a real primary, its replica and three sentinels. What was
 * acknowledged is there on the new primary, an old one acknowledges nothing, and no consumer goes deaf.
 * SENTINEL_FAILOVERS=20 makes it long.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { untilReady } from '../helpers/event-server.ts';
import { functionFixture } from '../helpers/fixtures.ts';
import { startRedis, type TestRedis } from '../helpers/redis.ts';
import { startSentinelCluster, type SentinelCluster } from '../helpers/sentinel.ts';
import { startServer, type TestServer } from '../helpers/server.ts';
import { waitFor } from '../helpers/wait.ts';

const FAILOVERS = Number(process.env['SENTINEL_FAILOVERS'] ?? 1);
const NAME = 'failover';
let cluster: SentinelCluster;
let fast: TestRedis;
let server: TestServer;
let client: Client;

beforeAll(async () => {
  [cluster, fast] = await Promise.all([startSentinelCluster(), startRedis()]);
  server = await startServer({
    env: {
      SKIFF_REDIS_URL: cluster.url,
      SKIFF_REDIS_FAST_URL: fast.url,
      SKIFF_EVENTS_DURABILITY: 'replicated',
    },
  });
  client = createClient({ url: server.url, token: server.adminToken });
  const { files, entry } = findSource(functionFixture('events.ts'));
  const config = { async: { retries: 10, backoff: '200ms' } };
  await client.deploy(NAME, { source: () => packSource(files), entry, config });
});
afterAll(async () => {
  try {
    await server?.stop();
  } finally {
    await Promise.all([cluster?.close(), fast?.close()]);
  }
});

/** Sends without pause until told to stop; what was answered with 202. */
async function sendUntil(isDone: () => boolean, from: number): Promise<Map<number, string>> {
  const accepted = new Map<number, string>();
  let next = from;
  const lane = async (): Promise<void> => {
    while (!isDone()) {
      const n = next++;
      const response = await fetch(`${server.url}/f/${NAME}/number?n=${n}`, {
        method: 'POST',
        headers: { prefer: 'respond-async', 'idempotency-key': `n-${n}` },
        signal: AbortSignal.timeout(5_000),
      }).catch(() => undefined);
      const body = (await response?.json().catch(() => undefined)) as { id: string } | undefined;
      if (response?.status === 202 && body) accepted.set(n, body.id);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await Promise.all(Array.from({ length: 4 }, lane));
  return accepted;
}

const accepts = async (): Promise<boolean> =>
  (
    await fetch(`${server.url}/f/${NAME}/`, {
      method: 'POST',
      headers: { prefer: 'respond-async' },
      signal: AbortSignal.timeout(5_000),
    }).catch(() => undefined)
  )?.status === 202;

test.each(Array.from({ length: FAILOVERS }, (_, i) => [i + 1]))(
  'fail-over %i: nothing acknowledged is lost, and events run on the new primary',
  async (round) => {
    await cluster.untilReplicated();
    await waitFor('acceptance', accepts, 30_000);
    let isDone = false;
    const sending = sendUntil(() => isDone, round * 1_000_000);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const old = await cluster.primaryPort();
    // Dead in one round, and only out of reach in the next: then it comes back and thinks that it is the primary.
    const isPaused = round % 2 === 0;
    if (isPaused) cluster.pause(old);
    else await cluster.kill(old);
    await waitFor('another primary', async () => ![0, old].includes(await cluster.primaryPort()), 30_000);
    if (isPaused) cluster.resume(old);
    else cluster.start(old);
    await cluster.untilReplicated();
    await waitFor('acceptance on the new primary', accepts, 60_000);
    isDone = true;
    const accepted = await sending;
    expect(accepted.size).toBeGreaterThan(10);

    await untilReady(server);
    await waitFor(
      'nothing unfinished',
      async () => (await client.eventStats().catch(() => undefined))?.unfinished === 0,
      90_000,
    );
    let sum = 0;
    let expected = 0;
    for (const [n, id] of accepted) {
      const record = await client.invocation(id);
      expect(record, `${id} was acknowledged`).toMatchObject({ state: 'succeeded' });
      sum += ((await (await client.result(id)).json()) as { n: number }).n;
      expected += n;
    }
    expect(sum).toBe(expected);
    const { problem, durability } = await client.eventStats();
    expect([problem, durability]).toEqual([undefined, 'replicated']);
  },
);
