/** Dispatch, events, steps and schedules over six cells, on a Redis Cluster of three primaries. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEvents, type OpenedEvents } from '../../../gateway/events/open.ts';
import { Pump } from '../../../gateway/events/consume/pump.ts';
import { Scheduler } from '../../../gateway/events/schedule/scheduler.ts';
import { Routes } from '../../../gateway/invoke/routes.ts';
import { Versions } from '../../../gateway/invoke/versions.ts';
import { openCatalog, type Catalog } from '../../../infra/catalog/catalog.ts';
import type { Cell, Cells } from '../../../infra/contract/cells.ts';
import { hashSlot } from '../../../infra/contract/keys.ts';
import { Dispatcher, formatToken } from '../../../infra/dispatch/dispatcher.ts';
import { IdempotencyRecords } from '../../../infra/events/idempotency.ts';
import { EventStore } from '../../../infra/events/store.ts';
import { StepStore } from '../../../infra/events/steps.ts';
import type { Begun } from '../../../infra/events/wire.ts';
import { followLayout } from '../../../infra/lib/layout.ts';
import { cellsOf, openRedis, withCredentials } from '../../../infra/lib/redis.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import { grantAccess, listUsers, revokeAccess } from '../../../infra/swarm/access.ts';
import { createOwnedId } from '../../../sdk/protocol/ids.ts';
import { ScheduleInput } from '../../../sdk/protocol/workflow/schedules.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { createEnd } from '../../helpers/event-store.ts';
import { startRedisCluster, type TestCluster } from '../../helpers/redis-cluster.ts';
import { waitFor } from '../../helpers/wait.ts';

const COUNT = 6;
const log = pino({ level: 'silent' });
let cluster: TestCluster;
let folder: string;
let redis: Redis;
let cells: Cells;
let catalog: Catalog;
let routes: Routes;
let events: OpenedEvents;
/** A function of each cell. */
let names: string[];

beforeAll(async () => {
  cluster = await startRedisCluster();
  folder = await mkdtemp(join(tmpdir(), 'skiff-cells-'));
  const url = `${cluster.url}?cells=${COUNT}`;
  redis = openRedis(url, { enableAutoPipelining: true });
  await redis.connect();
  cells = cellsOf(redis);
  catalog = openCatalog(redis);
  routes = new Routes((name) => catalog.resolveRoute(name));
  events = await openEvents({
    durableUrl: url,
    durability: 'single',
    epochFile: join(folder, 'epoch'),
    registry: openRegistry({ url: 'http://127.0.0.1:9' }),
    routes,
    versions: new Versions(catalog),
    log,
  });
  names = cells.all.map((cell) => nameIn(cell));
  for (const name of names) await deploy(name);
});
afterAll(async () => {
  await events?.close();
  redis?.disconnect();
  await cluster?.close();
  await rm(folder, { recursive: true, force: true });
});

function nameIn(cell: Cell): string {
  for (let i = 0; ; i++) if (cells.ofFunction(`fn-${i}`) === cell) return `fn-${i}`;
}

async function deploy(name: string): Promise<void> {
  const deployment = { ...createDeployment(name), id: createOwnedId('dep', name) };
  await catalog.putDeployment(deployment);
  await catalog.setAlias(name, 'live', [{ deployment: deployment.id, weight: 100 }]);
}

async function newEvent(name: string, options = {}) {
  const deployment = (await routes.get(name))?.targets[0]?.deployment;
  if (!deployment) throw new Error(`${name} is not deployed`);
  const head = { method: 'POST', url: 'http://x/', headers: [] };
  return { deployment, head, body: Buffer.from(name), options, origin: 'http' };
}

const storeOf = (id: string): EventStore => new EventStore(redis, cells.ofId(id));

/** Begins it as the consumer of its cell would. */
async function begin(id: string): Promise<Begun> {
  const job = (await redis.hget(cells.ofId(id).events.record(id), 'job')) ?? '';
  const { begun } = await storeOf(id).begin('c', 10_000, job, [id]);
  return begun[0] as Begun;
}

async function run(id: string, fields: Parameters<typeof createEnd>[1] = {}): Promise<void> {
  const { replies } = await storeOf(id).finishMany('c', 10_000, [createEnd(await begin(id), fields)]);
  expect(replies).toMatchObject([{ kind: 'written' }]);
}

