/** Durable steps on the real scripts: stored once under a fence token, suspended without a place, woken in time. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { events } from '../../helpers/keys.ts';
import { StepStore, type NewStep } from '../../../infra/events/steps.ts';
import type { Begun } from '../../../infra/events/wire.ts';
import {
  SIGNAL_KEPT_MS,
  SIGNALS_BYTES_KEPT,
  SIGNALS_KEPT,
  STEPS_BYTES_MAX,
  STEPS_MAX,
} from '../../../sdk/protocol/limits.ts';
import {
  acceptOne,
  CONSUMER,
  createAcceptance,
  createEnd,
  EPOCH,
  finishOne,
  openTestEventStore,
  type TestEventStore,
} from '../../helpers/event-store.ts';
import { waitFor } from '../../helpers/wait.ts';

let on: TestEventStore;
let steps: StepStore;
beforeAll(async () => {
  on = await openTestEventStore();
  steps = new StepStore(on.redis);
});
afterAll(() => on?.close());
beforeEach(async () => {
  const keys = (await on.redis.keys('*')).filter((key) => !key.endsWith(':epoch'));
  if (keys.length > 0) await on.redis.del(keys);
});

const put = (held: Begun, step: NewStep) => steps.put(held, step, 1e12);
const suspend = (held: Begun) =>
  finishOne(on.store, createEnd(held, { follows: 'wait', outcome: 'suspended' }));
const jobOf = async (id: string) => (await on.redis.hget(events.record(id), 'job')) ?? '';

async function begin(fields: Parameters<typeof createAcceptance>[0] = {}): Promise<Begun> {
  const acceptance = createAcceptance(fields);
  await acceptOne(on.store, acceptance);
  return again(acceptance.id);
}

async function again(id: string): Promise<Begun> {
  const { begun } = await on.store.begin(CONSUMER, 60_000, await jobOf(id), [id]);
  expect(begun).toHaveLength(1);
  return begun[0] as Begun;
}

/** Until a sleep that is over has been noticed. */
async function untilReady(id: string): Promise<void> {
  await waitFor(`${id} to be ready`, async () => {
    await on.store.promote(100);
    return (await on.store.getState(id)) === 'ready';
  });
}

test('a result is stored once; a later attempt reads it, an older one can neither read nor write', async () => {
  const first = await begin();
  expect(await put(first, { step: 'a', kind: 'step', value: { n: 1 } })).toMatchObject({
    kind: 'stored',
    stored: { kind: 'step', value: { n: 1 } },
  });
  expect(await put(first, { step: 'a', kind: 'step', value: { n: 2 } })).toMatchObject({
    stored: { value: { n: 1 } },
  });
  await finishOne(on.store, createEnd(first, { follows: 'retry', outcome: 'function_error', counts: true }));
  await untilReady(first.id);
  const second = await again(first.id);
  expect(second).toMatchObject({ number: 2, fence: 2 });
  expect(await steps.load(second)).toEqual(new Map([['a', { kind: 'step', value: { n: 1 } }]]));
  expect(await steps.load(first)).toBeUndefined();
  expect(await put(first, { step: 'b', kind: 'step', value: 1 })).toBeUndefined();
});

test('undefined, null and texts come back as they were', async () => {
  const held = await begin();
  for (const [step, value] of [
    ['nothing', undefined],
    ['null', null],
    ['text', 'ä"\\\n'],
  ] as const)
    await put(held, { step, kind: 'step', value });
  const stored = await steps.load(held);
  expect(stored?.get('nothing')).toEqual({ kind: 'step' });
  expect(stored?.get('null')).toEqual({ kind: 'step', value: null });
  expect(stored?.get('text')).toEqual({ kind: 'step', value: 'ä"\\\n' });
});

