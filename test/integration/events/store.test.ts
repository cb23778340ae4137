import { afterEach, beforeEach, expect, test } from 'vitest';
import { events } from '../../helpers/keys.ts';
import type { Begun } from '../../../infra/events/wire.ts';
import type { ReleasedJob } from '../../../infra/events/shards.ts';
import {
  acceptOne,
  CONSUMER,
  createAcceptance,
  createEnd,
  finishOne,
  openTestEventStore,
  type TestEventStore,
} from '../../helpers/event-store.ts';
import { waitFor } from '../../helpers/wait.ts';

let events_: TestEventStore;
beforeEach(async () => {
  events_ = await openTestEventStore();
});
afterEach(() => events_.close());

async function accept(fields: Parameters<typeof createAcceptance>[0] = {}) {
  const acceptance = createAcceptance(fields);
  const reply = await acceptOne(events_.store, acceptance);
  if (reply.kind !== 'accepted') throw new Error(`not accepted: ${reply.kind}`);
  return { id: acceptance.id, jobs: reply.jobs, state: reply.state };
}

async function begin(jobs: readonly ReleasedJob[], leaseMs = 10_000): Promise<Begun[]> {
  const begun: Begun[] = [];
  for (const job of jobs)
    begun.push(...(await events_.store.begin(CONSUMER, leaseMs, job.jobId, job.ids)).begun);
  return begun;
}

const end = createEnd;

/** Jobs of what waited for its time, as soon as that has come. */
const whenDue = (): Promise<ReleasedJob[]> =>
  waitFor('what is due', async () => {
    const { jobs } = await events_.store.promote(10);
    return jobs.length > 0 && jobs;
  });

const stateOf = (id: string) => events_.store.getState(id);

test('an accepted invocation is ready, released into the queue, and has its request', async () => {
  const { id, jobs, state } = await accept();
  expect(state).toBe('ready');
  expect(jobs).toEqual([{ shard: expect.any(Number), jobId: `${id}-1`, ids: [id] }]);
  expect(await events_.store.get(id)).toMatchObject({
    id,
    functionName: 'hello',
    state: 'ready',
    attempts: [],
    method: 'POST',
    bodyBytes: 4,
    priority: 'normal',
    hasResult: false,
  });
});

test('nothing is accepted in a store with another epoch', async () => {
  const acceptance = createAcceptance();
  expect(await acceptOne(events_.store, acceptance, 'another')).toMatchObject({ kind: 'foreign_store' });
  expect(await events_.store.get(acceptance.id)).toBeUndefined();
});

test('accepting the same id twice is one invocation', async () => {
  const acceptance = createAcceptance();
  await acceptOne(events_.store, acceptance);
  expect(await acceptOne(events_.store, acceptance)).toMatchObject({ kind: 'known', id: acceptance.id });
  expect(await events_.store.countUnfinished()).toBe(1);
});

test('an idempotency key stands for one request', async () => {
  const idempotency = { scope: 'hello/k', fingerprint: 'a' };
  const { id } = await accept({ idempotency });
  expect(await acceptOne(events_.store, createAcceptance({ idempotency }))).toMatchObject({
    kind: 'known',
    id,
  });
  const other = createAcceptance({ idempotency: { ...idempotency, fingerprint: 'b' } });
  expect(await acceptOne(events_.store, other)).toMatchObject({ kind: 'other_request', id });
});

test('an idempotency record gets its time to live when its invocation ends, not before', async () => {
  const { jobs } = await accept({ idempotency: { scope: 'hello/k', fingerprint: 'a' } });
  expect(await events_.redis.pttl(events.idempotency('hello/k'))).toBe(-1);
  const [begun] = await begin(jobs);
  await finishOne(events_.store, end(begun as Begun));
  expect(await events_.redis.pttl(events.idempotency('hello/k'))).toBeGreaterThan(80_000_000);
});

test('a succeeded invocation keeps its result, its attempts and nothing in any queue', async () => {
  const { id, jobs } = await accept();
  const [begun] = await begin(jobs);
  expect(begun?.fence).toBe(1);
  expect(begun?.body.toString()).toBe('body');
  const head = { status: 200, headers: [['x-a', 'b']] as const, bytes: 2 };
  const reply = await finishOne(
    events_.store,
    end(begun as Begun, { result: { head, body: Buffer.from('ok') } }),
  );
  expect(reply).toEqual({ kind: 'written', state: 'succeeded', jobs: [] });
  expect(await events_.store.get(id)).toMatchObject({
    state: 'succeeded',
    hasResult: true,
    attempts: [{ number: 1, fence: 1, outcome: 'ok', status: 200 }],
  });
  expect(await events_.store.getResult(id)).toMatchObject({ head: { status: 200 }, body: Buffer.from('ok') });
  for (const key of [events.due, events.leases, events.expiry, events.unfinished, events.rooms]) {
    expect(await events_.redis.exists(key), key).toBe(0);
  }
  expect(await events_.redis.exists(events.window('hello'), events.room('hello'))).toBe(0);
  expect(await events_.store.stats()).toMatchObject({ accepted: 1, succeeded: 1, bytes: 0 });
});

