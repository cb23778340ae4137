/** Ticks of schedules by a clock of the test's own, on a real Redis. */
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Scheduler } from '../../../gateway/events/schedule/scheduler.ts';
import { durable, events } from '../../helpers/keys.ts';
import { tickId, type PlannedTick } from '../../../infra/schedules/store.ts';
import { ScheduleInput, type ScheduleRequest } from '../../../sdk/protocol/workflow/schedules.ts';
import { openTestEventParts, type TestEventParts } from '../../helpers/event-parts.ts';

const START = Date.parse('2026-05-01T00:00:00Z');
const MINUTE = 60_000;
let parts: TestEventParts;
let nowMs: number;

beforeEach(async () => {
  parts = await openTestEventParts();
  await parts.deploy('hello');
  nowMs = START;
});
afterEach(() => parts.close());

function createScheduler(id: string, now = () => nowMs): Scheduler {
  return new Scheduler({ ...parts, id, store: parts.schedules, log: pino({ level: 'silent' }), now });
}

/** Leads and fires once, as a scheduler that has just been started. */
async function step(scheduler: Scheduler): Promise<void> {
  await scheduler.lead();
  await scheduler.step();
}

async function put(request: Partial<ScheduleRequest>, name = 'tick'): Promise<void> {
  await parts.schedules.put(name, ScheduleInput.parse({ function: 'hello', ...request }), nowMs);
}

/** Planned instants that were fired, in minutes from the start, in order. */
async function fired(name = 'tick'): Promise<number[]> {
  const ids = await parts.redis.zrange(events.expiry, 0, '-1');
  const planned = await Promise.all(
    ids.map(async (id) => {
      const request = await parts.store.getRequest(id);
      const headers = new Map(request?.head.headers ?? []);
      return headers.get('skiff-schedule') === name
        ? Date.parse(headers.get('skiff-scheduled-for') ?? '')
        : NaN;
    }),
  );
  return planned
    .filter((at) => !Number.isNaN(at))
    .sort((a, b) => a - b)
    .map((at) => (at - START) / MINUTE);
}

async function endAll(): Promise<void> {
  for (const id of await parts.redis.zrange(events.expiry, 0, '-1')) await parts.store.cancel(id);
}

test('every tick becomes one ordinary event with its planned time', async () => {
  await put({ cron: '* * * * *', overlap: 'allow', body: { a: 1 } });
  const scheduler = createScheduler('a');
  for (let i = 0; i < 5; i++) {
    nowMs += MINUTE;
    await step(scheduler);
    await step(scheduler);
  }
  expect(await fired()).toEqual([1, 2, 3, 4, 5]);
  const schedule = await parts.schedules.get('tick');
  expect(schedule).toMatchObject({
    fired: 5,
    skipped: 0,
    missedCount: 0,
    lastMs: nowMs,
    nextMs: nowMs + MINUTE,
  });
  const record = await parts.store.get(schedule?.lastInvocation ?? '');
  expect(record).toMatchObject({ functionName: 'hello', origin: 'schedule:tick', method: 'POST' });
});

test('two schedulers that are both alive fire each tick once', async () => {
  await put({ every: '1m', overlap: 'allow' });
  const schedulers = [createScheduler('a'), createScheduler('b')];
  for (let i = 0; i < 20; i++) {
    nowMs += MINUTE;
    await Promise.all(schedulers.map(step));
  }
  expect(await fired()).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  expect(schedulers.filter(({ isLeading }) => isLeading)).toHaveLength(1);
});

test('a scheduler whose lease was taken over fires nothing more', async () => {
  await put({ every: '1m', overlap: 'allow' });
  const old = createScheduler('old');
  await step(old);
  await parts.redis.del(events.scheduler);
  const next = createScheduler('next');
  await step(next);
  nowMs += MINUTE;
  // It was paused: by its own clock its lease is fresh.
  await old.step();
  expect(await fired()).toEqual([]);
  await next.step();
  expect(await fired()).toEqual([1]);
});

test('a death between planning and writing leaves the tick to the next scheduler', async () => {
  await put({ every: '1m', overlap: 'allow' });
  nowMs += MINUTE;
  const definition = await parts.schedules.getDefinition('tick');
  // The write reached Redis, its reply nobody: the next one finds it done.
  const dead = createScheduler('dead');
  await step(dead);
  await parts.redis.del(events.scheduler);
  await parts.redis.zadd(events.nextTicks, nowMs, 'tick');
  await step(createScheduler('heir'));
  expect(await fired()).toEqual([1]);
  expect(await parts.store.getState(tickId(definition as NonNullable<typeof definition>, nowMs))).toBe(
    'ready',
  );
});

test('the same tick written twice by one scheduler is stale the second time', async () => {
  await put({ every: '1m', overlap: 'allow' });
  const definition = (await parts.schedules.getDefinition('tick')) as NonNullable<
    Awaited<ReturnType<typeof parts.schedules.getDefinition>>
  >;
  const fence = await parts.schedules.lead('me', undefined, 10_000);
  const epoch = (await parts.redis.get(durable.epoch)) as string;
  const tick: PlannedTick = { plannedMs: START + MINUTE, nextMs: undefined, isMissed: true, missedBefore: 0 };
  const fire = () => parts.schedules.fire(`me|${fence}`, definition, tick, undefined, epoch);
  expect(await fire()).toEqual({ kind: 'missed' });
  expect(await fire()).toEqual({ kind: 'stale' });
});