test('a sleeping invocation holds no place, keeps its attempt and does not age', async () => {
  const held = await begin({ window: 1, maxAgeMs: 300 });
  const other = createAcceptance({ window: 1 });
  await acceptOne(on.store, other);
  const beganMs = Date.now();
  await put(held, { step: 'sleep', kind: 'sleep', ms: 700 });
  const { expiresMs = 0 } = (await on.store.get(held.id)) ?? {};
  expect(await suspend(held)).toMatchObject({ kind: 'written', state: 'waiting' });
  // Until here it was awake, and aged.
  const awakeMs = Date.now() - beganMs + 1;
  expect(await jobOf(other.id)).not.toBe('');
  expect(await on.store.get(held.id)).toMatchObject({
    state: 'waiting',
    attempts: [],
    suspensions: 1,
    steps: 1,
  });
  // Its maximum age passes while it sleeps.
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(await on.store.expire(100)).toMatchObject({ count: 0 });
  await finishOne(on.store, createEnd(await again(other.id)));
  await untilReady(held.id);
  const record = await on.store.get(held.id);
  expect(record?.expiresMs).toBeGreaterThanOrEqual(expiresMs + 700 - awakeMs);
  const next = await again(held.id);
  expect(next).toMatchObject({ number: 1, fence: 2 });
  expect(await steps.load(next)).toEqual(new Map([['sleep', { kind: 'sleep' }]]));
});

test('the end of a suspension whose reply was lost is written once', async () => {
  const held = await begin();
  await put(held, { step: 's', kind: 'sleep', ms: 60_000 });
  await suspend(held);
  expect(await suspend(held)).toMatchObject({ kind: 'written', state: 'waiting' });
  expect(await on.store.get(held.id)).toMatchObject({ suspensions: 1 });
});

test('an event goes to those that wait for it with matching data, and to no others', async () => {
  const wait = (match?: Record<string, unknown>): NewStep => ({
    step: 'wait for paid',
    kind: 'wait',
    event: 'paid',
    ms: 60_000,
    match,
  });
  const held = await Promise.all([begin(), begin(), begin(), begin()]);
  const [seven, eight, any, deep] = held as [Begun, Begun, Begun, Begun];
  await put(seven, wait({ order: 7 }));
  await put(eight, wait({ order: 8 }));
  await put(any, wait());
  await put(deep, wait({ by: { name: 'Ada' }, order: 7 }));
  for (const each of held) await suspend(each);
  expect((await steps.signal('other', {})).ids).toEqual([]);
  const data = { order: 7, by: { name: 'Ada', age: 36 }, note: null };
  const { ids } = await steps.signal('paid', data);
  expect(ids.toSorted()).toEqual([seven.id, any.id, deep.id].toSorted());
  expect(await on.store.getState(eight.id)).toBe('waiting');
  expect((await steps.load(await again(seven.id)))?.get('wait for paid')).toEqual({
    kind: 'wait',
    value: data,
  });
  // It is given once.
  expect((await steps.signal('paid', data)).ids).toEqual([]);
});

test('an event that comes while the function still runs wakes it when it is suspended', async () => {
  const held = await begin();
  await put(held, { step: 'w', kind: 'wait', event: 'go', ms: 60_000 });
  expect((await steps.signal('go', 1)).ids).toEqual([held.id]);
  await suspend(held);
  await untilReady(held.id);
  expect((await steps.load(await again(held.id)))?.get('w')).toEqual({ kind: 'wait', value: 1 });
});

