/** What several gateways remember of calls, put together over a real Redis server. */
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CallHistory, type CallMemory } from '../../../gateway/swarm/call-history.ts';
import { CallPeers } from '../../../gateway/swarm/call-peers.ts';
import { fast as keys } from '../../helpers/keys.ts';
import { openBlockingRedis, openRedis } from '../../../infra/lib/redis.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';

let server: TestRedis;
const connections: Redis[] = [];
beforeAll(async () => {
  server = await startRedis();
});
afterAll(async () => {
  for (const one of connections) one.disconnect();
  await server.close();
});

async function openPeer(id: string): Promise<{ peers: CallPeers; history: CallHistory }> {
  const [redis, subscriber] = [openRedis(server.url), openBlockingRedis(server.url)];
  connections.push(redis, subscriber);
  await Promise.all([redis.connect(), subscriber.connect()]);
  const history = new CallHistory();
  const peers = new CallPeers({ id, history, redis, subscriber });
  await peers.open();
  return { peers, history };
}

let clock = 0;
const call = (id: string, changes: Partial<CallMemory> = {}): CallMemory => ({
  id,
  parent: undefined,
  functionName: 'hello',
  deployment: 'dep-1',
  runner: 'node-1',
  cause: undefined,
  detail: undefined,
  timing: undefined,
  isLeased: false,
  dispatches: 1,
  status: 200,
  receivedMs: ++clock,
  ms: 1,
  ...changes,
});

test('a call and all that was called in its course is found from every gateway, wherever each of them was', async () => {
  const [a, b, c] = await Promise.all([openPeer('gw-a'), openPeer('gw-b'), openPeer('gw-c')]);
  a.history.add(call('inv-1'));
  b.history.add(call('inv-2', { parent: 'inv-1' }));
  a.history.add(call('inv-3', { parent: 'inv-2' }));
  c.history.add(call('inv-4', { parent: 'inv-3' }));
  c.history.add(call('inv-9'));
  for (const { peers } of [a, b, c]) {
    const ids = (await peers.findFamily('inv-1')).map(({ id }) => id);
    expect(ids).toEqual(['inv-1', 'inv-2', 'inv-3', 'inv-4']);
  }
  expect(await a.peers.findFamily('inv-7')).toEqual([]);
});

test('the last calls of one function come from all of them, and only those that were asked for', async () => {
  const [a, b] = await Promise.all([openPeer('gw-d'), openPeer('gw-e')]);
  a.history.add(call('inv-11', { functionName: 'busy' }));
  b.history.add(call('inv-12', { functionName: 'busy', status: 500 }));
  const ids = async (question: object) =>
    (await a.peers.ask({ function: 'busy', limit: 10, ...question })).map(({ id }) => id).toSorted();
  expect(await ids({})).toEqual(['inv-11', 'inv-12']);
  expect(await ids({ only: 'failed' })).toEqual(['inv-12']);
});

test('one that never answers costs a moment, and what the others know is not lost', async () => {
  const a = await openPeer('gw-f');
  a.history.add(call('inv-21'));
  const deaf = openBlockingRedis(server.url);
  connections.push(deaf);
  await deaf.subscribe(keys.callQuestions);
  expect((await a.peers.findFamily('inv-21')).map(({ id }) => id)).toEqual(['inv-21']);
});
