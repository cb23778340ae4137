import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Redis } from 'ioredis';
import { fast } from '../../helpers/keys.ts';
import { Dispatcher, formatToken, parseToken, type Scaling } from '../../../infra/dispatch/dispatcher.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { QUEUE_DEPTH_MAX } from '../../../sdk/protocol/limits.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';

const scaling: Scaling = { deployment: 'dep-1', concurrency: 2, max: 3, min: 0 };
const unknown = { serviceMs: 0, coldMs: 10 };

describe('dispatch scripts', () => {
  let server: TestRedis;
  let redis: Redis;
  let dispatcher: Dispatcher;

  beforeAll(async () => {
    server = await startRedis();
    redis = openRedis(server.url);
    await redis.connect();
    dispatcher = new Dispatcher(redis);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.close();
  });
  beforeEach(async () => {
    await redis.flushall();
  });

  const startBy = (): number => Date.now() + 5_000;
  const token = (slot: number, runner = 'r1', epoch = 'e1'): string =>
    formatToken({ runner, epoch, sandbox: 's1', slot, generation: 0 });
  const live = (): Promise<unknown> => redis.set(fast.alive('r1'), 'e1');
  const send = (text: string, timing = { startByMs: startBy(), ...unknown }) =>
    dispatcher.dispatch(scaling, Buffer.from(text), timing);

  it('a token survives formatting and parsing', () => {
    const parts = { runner: 'node-1', epoch: 'abc', sandbox: 'sbx-1', slot: 7, generation: 3 };
    expect(parseToken(formatToken(parts))).toEqual(parts);
  });

  it('sends to the slot that became idle last', async () => {
    await live();
    await dispatcher.offer('dep-1', [token(0), token(1)]);
    expect(await send('one')).toEqual({ kind: 'sent', token: token(1) });
    const entry = await redis.lpopBuffer(fast.inbox('r1'));
    expect(entry?.toString()).toBe(`${token(1)}\none`);
  });

  it('calls of one turn go out together, each as if alone: to slots as far as there are any, the rest into the queue', async () => {
    await live();
    await dispatcher.offer('dep-1', [token(0), token(1)]);
    const results = await Promise.all(['one', 'two', 'three', 'four', 'five'].map((text) => send(text)));
    expect(results).toEqual([
      { kind: 'sent', token: token(1) },
      { kind: 'sent', token: token(0) },
      { kind: 'queued', waiting: 1, isStarting: true },
      { kind: 'queued', waiting: 2, isStarting: false },
      { kind: 'queued', waiting: 3, isStarting: true },
    ]);
    expect(await redis.lrange(fast.inbox('r1'), 0, '-1')).toEqual([`${token(1)}\none`, `${token(0)}\ntwo`]);
    const orders = (await redis.lrange(fast.demand, 0, '-1')).map((text) => JSON.parse(text) as unknown);
    expect(orders).toEqual([
      { id: expect.stringMatching(/^sbx-/), dep: 'dep-1' },
      { id: expect.stringMatching(/^sbx-/), dep: 'dep-1' },
    ]);
    expect(await redis.zcard(fast.starting('dep-1'))).toBe(2);
  });

  it('never sends to a runner that is dead or has another epoch', async () => {
    await redis.set(fast.alive('r1'), 'e2');
    await dispatcher.offer('dep-1', [token(0), token(1, 'gone')]);
    expect((await send('one')).kind).toBe('queued');
    expect(await redis.llen(fast.idle('dep-1'))).toBe(0);
    expect(await redis.llen(fast.inbox('r1'))).toBe(0);
  });

  it('leaves slots of runners that the caller cannot reach to others, in their order', async () => {
    await live();
    await redis.set(fast.alive('r2'), 'e1');
    const all = [token(0), token(0, 'r2'), token(1), token(1, 'r2')];
    await dispatcher.offer('dep-1', all);
    const sendWithout = (unreachable: string) =>
      dispatcher.dispatch(scaling, Buffer.from('x'), { startByMs: startBy(), ...unknown }, unreachable);
    expect(await sendWithout('|r2|')).toEqual({ kind: 'sent', token: token(1) });
    expect(await redis.lrange(fast.idle('dep-1'), 0, -1)).toEqual([token(0), token(0, 'r2'), token(1, 'r2')]);
    expect((await sendWithout('|r1|r2|')).kind).toBe('queued');
    expect(await redis.llen(fast.idle('dep-1'))).toBe(3);
    expect(await send('one')).toEqual({ kind: 'sent', token: token(1, 'r2') });
  });

  it('puts a call back that was taken and not started: it is next', async () => {
    await send('one');
    await send('two');
    const [first] = await dispatcher.offer('dep-1', [token(0)]);
    await dispatcher.requeue('dep-1', 'inv-1', startBy(), first as Buffer);
    expect((await dispatcher.offer('dep-1', [token(0)])).map(String)).toEqual(['one']);
  });

  it('says for which slot a waiting call was taken, until it is put back', async () => {
    await live();
    const calls = ['inv-1', 'inv-2', 'inv-3'].map((id) => ({ id, deployment: 'dep-1' }));
    const envelopes = calls.map(({ id }) => `{"v":1,"id":"${id}","gw":"g"} {"id":"of a caller's"}`);
    for (const envelope of envelopes) await send(envelope);
    expect(await dispatcher.findGiven(calls)).toEqual([undefined, undefined, undefined]);
    await dispatcher.offer('dep-1', [token(0)]);
    await dispatcher.offer('dep-1', [token(0, 'gone')]);
    expect(await dispatcher.findGiven(calls)).toEqual([
      { token: token(0), isAlive: true },
      { token: token(0, 'gone'), isAlive: false },
      undefined,
    ]);
    await dispatcher.requeue('dep-1', 'inv-1', startBy(), Buffer.from(envelopes[0] as string));
    expect((await dispatcher.findGiven(calls))[0]).toBeUndefined();
  });

  it('and also when a gateway that gives a slot back hands it on', async () => {
    await live();
    await dispatcher.offer('dep-1', [token(0)]);
    const tokens = await dispatcher.lease('dep-1', 1, 5_000);
    await send('{"id":"inv-1"}');
    await dispatcher.giveBack('dep-1', tokens);
    expect(await redis.llen(fast.inbox('r1'))).toBe(1);
    expect(await dispatcher.findGiven([{ id: 'inv-1', deployment: 'dep-1' }])).toEqual([
      { token: token(0), isAlive: true },
    ]);
  });

  it('a thousand first requests start as many sandboxes as their slots call for, up to the maximum', async () => {
    const wide = { ...scaling, concurrency: 16, max: 20 };
    const results = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        dispatcher.dispatch(wide, Buffer.from(`${i}`), { startByMs: startBy(), ...unknown }),
      ),
    );
    expect(results.filter((one) => one.kind === 'queued' && one.isStarting)).toHaveLength(
      Math.ceil(100 / 16),
    );
    expect(await redis.llen(fast.demand)).toBe(Math.ceil(100 / 16));
    for (let i = 0; i < 20; i++) await send(`${i}`);
    expect(await redis.zcard(fast.starting('dep-1'))).toBeLessThanOrEqual(Math.ceil(120 / 2));
  });

  it('starts no more sandboxes than the maximum', async () => {
    for (let i = 0; i < 50; i++) await send(`${i}`);
    expect(await redis.llen(fast.demand)).toBe(scaling.max);
  });

  it('waits for a busy slot when that is quicker than a cold start', async () => {
    await live();
    await dispatcher.offer('dep-1', [], { live: 'r1|e1|s1' });
    const result = await send('quick', { startByMs: startBy(), serviceMs: 1, coldMs: 100 });
    expect(result).toMatchObject({ kind: 'queued', isStarting: false });
    expect(await dispatcher.want(scaling)).toBe(true);
  });

  it('starts another sandbox when the busy ones are slow', async () => {
    await dispatcher.offer('dep-1', [], { live: 'r1|e1|s1' });
    const result = await send('slow', { startByMs: startBy(), serviceMs: 100, coldMs: 5 });
    expect(result).toMatchObject({ kind: 'queued', isStarting: true });
  });

  it('sandboxes of a dead runner do not count against the maximum of those who wait', async () => {
    for (const sandbox of ['s1', 's2', 's3'])
      await dispatcher.offer('dep-1', [], { live: `r1|e1|${sandbox}` });
    expect(await send('waits')).toMatchObject({ kind: 'queued', isStarting: false });
    expect(await dispatcher.want(scaling)).toBe(true);
  });

  it('an order that its runner stopped working on is void after a moment', async () => {
    await send('one');
    const [id] = await redis.zrange(fast.starting('dep-1'), 0, '-1');
    const order = { id: id as string, dep: 'dep-1' };
    expect(await dispatcher.holdOrder(order)).toBe(true);
    const until = Number(await redis.zscore(fast.starting('dep-1'), order.id)) - Date.now();
    expect(until).toBeLessThanOrEqual(3_000);
    await redis.del(fast.starting('dep-1'));
    expect(await dispatcher.holdOrder(order)).toBe(false);
  });

  it('refuses at once what could not start in time, once no sandbox can be added', async () => {
    await live();
    for (const sandbox of ['s1', 's2', 's3'])
      await dispatcher.offer('dep-1', [], { live: `r1|e1|${sandbox}` });
    const timing = { serviceMs: 1_000, coldMs: 10 };
    // Three sandboxes of two slots, a second for each call: six calls a second.
    const kinds: string[] = [];
    for (let i = 0; i < 20; i++)
      kinds.push((await send(`${i}`, { startByMs: Date.now() + 2_000, ...timing })).kind);
    expect(kinds.filter((kind) => kind === 'queued').length).toBeGreaterThanOrEqual(11);
    expect(kinds.filter((kind) => kind === 'queued').length).toBeLessThanOrEqual(12);
    expect(kinds.slice(13).every((kind) => kind === 'full')).toBe(true);
  });

  it('refuses when the queue is full', async () => {
    const pipeline = redis.pipeline();
    for (let i = 0; i < QUEUE_DEPTH_MAX; i++) pipeline.rpush(fast.wait('dep-1'), `${startBy()}\n${i}`);
    await pipeline.exec();
    expect(await send('one too many')).toEqual({ kind: 'full', waiting: QUEUE_DEPTH_MAX });
  });

  it('an offer leaves work of gateways out of reach where it is, for runners that reach them', async () => {
    await live();
    const of = (id: string, gw: string) => JSON.stringify({ id, gw, payload: '"gw":"g9"' });
    const sent = [of('one', 'g1'), of('two', 'g2'), of('three', 'g1'), of('four', 'g2')];
    for (const text of sent) await send(text);
    const taken = await dispatcher.offer('dep-1', [token(0), token(1), token(2)], { unreachable: '|g1|g9|' });
    expect(taken.map(String)).toEqual([sent[1], sent[3]]);
    expect(await redis.lrange(fast.idle('dep-1'), 0, '-1')).toEqual([token(2)]);
    expect((await dispatcher.offer('dep-1', [token(0), token(1)])).map(String)).toEqual([sent[0], sent[2]]);
  });

  it('an offer takes waiting work first, oldest first, and drops what has expired', async () => {
    await send('expired', { startByMs: Date.now() - 1, ...unknown });
    await send('first');
    await send('second');
    const taken = await dispatcher.offer('dep-1', [token(0), token(1), token(2)]);
    expect(taken.map(String)).toEqual(['first', 'second']);
    expect(await redis.lrange(fast.idle('dep-1'), 0, '-1')).toEqual([token(2)]);
  });

  it('a waiting envelope can be withdrawn once', async () => {
    const startByMs = startBy();
    await send('mine', { startByMs, ...unknown });
    expect(await dispatcher.withdraw('dep-1', startByMs, Buffer.from('mine'))).toBe(true);
    expect(await dispatcher.withdraw('dep-1', startByMs, Buffer.from('mine'))).toBe(false);
  });

  it('retracts all slots of a sandbox or none', async () => {
    await dispatcher.offer('dep-1', [token(0), token(1)], { live: 'r1|e1|s1' });
    expect(await dispatcher.retract('dep-1', 'r1|e1|s1', [token(0), token(1), token(2)])).toBe(false);
    expect(await redis.llen(fast.idle('dep-1'))).toBe(2);
    expect(await dispatcher.retract('dep-1', 'r1|e1|s1', [token(0), token(1)])).toBe(true);
    expect(await redis.zcard(fast.live('dep-1'))).toBe(0);
  });

  it('a lease takes slots out of the queue and a return puts them back', async () => {
    await live();
    await dispatcher.offer('dep-1', [token(0), token(1)]);
    expect(await dispatcher.lease('dep-1', 5, 1_000)).toEqual([token(1), token(0)]);
    expect((await send('nobody is idle')).kind).toBe('queued');
    await dispatcher.giveBack('dep-1', [token(1)]);
    const entry = await redis.lpopBuffer(fast.inbox('r1'));
    expect(entry?.toString()).toBe(`${token(1)}\nnobody is idle`);
  });

  it('nothing is lent or renewed while somebody waits', async () => {
    await live();
    await dispatcher.offer('dep-1', [token(0)]);
    const [leased] = await dispatcher.lease('dep-1', 1, 1_000);
    expect(await dispatcher.renew('dep-1', [leased as string], 1_000)).toEqual([true]);
    await send('waits');
    expect(await dispatcher.renew('dep-1', [leased as string], 1_000)).toEqual([false]);
    expect(await dispatcher.lease('dep-1', 1, 1_000)).toEqual([]);
  });

  it('a lease that ran out belongs to its runner again, and its gateway cannot give it back', async () => {
    await live();
    await dispatcher.offer('dep-1', [token(0)]);
    await dispatcher.lease('dep-1', 1, 0);
    await expect.poll(() => dispatcher.reclaim('r1')).toEqual([token(0)]);
    await dispatcher.giveBack('dep-1', [token(0)]);
    expect(await redis.llen(fast.idle('dep-1'))).toBe(0);
  });

  it('a failed start answers everybody who waits when nothing else is on its way', async () => {
    await send('one');
    const [order] = await redis.zrange(fast.starting('dep-1'), 0, '-1');
    const taken = await dispatcher.failStart('dep-1', order as string);
    expect(taken.map(String)).toEqual(['one']);
    expect(await redis.llen(fast.wait('dep-1'))).toBe(0);
  });
});