test('tags are where Redis says, two cells on each primary, and nothing is laid out otherwise later', async () => {
  for (const { tag } of cells.all) {
    expect(hashSlot(tag)).toBe(
      Number(cluster.cli(cluster.primaries[0] as number, 'cluster', 'keyslot', tag)),
    );
  }
  for (const port of cluster.primaries) {
    const keys = cluster.cli(port, 'keys', '*:epoch').split('\n');
    expect(keys).toHaveLength(COUNT / 3);
  }
  const other = await openEvents({
    durableUrl: `${cluster.url}?cells=2`,
    durability: 'single',
    epochFile: join(folder, 'other'),
    registry: openRegistry({ url: 'http://127.0.0.1:9' }),
    routes,
    versions: new Versions(catalog),
    log,
  });
  expect(other.durability.problem).toContain('laid out for 6 cells, and SKIFF_CELLS says 2');
  await other.close();
  const counted = openRedis(`${cluster.url}?cells=2`);
  await counted.connect();
  const problem = await new Promise<string>((resolve) => followLayout(counted, resolve));
  expect(problem).toBe(other.durability.problem);
  counted.disconnect();
});

test('slots are offered, taken, queued for, leased and given back in every cell', async () => {
  const dispatcher = new Dispatcher(redis);
  for (const cell of cells.all) await redis.set(cell.fast.alive('r1'), 'e1');
  const envelope = Buffer.from('envelope');
  const timing = () => ({ startByMs: Date.now() + 60_000, serviceMs: 0, coldMs: 100 });
  await Promise.all(
    names.map(async (name) => {
      const deployment = createOwnedId('dep', name);
      const keys = cells.ofFunction(name).fast;
      const scaling = { deployment, concurrency: 1, max: 5, min: 0 };
      const token = formatToken({ runner: 'r1', epoch: 'e1', sandbox: deployment, slot: 0, generation: 1 });
      await dispatcher.offer(deployment, [token], { live: `r1|e1|${deployment}` });
      expect(await dispatcher.dispatch(scaling, envelope, timing())).toEqual({ kind: 'sent', token });
      expect(await redis.lpop(keys.inbox('r1'))).toBe(`${token}\nenvelope`);
      const queued = await dispatcher.dispatch(scaling, envelope, timing());
      expect(queued).toEqual({ kind: 'queued', waiting: 1, isStarting: true });
      expect(await redis.llen(keys.demand)).toBe(1);
      expect(await dispatcher.offer(deployment, [token])).toEqual([envelope]);
      await dispatcher.offer(deployment, [token]);
      expect(await dispatcher.lease(deployment, 4, 60_000)).toEqual([token]);
      expect(await dispatcher.renew(deployment, [token], 1)).toEqual([true]);
    }),
  );
  // The leases of all cells run out.
  const reclaimed: string[] = [];
  await waitFor('all leases', async () => {
    reclaimed.push(...(await dispatcher.reclaim('r1')));
    return reclaimed.length === COUNT;
  });
});

test('a worker’s user may do a runner’s work in every cell, on every server, and nothing after it was revoked', async () => {
  const passwordHash = createHash('sha256').update('secret').digest('hex');
  await grantAccess({ durable: redis, fast: redis }, { id: 'node-w', role: 'worker', passwordHash });
  expect(await listUsers(redis)).toContain('node-w');
  const own = openRedis(withCredentials(`${cluster.url}?cells=${COUNT}`, 'node-w', 'secret'), {
    retryStrategy: () => null,
  });
  await own.connect();
  const dispatcher = new Dispatcher(own);
  for (const name of names) {
    const deployment = createOwnedId('dep', name);
    const keys = cellsOf(own).ofFunction(name).fast;
    await own.set(keys.alive('node-w'), 'e1');
    await dispatcher.offer(deployment, ['node-w|e1|s|0|1'], { live: 'node-w|e1|s' });
    expect(await dispatcher.retract(deployment, 'node-w|e1|s', ['node-w|e1|s|0|1'])).toBe(true);
    expect(await own.blmpop(0.01, 1, keys.inbox('node-w'), 'LEFT')).toBeNull();
    await expect(own.get(keys.inbox('another'))).rejects.toThrow('NOPERM');
  }
  expect(await dispatcher.reclaim('node-w')).toEqual([]);
  await revokeAccess(redis, 'node-w');
  await expect(own.get(cells.first.fast.alive('node-w'))).rejects.toThrow();
  own.disconnect();
});