test('the same end is written once, however often it is sent', async () => {
  const { jobs } = await accept();
  const [begun] = (await begin(jobs)) as [Begun];
  await finishOne(events_.store, end(begun));
  expect(await finishOne(events_.store, end(begun))).toEqual({
    kind: 'written',
    state: 'succeeded',
    jobs: [],
  });
  expect(await events_.store.stats()).toMatchObject({ succeeded: 1 });
});

test('an old fence token cannot write an end', async () => {
  const { id, jobs } = await accept();
  const [old] = (await begin(jobs, 1)) as [Begun];
  await waitFor('the lease to end', async () => (await events_.store.reap(10)).count === 1);
  expect(await stateOf(id)).toBe('retry_wait');
  const [newer] = (await begin(await whenDue())) as [Begun];
  expect(newer.fence).toBe(old.fence + 1);
  expect(await finishOne(events_.store, end(old))).toMatchObject({ kind: 'fenced', state: 'running' });
  await finishOne(events_.store, end(newer, { follows: 'dead', outcome: 'rejected', reason: 'rejected' }));
  expect(await finishOne(events_.store, end(old))).toMatchObject({ kind: 'fenced', state: 'dead' });
  expect(await events_.store.get(id)).toMatchObject({
    state: 'dead',
    lost: 1,
    attempts: [{ outcome: 'lost' }, { outcome: 'rejected' }],
  });
});

test('renewing keeps the lease and says what is not held any more', async () => {
  const { id, jobs } = await accept();
  const [begun] = (await begin(jobs, 50)) as [Begun];
  expect(await events_.store.renew(10_000, [begun])).toEqual([]);
  await new Promise((resolve) => setTimeout(resolve, 80));
  expect((await events_.store.reap(10)).count).toBe(0);
  await events_.store.cancel(id);
  expect(await events_.store.renew(10_000, [begun])).toEqual([id]);
});

test('a retry waits for its time and then runs with a new token', async () => {
  const { id, jobs } = await accept();
  const [begun] = (await begin(jobs)) as [Begun];
  const failed = { follows: 'retry', outcome: 'function_error', counts: true, delayMs: 60 } as const;
  expect(await finishOne(events_.store, end(begun, failed))).toMatchObject({ state: 'retry_wait' });
  const early = await events_.store.promote(10);
  expect(early).toMatchObject({ count: 0, jobs: [] });
  expect(early.nextMs).toBeLessThanOrEqual(60);
  const due = await waitFor('the retry', async () => {
    const promoted = await events_.store.promote(10);
    return promoted.count === 1 && promoted.jobs;
  });
  const [second] = (await begin(due)) as [Begun];
  expect(second).toMatchObject({ id, fence: 2 });
  expect(await events_.store.get(id)).toMatchObject({ counted: 1 });
});

test('three lost attempts make an invocation poison', async () => {
  const { id, jobs } = await accept();
  let next = jobs;
  for (let i = 1; i <= 3; i++) {
    const [begun] = (await begin(next)) as [Begun];
    const reply = await finishOne(events_.store, end(begun, { follows: 'lost', outcome: 'lost' }));
    expect(reply).toMatchObject({ state: i < 3 ? 'retry_wait' : 'dead' });
    if (i < 3) next = await whenDue();
  }
  expect(await events_.store.get(id)).toMatchObject({ state: 'dead', reason: 'poison_suspect', lost: 3 });
});

test('an invocation under which two runners died is dead at once', async () => {
  const { id, jobs } = await accept();
  const [first] = (await begin(jobs)) as [Begun];
  await finishOne(events_.store, end(first, { follows: 'lost', outcome: 'lost', died: 'node-1|e1' }));
  // Not before a node that is only cut off has been given up: it would get the repeat as well.
  const { count, nextMs } = await events_.store.promote(10);
  expect(count).toBe(0);
  expect(nextMs).toBeGreaterThan(2_500);
  const [second] = (await begin(await whenDue())) as [Begun];
  const last = await finishOne(
    events_.store,
    end(second, { follows: 'lost', outcome: 'lost', died: 'node-1|e2' }),
  );
  expect(last).toMatchObject({ state: 'dead' });
  expect(await events_.store.get(id)).toMatchObject({ reason: 'poison_suspect', lost: 2 });
});