test('an event that was sent before the wait began is given to it, once to each invocation, the oldest first', async () => {
  const [held, other] = await Promise.all([begin(), begin()]);
  expect((await steps.signal('early', { order: 7, n: 1 })).ids).toEqual([]);
  await steps.signal('early', { order: 8, n: 2 });
  await steps.signal('early', { order: 7, n: 3 });
  const wait = (each: Begun, step: string, order: number) =>
    put(each, { step, kind: 'wait', event: 'early', ms: 60_000, match: { order } });
  const given = (n: number, order: number) => ({
    kind: 'stored',
    stored: { kind: 'wait', value: { order, n } },
  });
  expect(await wait(held, 'a', 7)).toEqual(given(1, 7));
  expect(await wait(held, 'b', 7)).toEqual(given(3, 7));
  expect(await wait(held, 'c', 8)).toEqual(given(2, 8));
  // What is stored stays so, and what was given is not given again.
  expect(await wait(held, 'a', 7)).toEqual(given(1, 7));
  expect(await wait(held, 'd', 7)).toEqual({ kind: 'stored', stored: { kind: 'wait', isPending: true } });
  expect(await wait(other, 'a', 7)).toEqual(given(1, 7));
  // One that came while it waited is not given to its next wait.
  expect((await steps.signal('early', { order: 7, n: 4 })).ids).toEqual([held.id]);
  expect(await wait(held, 'e', 7)).toMatchObject({ stored: { isPending: true } });
  expect(await wait(other, 'b', 7)).toEqual(given(3, 7));
  expect(await wait(other, 'c', 7)).toEqual(given(4, 7));
});

test('events are kept for a bounded time, in a bounded number and size, and not for later invocations', async () => {
  const early = await begin();
  await steps.signal('old', 1);
  await waitFor(
    'the next millisecond',
    async () => Date.now() > ((await on.store.get(early.id))?.acceptedMs ?? Infinity) + 2,
  );
  const late = await begin();
  const wait = (each: Begun, event: string, step = event) =>
    put(each, { step, kind: 'wait', event, ms: 60_000 });
  expect(await wait(late, 'old')).toMatchObject({ stored: { isPending: true } });
  expect(await on.redis.pttl(events.kept('old'))).toBeGreaterThan(SIGNAL_KEPT_MS - 60_000);
  // Older than they are kept, but of a name that is still in use.
  await on.redis.zadd(
    events.kept('old'),
    Date.now() - SIGNAL_KEPT_MS - 1,
    (await on.redis.zrange(events.kept('old'), 0, '0'))[0] as string,
  );
  await on.redis.hset(events.record(early.id), 'acc', 0);
  expect(await wait(early, 'old')).toMatchObject({ stored: { isPending: true } });
  await Promise.all(Array.from({ length: SIGNALS_KEPT + 5 }, (_, i) => steps.signal('many', i)));
  expect(await on.redis.zcard(events.kept('many'))).toBe(SIGNALS_KEPT);
  const large = 'x'.repeat(SIGNALS_BYTES_KEPT / 4);
  for (let i = 0; i < 6; i++) await steps.signal('large', `${i}${large}`);
  expect(await on.redis.zcard(events.kept('large'))).toBe(3);
  expect(Number(await on.redis.get(events.keptBytes('large')))).toBe(3 * (large.length + 3));
  // No room in the store: whoever waits gets it, and that is all.
  await steps.signal('unkept', 1, false);
  expect(await on.redis.exists(events.kept('unkept'))).toBe(0);
});

test('an event that does not come in time is undefined, for good', async () => {
  const held = await begin();
  await put(held, { step: 'w', kind: 'wait', event: 'late', ms: 1 });
  await suspend(held);
  await untilReady(held.id);
  expect((await steps.load(await again(held.id)))?.get('w')).toEqual({ kind: 'wait' });
  expect((await steps.signal('late', 1)).ids).toEqual([]);
});

test('more waiters than one script call looks at are all found', async () => {
  const held = await Promise.all(Array.from({ length: 256 }, () => begin({ window: 256 })));
  await Promise.all(
    held.map((each, i) =>
      put(each, { step: 'w', kind: 'wait', event: 'many', ms: 60_000, match: { even: i % 2 === 0 } }),
    ),
  );
  expect((await steps.signal('many', { even: true })).ids).toHaveLength(128);
  expect((await steps.signal('many', { even: false })).ids).toHaveLength(128);
});

