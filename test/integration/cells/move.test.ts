/** A store is moved to other cells: cut off and run again, given up, and refused where something would be lost. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openEvents } from '../../../gateway/events/open.ts';
import { Routes } from '../../../gateway/invoke/routes.ts';
import { Versions } from '../../../gateway/invoke/versions.ts';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { Cells } from '../../../infra/contract/cells.ts';
import { durable, eventKeys } from '../../../infra/contract/keys.ts';
import { abortMove, moveStore, MOVER } from '../../../infra/host/cells/move.ts';
import { createRouter } from '../../../infra/host/cells/routes.ts';
import { findForeignLayout } from '../../../infra/lib/layout.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import { createOwnedId } from '../../../sdk/protocol/ids.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';

const COUNT = 4;
const cells = new Cells(COUNT);
const names = cells.all.map((cell) => {
  for (let i = 0; ; i++) if (cells.ofFunction(`fn-${i}`).index === cell.index) return `fn-${i}`;
});
let servers: TestRedis[];
let folder: string;
let source: Redis;
let target: Redis;

beforeAll(async () => {
  servers = await Promise.all([startRedis({ persistent: true }), startRedis()]);
  folder = await mkdtemp(join(tmpdir(), 'skiff-move-'));
  [source, target] = servers.map(({ url }) => openRedis(url, { connectionName: MOVER })) as [Redis, Redis];
  await Promise.all([source.connect(), target.connect()]);
});
afterAll(async () => {
  source?.disconnect();
  target?.disconnect();
  await Promise.all((servers ?? []).map((server) => server.close()));
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  await Promise.all([source.flushall(), target.flushall()]);
});

async function open(url: string) {
  const redis = openRedis(url);
  await redis.connect();
  const catalog = openCatalog(redis);
  const routes = new Routes((name) => catalog.resolveRoute(name));
  const events = await openEvents({
    durableUrl: url,
    durability: 'fast',
    epochFile: join(folder, `epoch-${Math.random()}`),
    registry: openRegistry({ url: 'http://127.0.0.1:9' }),
    routes,
    versions: new Versions(catalog),
    log: pino({ level: 'silent' }),
  });
  const close = async (): Promise<void> => {
    await events.close();
    redis.disconnect();
  };
  return { catalog, routes, events, close };
}

/** Functions, and for each an event that waits; another waits for all of these. Returns their ids. */
async function fill(): Promise<{ ids: string[]; follower: string }> {
  const { catalog, routes, events, close } = await open((servers[0] as TestRedis).url);
  for (const name of names) {
    const deployment = { ...createDeployment(name), id: createOwnedId('dep', name) };
    await catalog.putDeployment(deployment);
    await catalog.setAlias(name, 'live', [{ deployment: deployment.id, weight: 100 }]);
  }
  const newEvent = async (name: string) => {
    const deployment = (await routes.get(name))?.targets[0]?.deployment;
    if (!deployment) throw new Error(`${name} is not deployed`);
    const head = { method: 'POST', url: 'http://x/', headers: [] };
    return {
      deployment,
      head,
      body: Buffer.from([0, 255, 10]),
      options: { orderingKey: 'o' },
      origin: 'http',
    };
  };
  const group = await events.acceptor.acceptGroup(
    await newEvent(names[0] as string),
    await Promise.all(names.map((name) => newEvent(name))),
  );
  await close();
  await waitUntilAlone();
  return { ids: group.events.map((event) => ('id' in event ? event.id : '')), follower: group.follower.id };
}

/** A connection that was closed is listed for a moment longer. */
async function waitUntilAlone(): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const lines = String(await source.call('CLIENT', 'LIST'))
      .trim()
      .split('\n');
    if (lines.every((line) => line.includes(`name=${MOVER}`))) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

const move = (note: (text: string) => void = () => {}) => moveStore({ source, target, cells: COUNT, note });
const cutOff = () =>
  move(() => {
    throw new Error('the power went');
  });

