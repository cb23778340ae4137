import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { type Catalog, openCatalog } from '../../../infra/catalog/catalog.ts';
import { durable } from '../../helpers/keys.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import type { BuildEvent, BuildRecord } from '../../../sdk/protocol/api.ts';
import { BUILD_LOG_LINES_KEPT } from '../../../sdk/protocol/limits.ts';
import { type TestRedis, startRedis } from '../../helpers/redis.ts';

let server: TestRedis;
let redis: Redis;
let catalog: Catalog;

beforeAll(async () => {
  server = await startRedis({ persistent: true });
  redis = openRedis(server.url);
  await redis.connect();
  catalog = openCatalog(redis);
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.close();
});

const build: BuildRecord = { id: 'bld-1', functionName: 'hello', state: 'queued', createdMs: 1 };
const done: BuildRecord = { ...build, state: 'succeeded', endedMs: 9 };
const line = (message: string): BuildEvent => ({ type: 'log', atMs: 1, level: 'info', message });
const end: BuildEvent = { type: 'end', atMs: 2, build: done };

async function collect(signal = AbortSignal.timeout(10_000), quietMs = 1_000): Promise<BuildEvent[]> {
  const events: BuildEvent[] = [];
  for await (const event of catalog.followBuildEvents('bld-1', { signal, quietMs })) events.push(event);
  return events;
}

it('never overwrites a build that has ended', async () => {
  expect(await catalog.putBuild(build)).toBe(true);
  expect(await catalog.putBuild({ ...build, state: 'cancelled', endedMs: 2 })).toBe(true);
  expect(await catalog.putBuild({ ...build, state: 'running' })).toBe(false);
  expect((await catalog.getBuild('bld-1'))?.state).toBe('cancelled');
});

it('lets records and events expire', async () => {
  await catalog.putBuild(build);
  await catalog.appendBuildEvent('bld-1', line('a'));
  expect(await redis.pttl(durable.build('bld-1'))).toBeGreaterThan(0);
  expect(await redis.pttl(durable.buildEvents('bld-1'))).toBeGreaterThan(0);
});

it('shows a follower events as they come and ends with the last', async () => {
  await catalog.putBuild(build);
  await catalog.appendBuildEvent('bld-1', line('early'));
  const following = collect();
  await catalog.appendBuildEvent('bld-1', line('late'));
  await catalog.appendBuildEvent('bld-1', end);
  expect(await following).toEqual([line('early'), line('late'), end]);
});

it('shows a late follower everything', async () => {
  await catalog.appendBuildEvent('bld-1', line('early'));
  await catalog.appendBuildEvent('bld-1', end);
  expect(await collect()).toEqual([line('early'), end]);
});

it('ends the stream of a build whose last event was lost', async () => {
  await catalog.putBuild(done);
  await catalog.appendBuildEvent('bld-1', line('early'));
  expect(await collect(AbortSignal.timeout(10_000), 100)).toEqual([
    line('early'),
    { type: 'end', atMs: 9, build: done },
  ]);
});

it('keeps following over a restart of Redis', async () => {
  await catalog.putBuild(build);
  await catalog.appendBuildEvent('bld-1', line('before'));
  const following = collect();
  await server.stop();
  await server.start();
  await expect
    .poll(() =>
      catalog.appendBuildEvent('bld-1', end).then(
        () => 'written',
        () => 'not yet',
      ),
    )
    .toBe('written');
  expect(await following).toEqual([line('before'), end]);
});

it('caps the events of one build', async () => {
  for (let i = 0; i < BUILD_LOG_LINES_KEPT + 500; i++)
    void catalog.appendBuildEvent('bld-1', line(String(i)));
  await catalog.appendBuildEvent('bld-1', end);
  const length = await redis.xlen(durable.buildEvents('bld-1'));
  expect(length).toBeGreaterThanOrEqual(BUILD_LOG_LINES_KEPT);
  expect(length).toBeLessThan(BUILD_LOG_LINES_KEPT + 200);
});

it('closes the follower’s connection when its signal fires', async () => {
  await catalog.putBuild(build);
  const before = await redis.client('LIST');
  const abort = new AbortController();
  const following = collect(abort.signal);
  await expect.poll(() => clients()).toBe(count(before) + 1);
  abort.abort();
  expect(await following).toEqual([]);
  await expect.poll(() => clients()).toBe(count(before));
});

const count = (list: unknown) => String(list).trim().split('\n').length;
const clients = async () => count(await redis.client('LIST'));
