/**
 * A whole server whose stores are a Redis Cluster of three primaries and a replica of each, class `replicated`: functions on
 * every primary are deployed, called, sent events, scheduled and suspended; a cell moves; a primary dies.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cells } from '../../infra/contract/cells.ts';
import { hashSlot } from '../../infra/contract/keys.ts';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { functionFixture } from '../helpers/fixtures.ts';
import { startRedisCluster, type TestCluster } from '../helpers/redis-cluster.ts';
import { startServer, type TestServer } from '../helpers/server.ts';
import { waitFor } from '../helpers/wait.ts';

const cells = new Cells(6);
/** A function of each primary. */
let names: string[];
let cluster: TestCluster;
let server: TestServer;
let client: Client;

beforeAll(async () => {
  cluster = await startRedisCluster({ hasReplicas: true });
  names = cluster.primaries.map((port) => {
    for (let i = 0; ; i++) if (ownerOf(slotOf(`on-${i}`)) === port) return `on-${i}`;
  });
  server = await startServer({
    env: {
      SKIFF_REDIS_URL: cluster.url,
      SKIFF_CELLS: String(cells.count),
      SKIFF_EVENTS_DURABILITY: 'replicated',
    },
  });
  client = createClient({ url: server.url, token: server.adminToken });
  await Promise.all(
    names.map(async (name, i) => {
      const { files, entry } = findSource(functionFixture(i === 2 ? 'steps.ts' : 'events.ts'));
      const config = { async: { retries: 10, backoff: '200ms' } };
      await client.deploy(name, { source: () => packSource(files), entry, config });
    }),
  );
});
afterAll(async () => {
  try {
    await server?.stop();
  } finally {
    await cluster?.close();
  }
});

const call = (name: string, n: number) =>
  fetch(`${server.url}/f/${name}/number?n=${n}`, { signal: AbortSignal.timeout(10_000) }).catch(
    () => undefined,
  );
const send = (name: string, n: number) =>
  fetch(`${server.url}/f/${name}/number?n=${n}`, {
    method: 'POST',
    headers: { prefer: 'respond-async', 'idempotency-key': `${name}-${n}` },
    signal: AbortSignal.timeout(10_000),
  }).catch(() => undefined);

/** Of an event that was accepted. */
async function idOf(response: Response | undefined): Promise<string> {
  expect(response?.status).toBe(202);
  return ((await (response as Response).json()) as { id: string }).id;
}

const slotOf = (name: string): number => hashSlot(cells.ofFunction(name).tag);
const ownerOf = (slot: number): number => {
  const nodes = cluster.cli(cluster.primariesNow()[0] as number, 'cluster', 'nodes').split('\n');
  const owner = nodes.find((line) =>
    line
      .split(' ')
      .slice(8)
      .some((range) => {
        const [from = '', to = from] = range.split('-');
        return / (?:myself,)?master /.test(line) && Number(from) <= slot && slot <= Number(to);
      }),
  );
  return Number(/:(\d+)@/.exec(owner ?? '')?.[1]);
};

test('each function’s state is on the primary of its cell, and calls, events, steps and schedules run', async () => {
  const [calls = '', events = '', steps = ''] = names;
  for (const name of [calls, events]) expect(await (await call(name, 7))?.json()).toMatchObject({ n: 7 });
  const id = await idOf(await send(events, 1));
  expect(await client.waitFor(id, { waitMs: 20_000 })).toMatchObject({ state: 'succeeded' });
  const tag = cells.ofFunction(events).tag;
  const keys = cluster.cli(ownerOf(hashSlot(tag)), 'keys', `*${id}*`).split('\n');
  expect(keys.length).toBeGreaterThan(1);
  for (const key of keys) expect(key).toContain(tag);

  const workflow = (await client.invokeAsync(steps, { path: '/sleep?for=300ms', method: 'POST' })).id;
  expect(await client.waitFor(workflow, { waitMs: 20_000 })).toMatchObject({
    state: 'succeeded',
    suspensions: 1,
  });

  const put = await server.fetch(`/v1/schedules/every`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ function: calls, every: '1s', path: '/number?n=3', overlap: 'allow' }),
  });
  expect(put.status).toBeLessThan(300);
  await waitFor('ticks', async () => {
    const schedule = (await (await server.fetch('/v1/schedules/every')).json()) as { fired: number };
    return schedule.fired >= 2;
  });
  await server.fetch('/v1/schedules/every', { method: 'DELETE' });
  expect((await client.eventStats()).problem).toBeUndefined();
});

test('a cell moves to another primary while its function is called, and goes on there', async () => {
  const name = names[1] as string;
  const slot = slotOf(name);
  const from = ownerOf(slot);
  const to = cluster.primariesNow().find((port) => port !== from) as number;
  const accepted = await Promise.all([100, 101, 102].map((n) => send(name, n)));
  cluster.cli(to, 'cluster', 'setslot', String(slot), 'importing', cluster.idOf(from));
  cluster.cli(from, 'cluster', 'setslot', String(slot), 'migrating', cluster.idOf(to));
  for (;;) {
    const keys = cluster
      .cli(from, 'cluster', 'getkeysinslot', String(slot), '50')
      .split('\n')
      .filter(Boolean);
    if (keys.length === 0) break;
    cluster.cli(from, 'migrate', '127.0.0.1', String(to), '', '0', '5000', 'keys', ...keys);
  }
  for (const port of [to, from, ...cluster.primariesNow()])
    cluster.cli(port, 'cluster', 'setslot', String(slot), 'node', cluster.idOf(to));
  expect(ownerOf(slot)).toBe(to);
  for (const response of accepted) {
    const id = await idOf(response);
    expect(await client.waitFor(id, { waitMs: 30_000 })).toMatchObject({ state: 'succeeded' });
  }
  await waitFor('a call', async () => (await call(name, 1))?.status === 200, 30_000);
  await waitFor('an event', async () => (await send(name, 103))?.status === 202, 30_000);
});

test('a primary dies: its replica takes over, nothing acknowledged is lost, all functions answer', async () => {
  const victim = ownerOf(slotOf(names[0] as string));
  const accepted = new Map<string, number>();
  let isDone = false;
  const lane = async (name: string, from: number): Promise<void> => {
    for (let n = from; !isDone; n++) {
      const response = await send(name, n);
      const body = (await response?.json().catch(() => undefined)) as { id: string } | undefined;
      if (response?.status === 202 && body) accepted.set(body.id, n);
      // What is refused at once would otherwise take the processors from those who elect a primary.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const lanes = [lane(names[0] as string, 1_000), lane(names[1] as string, 2_000)];
  await waitFor('events', () => accepted.size > 20, 30_000);
  await cluster.kill(victim);
  await waitFor('another primary', () => cluster.primariesNow().length === 3, 30_000);
  // Until its successor has a replica it takes no writes, as the operator asked with min-replicas-to-write.
  cluster.start(victim);
  for (const name of names.slice(0, 2))
    await waitFor(`${name} to answer`, async () => (await call(name, 1))?.status === 200, 60_000);
  isDone = true;
  await Promise.all(lanes);
  await waitFor('acceptance', async () => (await client.eventStats()).problem === undefined, 30_000);
  await waitFor('nothing unfinished', async () => (await client.eventStats()).unfinished === 0, 90_000);
  for (const [id, n] of accepted) {
    expect(await client.invocation(id), `${id} was acknowledged`).toMatchObject({ state: 'succeeded' });
    expect(await (await client.result(id)).json()).toMatchObject({ n });
  }
});