test('cut off, it is run again; all is in the cells of its functions, and both stores say who is in charge', async () => {
  const { ids, follower } = await fill();
  const before = await source.dbsize();
  await expect(cutOff()).rejects.toThrow('the power went');
  expect(await findForeignLayout(source)).toContain('half of a move');
  expect(await findForeignLayout(target)).toContain('half of a move');
  await target.set('{skiff}:left:over', 'of the first attempt');
  expect(await move()).toMatchObject({ invocations: COUNT + 1 });
  expect(await source.dbsize()).toBe(before + 2);
  expect(await findForeignLayout(source)).toContain('left by one');
  expect(await target.exists('{skiff}:left:over')).toBe(0);

  for (const [i, id] of ids.entries()) {
    const { events } = cells.all[i] as Cells['first'];
    expect(await target.hget(events.record(id), 'grp')).toBe(i === 0 ? follower : `@${follower}`);
    expect(await target.hgetBuffer(events.request(id), 'b')).toEqual(Buffer.from([0, 255, 10]));
    expect(Object.keys(await target.hgetall(events.unfinished))).toEqual([names[i]]);
    expect(Number(await target.hget(events.stats, 'bytes'))).toBeGreaterThan(0);
    expect(await target.zcard(events.expiry)).toBe(i === 0 ? 2 : 1);
  }
  // What holds it there opens it, and says that nothing is wrong.
  const opened = await open(`${(servers[1] as TestRedis).url}?cells=${COUNT}`);
  expect(opened.events.durability.problem).toBeUndefined();
  expect(await opened.events.store.countUnfinished()).toBe(COUNT + 1);
  expect(await opened.events.store.getState(follower)).toBe('waiting');
  await opened.close();
  expect(await move()).toBe('moved before');
});

test('given up, the source is what it was', async () => {
  await fill();
  const dump = async () => (await source.keys('*')).toSorted();
  const before = await dump();
  await expect(cutOff()).rejects.toThrow('the power went');
  await abortMove({ source, target, cells: COUNT });
  expect(await dump()).toEqual(before);
  expect(await findForeignLayout(source)).toBeUndefined();
  expect(await target.dbsize()).toBe(0);
  await expect(abortMove({ source, target, cells: COUNT })).rejects.toThrow('no move was begun');
  await move();
  await expect(abortMove({ source, target, cells: COUNT })).rejects.toThrow('the move is complete');
});

test('nothing is written where something would be lost', async () => {
  await expect(move()).rejects.toThrow('is empty');
  await fill();
  const untouched = async (text: string) => {
    await expect(move()).rejects.toThrow(text);
    expect(await source.exists(durable.cells, durable.moved)).toBe(0);
  };
  const user = openRedis((servers[0] as TestRedis).url);
  await user.connect();
  await untouched('used by 1 connections');
  user.disconnect();
  await waitUntilAlone();
  await target.set(durable.epoch, 'of another installation');
  await untouched('give an empty one');
  await target.flushall();
  await source.set('{skiff}:of-a-later-release:x', '1');
  await untouched('{skiff}:of-a-later-release:x');
  await source.del('{skiff}:of-a-later-release:x');
  await source.hset(eventKeys('{skiff}').record('inv-00000000000000000000000000'), {
    s: 'ready',
    fn: names[1],
  });
  await untouched('ids do not say their function');
});

test('each key has one place: with its function, with its id, in every cell, or in the first', () => {
  const router = createRouter(cells, () => names[2] as string);
  const id = createOwnedId('inv', names[3] as string);
  const place = (suffix: string) => {
    const route = router.route(suffix);
    return route?.kind === 'whole' ? route.cell.index : route?.kind;
  };
  expect(place(`:inv:${id}`)).toBe(3);
  expect(place(`:ev:room:${names[1]}`)).toBe(1);
  expect(place(`:ev:line:${names[1]}/abc`)).toBe(1);
  expect(place(':ev:schedule:nightly')).toBe(2);
  expect(place(`:fn:${names[3]}:aliases`)).toBe(0);
  expect(place(':bull:builds:meta')).toBe(0);
  expect(place(':bull:events-2:wait')).toBe('left');
  expect(place(`:idle:dep-1`)).toBe('left');
  expect(place(':ev:kept:paid:now')).toBe('everywhere');
  expect(place(':ev:unfinished')).toBe('split');
  expect(place(':ev:unheard-of')).toBeUndefined();
});