test('events of every cell are accepted together, run, listed when dead, and run again', async () => {
  const before = cluster.sizes();
  const receipts = await Promise.all(
    names.flatMap((name) => [
      newEvent(name, { idempotencyKey: 'same' }).then((event) => events.acceptor.accept(event)),
      newEvent(name, { orderingKey: 'o' }).then((event) => events.acceptor.accept(event)),
    ]),
  );
  const ids = receipts.map(({ id }) => id);
  expect(new Set(ids.map((id) => cells.ofId(id).index)).size).toBe(COUNT);
  expect(cluster.sizes().every((size, i) => size > (before[i] as number))).toBe(true);
  const again = await events.acceptor.accept(await newEvent(names[0] as string, { idempotencyKey: 'same' }));
  expect(again).toMatchObject({ id: ids[0], isRepeat: true });
  expect(await events.store.countUnfinished()).toBe(2 * COUNT);
  expect((await events.store.getMany(ids)).map(({ id }) => id)).toEqual(ids);
  await waitFor('jobs', async () => (await events.queues.count()).waiting === 2 * COUNT);

  for (const id of ids)
    await run(id, { follows: 'dead', outcome: 'function_error', reason: 'not_retryable' });
  expect(await events.store.countDead()).toBe(2 * COUNT);
  // Newest first, over all cells.
  expect(await events.store.listDead(Infinity, 100)).toHaveLength(2 * COUNT);
  const [newest] = await events.store.listDead(Infinity, 1);
  expect(newest).toBe(ids.at(-1));
  for (const id of ids) {
    expect(await events.store.redrive(id, 60_000, undefined)).toMatchObject({ state: 'ready' });
    await run(id);
  }
  expect(await events.store.stats()).toMatchObject({ accepted: 2 * COUNT, succeeded: 2 * COUNT, dead: 0 });
});

test('one that follows events of other cells runs when all have ended', async () => {
  const group = await events.acceptor.acceptGroup(
    await newEvent(names[0] as string),
    await Promise.all(names.map((name) => newEvent(name))),
  );
  const members = group.events.map((event) => ('id' in event ? event.id : ''));
  const { id } = group.follower;
  expect(new Set(members.map((member) => cells.ofId(member).index)).size).toBe(COUNT);
  const pumps = cells.all.map(
    (cell) =>
      new Pump({
        store: new EventStore(redis, cell),
        queues: events.queues.each[cell.index] as (typeof events.queues.each)[number],
        payloads: events.payloads,
        others: events,
        log,
      }),
  );
  for (const pump of pumps) pump.open();
  try {
    for (const member of members.slice(1)) await run(member);
    await waitFor('the others', async () => (await events.store.get(id))?.waitsFor === 1);
    expect(await events.store.getState(id)).toBe('waiting');
    await run(members[0] as string);
    expect(await events.store.getState(id)).toBe('ready');
    await run(id);
    // Told twice, it is counted once.
    expect(await events.store.endMember(id, members[1] as string)).toEqual([]);
  } finally {
    await Promise.all(pumps.map((pump) => pump.close()));
  }
});

test('steps are stored in the cell of their invocation, and an event reaches those that wait in any', async () => {
  const waiting = await Promise.all(
    names.map(async (name) => {
      const { id } = await events.acceptor.accept(await newEvent(name));
      const held = await begin(id);
      const steps = new StepStore(redis, cells.ofId(id));
      await steps.put(held, { step: 'wait', kind: 'wait', event: 'go', ms: 60_000 }, 1e12);
      await storeOf(id).finishMany('c', 10_000, [createEnd(held, { follows: 'wait', outcome: 'suspended' })]);
      return id;
    }),
  );
  const { ids } = await events.steps.signal('go', { n: 1 });
  expect(ids.toSorted()).toEqual(waiting.toSorted());
  for (const id of waiting) {
    expect(await events.store.getState(id)).toBe('ready');
    await run(id);
    expect(await events.steps.list(id)).toMatchObject([{ name: 'wait', kind: 'wait', isPending: false }]);
  }
});

test('a key of a synchronous call stands for it in its function’s cell', async () => {
  const records = new IdempotencyRecords(redis);
  for (const name of names) {
    expect(await records.claim(`${name}/k`, 'f', 'inv-1', 1_000)).toEqual({ kind: 'new' });
    expect(await records.claim(`${name}/k`, 'f', 'inv-2', 1_000)).toEqual({ kind: 'running', id: 'inv-1' });
    expect(await redis.exists(cells.ofFunction(name).events.idempotency(`${name}/k`))).toBe(1);
    // What accept.lua would say to an event with this key.
    const scope = { scope: `${name}/k`, fingerprint: 'other' };
    expect(await records.claim(scope.scope, scope.fingerprint, 'inv-3', 1)).toMatchObject({
      kind: 'other_request',
    });
  }
});