test('past its maximum age an invocation expires and is never begun', async () => {
  const { id, jobs } = await accept({ maxAgeMs: 1 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await begin(jobs)).toEqual([]);
  expect(await events_.store.get(id)).toMatchObject({ state: 'expired', reason: 'max_age', attempts: [] });
  const delayed = await accept({ maxAgeMs: 1, delayMs: 60_000 });
  expect(delayed.state).toBe('delayed');
  await waitFor('the pump', async () => (await events_.store.expire(10)).count === 1);
  expect(await stateOf(delayed.id)).toBe('expired');
  expect(await events_.store.countDead()).toBe(2);
});

test('cancelling ends what waits, fences what runs and leaves alone what has ended', async () => {
  const waiting = await accept();
  expect(await events_.store.cancel(waiting.id)).toMatchObject({ isChanged: true, state: 'cancelled' });
  expect(await begin(waiting.jobs)).toEqual([]);
  const running = await accept();
  const [begun] = (await begin(running.jobs)) as [Begun];
  await events_.store.cancel(running.id);
  expect(await finishOne(events_.store, end(begun))).toMatchObject({ kind: 'fenced', state: 'cancelled' });
  expect(await events_.store.cancel(running.id)).toMatchObject({ isChanged: false, state: 'cancelled' });
  expect(await events_.store.cancel('inv-none')).toMatchObject({ state: undefined });
});

test('a replay is a new series with the same id and the old attempts', async () => {
  const { id, jobs } = await accept();
  const [begun] = (await begin(jobs)) as [Begun];
  await finishOne(events_.store, end(begun, { follows: 'dead', outcome: 'function_error', counts: true }));
  const replayed = await events_.store.redrive(id, 60_000, undefined);
  expect(replayed).toMatchObject({ isChanged: true, state: 'ready' });
  expect(await events_.store.countDead()).toBe(0);
  const [again] = (await begin(replayed.jobs)) as [Begun];
  await finishOne(events_.store, end(again));
  expect(await events_.store.get(id)).toMatchObject({
    state: 'succeeded',
    counted: 0,
    replays: 1,
    attempts: [{ outcome: 'function_error' }, { outcome: 'ok' }],
  });
  expect(await events_.store.redrive(id, 60_000, undefined)).toMatchObject({
    isChanged: false,
    state: 'succeeded',
  });
});

test('purging removes dead invocations and nothing else', async () => {
  const dead = await accept();
  const [begun] = (await begin(dead.jobs)) as [Begun];
  await finishOne(events_.store, end(begun, { follows: 'dead', outcome: 'rejected', counts: true }));
  const waiting = await accept();
  expect(await events_.store.purge([dead.id, waiting.id, 'inv-none'])).toBe(1);
  expect(await events_.store.get(dead.id)).toBeUndefined();
  expect(await stateOf(waiting.id)).toBe('ready');
});

test('a function has no more than its window in the queue, and the rest in order of priority and age', async () => {
  const first = await accept({ window: 1 });
  const low = await accept({ window: 1, priority: 2 });
  const normal = await accept({ window: 1 });
  const high = await accept({ window: 1, priority: 0 });
  expect([low.jobs, normal.jobs, high.jobs]).toEqual([[], [], []]);
  const order: string[] = [];
  for (let jobs = first.jobs; jobs.length > 0;) {
    const [begun] = (await begin(jobs)) as [Begun];
    order.push(begun.id);
    const reply = await finishOne(events_.store, end(begun));
    jobs = reply.jobs;
  }
  expect(order).toEqual([first.id, high.id, normal.id, low.id]);
});

test('a backlog of one function does not stand in front of another function', async () => {
  for (let i = 0; i < 50; i++) await accept({ functionName: 'busy', window: 4 });
  const other = await accept({ functionName: 'quiet', window: 4 });
  expect(other.jobs).toHaveLength(1);
  expect(await events_.redis.zcard(events.window('busy'))).toBe(4);
});

test('a namespace with many functions and a flood does not stand in front of another, and serves its own in turn', async () => {
  await events_.store.limitNamespaces(8);
  const jobs: ReleasedJob[] = [];
  const names = Array.from({ length: 20 }, (_, i) => `flood.f${String(i).padStart(2, '0')}`);
  // The first of them alone could fill the window.
  for (const functionName of names)
    for (let i = 0; i < 10; i++) jobs.push(...(await accept({ functionName, window: 16 })).jobs);
  expect(jobs.flatMap(({ ids }) => ids)).toHaveLength(8);
  expect(await events_.redis.zcard(events.space('flood'))).toBe(8);
  const quiet = await accept({ functionName: 'quiet.f', window: 16 });
  expect(quiet.jobs).toHaveLength(1);
  expect((await accept({ functionName: 'operators', window: 16 })).jobs).toHaveLength(1);
  // Ends make room for each of its functions before one has a second turn, also when the consumer would go on with its own.
  const begun = await begin(jobs);
  const served: string[] = [];
  for (let i = 0; i < 40; i++) {
    const reply = await finishOne(events_.store, end(begun.shift() as Begun, { takesNext: true }));
    const next = reply.kind === 'written' && reply.next ? [reply.next] : await begin(reply.jobs);
    expect(next).toHaveLength(1);
    served.push(...next.map(({ functionName }) => functionName));
    begun.push(...next);
    expect(await events_.redis.zcard(events.space('flood'))).toBe(8);
  }
  const inTurn = [...served].sort();
  expect(inTurn.filter((name, i) => name !== inTurn[i - 1])).toEqual(names);
  expect(new Set(served.slice(0, 20)).size).toBe(20);
  // To the last one, and nothing is left of it.
  while (begun.length > 0) {
    const reply = await finishOne(events_.store, end(begun.shift() as Begun));
    begun.push(...(await begin(reply.jobs)));
  }
  expect(await events_.redis.zcard(events.expiry)).toBe(2);
  expect(await events_.redis.exists(events.space('flood'), events.held('flood'))).toBe(0);
});

test('invocations with one ordering key go one at a time in the order accepted, also over retries', async () => {
  const line = 'hello/key';
  const a = await accept({ line });
  const b = await accept({ line });
  const free = await accept();
  expect(b.jobs).toEqual([]);
  expect(free.jobs).toHaveLength(1);
  const [begun] = (await begin(a.jobs)) as [Begun];
  await finishOne(
    events_.store,
    end(begun, { follows: 'retry', outcome: 'function_error', counts: true, delayMs: 0 }),
  );
  const [promoted] = (await waitFor('the retry', async () => {
    const { jobs } = await events_.store.promote(10);
    return jobs.length > 0 && jobs;
  })) as [ReleasedJob];
  expect(promoted.ids).toEqual([a.id]);
  const [again] = (await begin([promoted])) as [Begun];
  const reply = await finishOne(events_.store, end(again));
  expect(reply).toMatchObject({ jobs: [{ ids: [b.id] }] });
});

test('a rate lets so many start a second and the others a little later', async () => {
  const accepted = [];
  for (let i = 0; i < 12; i++) accepted.push(await accept({ rate: 10 }));
  const started = accepted.flatMap(({ jobs }) => jobs.flatMap(({ ids }) => ids));
  expect(started.length).toBeGreaterThanOrEqual(10);
  expect(started.length).toBeLessThan(12);
  const rest = await waitFor('the rest', async () => {
    const { jobs } = await events_.store.promote(10);
    started.push(...jobs.flatMap(({ ids }) => ids));
    return started.length === 12 && started;
  });
  expect(new Set(rest).size).toBe(12);
});

test('limits of count and bytes refuse before anything is written', async () => {
  await accept({ countMax: 1 });
  const second = createAcceptance({ countMax: 1 });
  expect(await acceptOne(events_.store, second)).toMatchObject({ kind: 'full', what: 'count', count: 1 });
  const third = createAcceptance({ functionName: 'other', bytesMax: 600 });
  expect(await acceptOne(events_.store, third)).toMatchObject({ kind: 'full', what: 'bytes' });
  expect(await events_.store.get(third.id)).toBeUndefined();
});

test('a released invocation whose job was never added gets another job', async () => {
  const { id, jobs } = await accept();
  expect((await events_.store.sweep(60_000, 10, 'no-such-queue:')).count).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  const swept = await events_.store.sweep(0, 10, 'no-such-queue:');
  expect(swept).toMatchObject({ count: 1, jobs: [{ ids: [id] }] });
  // The first job, should it turn up after all, begins nothing.
  expect(await begin(jobs)).toEqual([]);
  expect(await begin(swept.jobs)).toHaveLength(1);
});

test('a backlog is released in jobs of several invocations', async () => {
  const jobs: ReleasedJob[] = [];
  const first = await accept({ window: 1 });
  for (let i = 0; i < 39; i++) await accept({ window: 1 });
  const [begun] = (await begin(first.jobs)) as [Begun];
  await accept({ window: 40 });
  const reply = await finishOne(events_.store, end(begun));
  jobs.push(...reply.jobs);
  expect(jobs.length).toBeLessThan(10);
  expect((await begin(jobs)).length).toBeGreaterThanOrEqual(1);
});