test('cancelled, it waits for nothing any more; replayed, it goes on after its last step', async () => {
  const held = await begin();
  await put(held, { step: 'w', kind: 'wait', event: 'never', ms: 60_000 });
  await suspend(held);
  expect(await on.store.cancel(held.id)).toMatchObject({ isChanged: true });
  expect((await steps.signal('never', 1)).ids).toEqual([]);
  expect(await on.redis.keys('*sleeping*')).toEqual([]);

  const dead = await begin();
  await put(dead, { step: 'a', kind: 'step', value: 1 });
  await finishOne(on.store, createEnd(dead, { follows: 'dead', outcome: 'rejected', reason: 'rejected' }));
  await on.store.redrive(dead.id, 60_000, undefined);
  expect((await steps.load(await again(dead.id)))?.get('a')).toEqual({ kind: 'step', value: 1 });
  expect(await on.redis.ttl(events.steps(dead.id))).toBe(-1);
});

test('steps are limited in number and bytes, and count as bytes of unfinished events', async () => {
  const held = await begin();
  const half = 'x'.repeat(STEPS_BYTES_MAX / 2);
  expect(await put(held, { step: 'big', kind: 'step', value: half })).toMatchObject({ kind: 'stored' });
  expect(await put(held, { step: 'bigger', kind: 'step', value: half })).toMatchObject({
    kind: 'full',
    what: 'bytes',
    limit: STEPS_BYTES_MAX,
  });
  expect(await steps.put(held, { step: 'c', kind: 'step', value: half.slice(0, 999) }, 1_000)).toMatchObject({
    what: 'memory',
  });
  await on.redis.hset(events.record(held.id), 'stn', STEPS_MAX);
  expect(await put(held, { step: 'd', kind: 'step' })).toMatchObject({ what: 'count', limit: STEPS_MAX });
  expect(Number(await on.redis.hget(events.stats, 'bytes'))).toBeGreaterThan(STEPS_BYTES_MAX / 2);
  await on.store.cancel(held.id);
  expect(Number(await on.redis.hget(events.stats, 'bytes'))).toBe(0);
});

test('what follows a group runs when all of it has ended, however it ended, and is accepted with it or not at all', async () => {
  const then = createAcceptance({ functionName: 'then', waitsForGroup: true, maxAgeMs: 50 });
  const members = Array.from({ length: 3 }, () => createAcceptance({ group: then.id }));
  const alone = createAcceptance({ group: 'inv-unknown' });
  const written = await on.store.acceptMany([then, ...members, alone], EPOCH);
  expect(written?.replies.map(({ kind }) => kind)).toEqual([
    'accepted',
    'accepted',
    'accepted',
    'accepted',
    'alone',
  ]);
  expect(await on.store.get(then.id)).toMatchObject({ state: 'waiting', waitsFor: 3 });
  const [first, second, third] = await Promise.all(members.map(({ id }) => again(id)));
  await finishOne(on.store, createEnd(first as Begun));
  await finishOne(
    on.store,
    createEnd(second as Begun, { follows: 'dead', outcome: 'rejected', reason: 'rejected' }),
  );
  // It does not age while it waits.
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect((await on.store.expire(100)).count).toBe(0);
  // A replay is counted once.
  const replayed = await on.store.redrive(second?.id ?? '', 60_000, undefined);
  await finishOne(on.store, createEnd(await again(second?.id ?? '')));
  expect(replayed.isChanged).toBe(true);
  expect(await on.store.get(then.id)).toMatchObject({ state: 'waiting', waitsFor: 1 });
  const { jobs } = await on.store.cancel(third?.id ?? '');
  expect(jobs.flatMap(({ ids }) => ids)).toEqual([then.id]);
  expect(await again(then.id)).toMatchObject({ number: 1 });
});

test('a group of which nothing was accepted is followed at once', async () => {
  const then = createAcceptance({ functionName: 'then', waitsForGroup: true });
  const refused = createAcceptance({ group: then.id, countMax: 0 });
  const written = await on.store.acceptMany([then, refused], EPOCH);
  expect(written?.replies.map(({ kind }) => kind)).toEqual(['accepted', 'full']);
  expect(await on.store.getState(then.id)).toBe('ready');
});