test('schedules fire in the cell of their function, and move with it when it is another', async () => {
  const start = Date.parse('2026-05-01T00:00:00Z');
  let nowMs = start;
  const [first = '', second = ''] = names;
  const put = (name: string, target: string) =>
    events.schedules.put(
      name,
      ScheduleInput.parse({ function: target, cron: '* * * * *', overlap: 'allow' }),
      nowMs,
    );
  for (const [i, name] of names.entries()) await put(`s-${i}`, name);
  expect((await events.schedules.list()).map(({ name }) => name)).toEqual(names.map((_, i) => `s-${i}`));
  const schedulers = events.schedules.each.map(
    (store) => new Scheduler({ ...events, id: 'me', store, log, now: () => nowMs }),
  );
  const step = async () => {
    for (const scheduler of schedulers) if (await scheduler.lead()) await scheduler.step();
  };
  nowMs = start + 60_000;
  await step();
  for (let i = 0; i < COUNT; i++) {
    const { fired, lastInvocation = '' } = (await events.schedules.get(`s-${i}`)) ?? {};
    expect(fired).toBe(1);
    expect(cells.ofId(lastInvocation).index).toBe(i);
    expect((await events.store.get(lastInvocation))?.functionName).toBe(names[i]);
  }
  const old = await events.schedules.get('s-0');
  await put('s-0', second);
  const moved = await events.schedules.get('s-0');
  expect(moved).toMatchObject({
    version: (old?.version ?? 0) + 1,
    createdMs: old?.createdMs,
    function: second,
  });
  expect(await redis.hexists(cells.ofFunction(first).events.schedules, 's-0')).toBe(0);
  expect(await events.schedules.list()).toHaveLength(COUNT);
  nowMs = start + 120_000;
  await step();
  const { lastInvocation = '', fired } = (await events.schedules.get('s-0')) ?? {};
  expect(fired).toBe(1);
  expect((await events.store.get(lastInvocation))?.functionName).toBe(second);
  expect(await events.schedules.remove('s-0')).toBe(true);
  expect(await events.schedules.get('s-0')).toBeUndefined();
});

test('while a cell moves to another primary its scripts are refused as a whole, and go on there', async () => {
  const cell = cells.all[1] as Cell;
  const name = names[1] as string;
  const slot = hashSlot(cell.tag);
  const owner = await ownerOf(slot);
  const target = cluster.primaries.find((port) => port !== owner) as number;
  const unfinished = await redis.hget(cell.events.unfinished, name);
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push((await events.acceptor.accept(await newEvent(name))).id);
  const before = await events.store.stats();
  cluster.cli(target, 'cluster', 'setslot', String(slot), 'importing', cluster.idOf(owner));
  cluster.cli(owner, 'cluster', 'setslot', String(slot), 'migrating', cluster.idOf(target));
  // Half of it is there: what a script would find missing must not be taken for absent.
  const keys = cluster.cli(owner, 'cluster', 'getkeysinslot', String(slot), '1000').split('\n');
  const move = (some: readonly string[]) =>
    cluster.cli(owner, 'migrate', '127.0.0.1', String(target), '', '0', '5000', 'keys', ...some);
  const half = keys.filter((key, i) => i % 2 === 0 && key !== cell.events.epoch);
  move(half);
  const store = storeOf(ids[0] as string);
  const errors = await Promise.all([
    tryRun(() => store.begin('c', 10_000, 'job', ids)),
    tryRun(() => store.cancel(ids[0] as string)),
    tryRun(() => store.promote(100)),
    tryRun(async () => events.acceptor.accept(await newEvent(name))),
  ]);
  // Refused before they began, not stopped at the first key that had moved.
  for (const error of errors) expect(String(error?.cause ?? error)).toMatch(/TRYAGAIN|MOVED|timed out/);
  move(keys.filter((key) => !half.includes(key)));
  for (const port of [target, owner, ...cluster.primaries])
    cluster.cli(port, 'cluster', 'setslot', String(slot), 'node', cluster.idOf(target));
  expect(await ownerOf(slot)).toBe(target);
  // Nothing was written by halves: all that is unfinished can be run, and the counts add up.
  for (const id of ids) if ((await events.store.getState(id)) === 'ready') await run(id);
  const after = await events.store.stats();
  expect(after['succeeded']).toBe((before['succeeded'] ?? 0) + ids.length);
  expect(await redis.hget(cell.events.unfinished, name)).toBe(unfinished);
  expect(await redis.zcard(cell.events.leases)).toBe(0);
});

async function tryRun(act: () => Promise<unknown>): Promise<Error | undefined> {
  return act().then(
    () => undefined,
    (error: unknown) => error as Error,
  );
}

async function ownerOf(slot: number): Promise<number> {
  const slots = (await redis.call('CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
  return slots.find(([from, to]) => from <= slot && slot <= to)?.[2][1] as number;
}