test('overlap skip leaves a tick out while the one before it has not ended', async () => {
  await put({ every: '1m' });
  const scheduler = createScheduler('a');
  for (let i = 0; i < 3; i++) {
    nowMs += MINUTE;
    await step(scheduler);
  }
  expect(await fired()).toEqual([1]);
  await endAll();
  nowMs += MINUTE;
  await step(scheduler);
  expect(await fired()).toEqual([4]);
  expect(await parts.schedules.get('tick')).toMatchObject({ fired: 2, skipped: 2 });
});

test('overlap queue-one runs once after the one before it, for the newest tick that waits', async () => {
  await put({ every: '1m', overlap: 'queue-one' });
  const scheduler = createScheduler('a');
  for (let i = 0; i < 4; i++) {
    nowMs += MINUTE;
    await step(scheduler);
  }
  expect(await fired()).toEqual([1]);
  await endAll();
  await step(scheduler);
  await step(scheduler);
  expect(await fired()).toEqual([4]);
  expect(await parts.schedules.get('tick')).toMatchObject({ fired: 2, skipped: 2 });
});

test.each([
  ['skip', [], 10],
  ['latest', [10], 9],
  ['all', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0],
] as const)('after a downtime of ten ticks policy %s fires %j', async (missed, expected, missedCount) => {
  await put({ every: '1m', overlap: 'allow', missed });
  nowMs += 10 * MINUTE + 45_000;
  await step(createScheduler('a'));
  expect(await fired()).toEqual(expected);
  expect(await parts.schedules.get('tick')).toMatchObject({ missedCount, nextMs: START + 11 * MINUTE });
});

test('the wall clock may go back an hour or forward a year: no tick fires twice, none without a word', async () => {
  await put({ cron: '* * * * *', overlap: 'allow', missed: 'latest' });
  const scheduler = createScheduler('a');
  nowMs += 2 * MINUTE;
  await step(scheduler);
  nowMs -= 60 * MINUTE;
  for (let i = 0; i < 61; i++) {
    nowMs += MINUTE;
    await step(scheduler);
  }
  const before = await fired();
  expect(new Set(before).size).toBe(before.length);
  expect(before.at(-1)).toBe(3);
  nowMs += 365 * 24 * 60 * MINUTE;
  await step(scheduler);
  const after = await fired();
  expect(after.length).toBe(before.length + 1);
  expect((await parts.schedules.get('tick'))?.missedCount).toBeGreaterThan(1_000);
});

test('an edit is a new version: ticks of the old one that are being fired are refused', async () => {
  await put({ every: '1m', overlap: 'allow' });
  const old = (await parts.schedules.getDefinition('tick')) as NonNullable<
    Awaited<ReturnType<typeof parts.schedules.getDefinition>>
  >;
  const fence = await parts.schedules.lead('me', undefined, 10_000);
  nowMs += 30_000;
  await put({ every: '2m', overlap: 'allow' });
  const epoch = (await parts.redis.get(durable.epoch)) as string;
  const tick = { plannedMs: START + MINUTE, nextMs: START + 2 * MINUTE, isMissed: false, missedBefore: 0 };
  expect(await parts.schedules.fire(`me|${fence}`, old, tick, undefined, epoch)).toEqual({ kind: 'stale' });
  expect(await parts.schedules.get('tick')).toMatchObject({ version: 2, fired: 0 });
});

test('a paused schedule fires nothing and makes up for nothing when it goes on', async () => {
  await put({ every: '1m', paused: true, overlap: 'allow', missed: 'all' });
  const scheduler = createScheduler('a');
  nowMs += 5 * MINUTE;
  await step(scheduler);
  await put({ every: '1m', overlap: 'allow', missed: 'all' });
  await step(scheduler);
  nowMs += MINUTE;
  await step(scheduler);
  expect(await fired()).toEqual([6]);
});

test('a single run fires once and is over', async () => {
  await put({ at: new Date(START + MINUTE).toISOString() });
  const scheduler = createScheduler('a');
  for (let i = 0; i < 3; i++) {
    nowMs += MINUTE;
    await step(scheduler);
  }
  expect(await fired()).toEqual([1]);
  expect((await parts.schedules.get('tick'))?.nextMs).toBeUndefined();
});

test('jitter puts a tick off by the same part each time it is computed', async () => {
  await put({ every: '1m', jitter: '30s', overlap: 'allow' });
  nowMs += MINUTE;
  await step(createScheduler('a'));
  const [id] = await parts.redis.zrange(events.due, 0, '-1');
  expect(id).toBeDefined();
  const record = await parts.store.get(id as string);
  expect((record?.dueMs ?? 0) - (record?.acceptedMs ?? 0)).toBeLessThanOrEqual(30_000);
});

test('a tick whose function was removed is counted as missed and does not stand in the way', async () => {
  await put({ every: '1m', overlap: 'allow' });
  await parts.catalog.removeFunction('hello');
  parts.routes.dropAll();
  nowMs += MINUTE;
  await step(createScheduler('a'));
  expect(await parts.schedules.get('tick')).toMatchObject({ missedCount: 1, nextMs: nowMs + MINUTE });
});
