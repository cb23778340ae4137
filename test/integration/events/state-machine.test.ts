/** Random orders of everything that can happen to invocations, on the real scripts, checked against the table of states. */
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { durable, events } from '../../helpers/keys.ts';
import { isLegal, type Transition } from '../../../infra/events/states.ts';
import { StepStore } from '../../../infra/events/steps.ts';
import type { AttemptEnd } from '../../../infra/events/wire.ts';
import type { ReleasedJob } from '../../../infra/events/shards.ts';
import type { InvocationState } from '../../../sdk/protocol/events.ts';
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

let test_: TestEventStore;
beforeAll(async () => {
  test_ = await openTestEventStore();
});
afterAll(() => test_?.close());

const step = fc.oneof(
  fc.record({
    kind: fc.constant('accept' as const),
    fn: fc.constantFrom('a', 'b', 'team.a', 'team.b'),
    key: fc.constantFrom(undefined, undefined, 'k', 'k'),
    delayMs: fc.constantFrom(0, 0, 1, 100_000),
    maxAgeMs: fc.constantFrom(1, 100_000, 100_000),
    window: fc.constantFrom(1, 3, 20),
  }),
  fc.record({
    kind: fc.constant('begin' as const),
    pick: fc.nat(),
    leaseMs: fc.constantFrom(1, 100_000, 100_000),
  }),
  fc.record({
    kind: fc.constant('finish' as const),
    pick: fc.nat(),
    follows: fc.constantFrom('succeeded', 'dead', 'retry', 'again', 'lost', 'wait', 'wait') as fc.Arbitrary<
      AttemptEnd['follows']
    >,
    delayMs: fc.constantFrom(0, 1, 100_000),
    takes: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('step' as const),
    pick: fc.nat(),
    step: fc.constantFrom('a', 'b'),
    does: fc.constantFrom('store', 'sleep', 'wait'),
    ms: fc.constantFrom(0, 1, 100_000),
  }),
  fc.record({ kind: fc.constantFrom('reap', 'promote', 'expire', 'sweep', 'wait', 'signal') }),
  fc.record({ kind: fc.constantFrom('cancel', 'redrive', 'purge'), pick: fc.nat() }),
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

class World {
  readonly states = new Map<string, InvocationState>();
  readonly fences = new Map<string, number>();
  readonly jobs: ReleasedJob[] = [];
  readonly begun: { id: string; fence: number }[] = [];
  /** Id and fence of ends that were written. */
  readonly ended = new Set<string>();
  readonly trail: string[] = [];

  pick<Item>(items: readonly Item[], at: number): Item | undefined {
    return items.length === 0 ? undefined : items[at % items.length];
  }

  async run(each: Step): Promise<void> {
    const { store } = test_;
    const ids = [...this.states.keys()];
    const add = (jobs: readonly ReleasedJob[]) => this.jobs.push(...jobs);
    switch (each.kind) {
      case 'accept': {
        const { fn, key, delayMs, maxAgeMs, window } = each as Extract<Step, { kind: 'accept' }>;
        const line = key && `${fn}/${key}`;
        const acceptance = createAcceptance({ functionName: fn, line, delayMs, maxAgeMs, window });
        const reply = await acceptOne(store, acceptance);
        if (reply.kind !== 'accepted') throw new Error(reply.kind);
        this.move(acceptance.id, 'none', reply.state);
        return void add(reply.jobs);
      }
      case 'begin': {
        const { pick, leaseMs } = each as Extract<Step, { kind: 'begin' }>;
        const job = this.pick(this.jobs, pick);
        if (!job) return;
        const { begun, jobs } = await store.begin(CONSUMER, leaseMs, job.jobId, job.ids);
        for (const one of begun) this.noteBegun(one);
        return void add(jobs);
      }
      case 'finish': {
        const { pick, follows, delayMs, takes } = each as Extract<Step, { kind: 'finish' }>;
        const held = this.pick(this.begun, pick);
        if (!held) return;
        const before = await store.getState(held.id);
        const outcome = follows === 'lost' ? 'lost' : 'ok';
        const end = createEnd(held, { follows, outcome, delayMs, takesNext: takes });
        const reply = await finishOne(store, end);
        const token = `${held.id} ${held.fence}`;
        const isOld = held.fence !== this.fences.get(held.id);
        if (isOld && !this.ended.has(token)) expect(reply.kind).toBe('fenced');
        if (reply.kind === 'written') this.ended.add(token);
        if (reply.kind === 'fenced') expect(await store.getState(held.id)).toBe(before);
        else {
          add(reply.jobs);
          if (reply.next) this.noteBegun(reply.next);
          // Sent again because the reply was lost: the same, and the same next one.
          const again = await finishOne(store, end);
          expect(again.kind === 'written' && again.next?.id).toBe(reply.next?.id);
        }
        return;
      }
      case 'step': {
        const { pick, step: name, does, ms } = each as Extract<Step, { kind: 'step' }>;
        const held = this.pick(this.begun, pick);
        if (!held) return;
        const isNewest = held.fence === this.fences.get(held.id);
        const isRunning = (await store.getState(held.id)) === 'running';
        const what =
          does === 'store'
            ? { kind: 'step' as const, value: name }
            : { kind: does as 'sleep' | 'wait', ms, ...(does === 'wait' ? { event: 'e' } : {}) };
        const reply = await new StepStore(test_.redis).put(held, { step: name, ...what }, 1e12);
        expect(reply !== undefined).toBe(isNewest && isRunning);
        return;
      }
      case 'signal': {
        const { ids, jobs } = await new StepStore(test_.redis).signal('e', {});
        for (const id of ids) expect(FINAL.has(this.states.get(id) ?? '')).toBe(false);
        return void add(jobs);
      }
      case 'cancel':
        return void add((await store.cancel(this.pick(ids, (each as { pick: number }).pick) ?? 'none')).jobs);
      case 'redrive': {
        const id = this.pick(ids, (each as { pick: number }).pick) ?? 'none';
        return void add((await store.redrive(id, 100_000, undefined)).jobs);
      }
      case 'purge': {
        const id = this.pick(ids, (each as { pick: number }).pick);
        if (id && (await store.purge([id])) === 1) {
          expect(['dead', 'expired']).toContain(this.states.get(id));
          this.states.delete(id);
        }
        return;
      }
      case 'reap':
        return void add((await store.reap(10)).jobs);
      case 'promote':
        return void add((await store.promote(10)).jobs);
      case 'expire':
        return void add((await store.expire(10)).jobs);
      case 'sweep':
        return void add((await store.sweep(0, 10, 'none:')).jobs);
      default:
        await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  noteBegun({ id, fence }: { readonly id: string; readonly fence: number }): void {
    if (this.begun.some((one) => one.id === id && one.fence === fence)) return;
    // Strictly: a token is never given twice.
    expect(fence, id).toBeGreaterThan(this.fences.get(id) ?? 0);
    this.fences.set(id, fence);
    this.begun.push({ id, fence });
  }

  move(id: string, from: Transition['from'], to: InvocationState): void {
    this.trail.push(`${id.slice(-4)} ${from} -> ${to}`);
    if (from !== to) expect(isLegal(from, to), `${from} -> ${to}\n${this.trail.join('\n')}`).toBe(true);
    this.states.set(id, to);
  }

  async check(): Promise<void> {
    for (const [id, before] of this.states) {
      const now = await test_.store.getState(id);
      if (now !== undefined && now !== before) this.move(id, before, now);
    }
  }
}

const FINAL = new Set(['succeeded', 'dead', 'expired', 'cancelled']);

/** What must hold of the keys at any moment. */
async function checkKeys(world: World): Promise<void> {
  const { redis, store } = test_;
  const unfinished = [...world.states].filter(([, state]) => !FINAL.has(state)).map(([id]) => id);
  expect((await redis.zrange(events.expiry, 0, '-1')).sort()).toEqual(unfinished.sort());
  const running = [...world.states].filter(([, state]) => state === 'running').map(([id]) => id);
  expect((await redis.zrange(events.leases, 0, '-1')).sort()).toEqual(running.sort());
  const waits = new Set<InvocationState>(['delayed', 'retry_wait', 'waiting']);
  const waiting = [...world.states].filter(([, state]) => waits.has(state));
  expect((await redis.zrange(events.due, 0, '-1')).sort()).toEqual(waiting.map(([id]) => id).sort());
  // A namespace's window is that of its functions together.
  for (const space of ['', 'team']) {
    const names = space === '' ? ['a', 'b'] : ['team.a', 'team.b'];
    const windows = await Promise.all(names.map((name) => redis.zrange(events.window(name), 0, '-1')));
    const taken = (await redis.zrange(events.space(space), 0, '-1')).sort();
    expect(taken).toEqual(windows.flat().sort());
    expect(taken.length).toBeLessThanOrEqual(3);
  }
  const counts = await redis.hvals(events.unfinished);
  expect(counts.reduce((sum, count) => sum + Number(count), 0)).toBe(unfinished.length);
  for (const key of await redis.keys(events.sleeping('*')))
    expect(unfinished).toContain(key.slice(events.sleeping('').length));
  for (const member of await redis.zrange(events.waiters('e'), 0, '-1'))
    expect(unfinished).toContain(member.split(' ')[0]);
  const stats = await store.stats();
  if (unfinished.length === 0) expect(stats['bytes'] ?? 0).toBe(0);
  const ended = ['succeeded', 'dead', 'expired', 'cancelled'].reduce(
    (sum, state) => sum + (stats[state] ?? 0),
    0,
  );
  expect(ended + unfinished.length).toBe(stats['accepted'] ?? 0);
  // Everything ready is somewhere: in the room, in BullMQ (as far as it was told), or behind its line's head.
  for (const [id, state] of world.states) {
    if (state !== 'ready') continue;
    const fn = (await redis.hget(events.record(id), 'fn')) as string;
    const key = await redis.hget(events.record(id), 'key');
    const isBehind = key !== null && (await redis.zrange(events.line(key), 0, '0'))[0] !== id;
    const isInRoom = (await redis.zscore(events.room(fn), id)) !== null;
    const isReleased = (await redis.zscore(events.window(fn), id)) !== null;
    expect(
      [isBehind, isInRoom, isReleased].filter(Boolean),
      `${id} in exactly one place ${JSON.stringify({ isBehind, isInRoom, isReleased })}\n${world.trail.join('\n')}`,
    ).toHaveLength(1);
  }
}

test(
  'states move along the table, tokens only grow, and every key says the same',
  { timeout: 60_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
        await test_.redis.flushall();
        await test_.redis.set(durable.epoch, EPOCH);
        await test_.store.limitNamespaces(3);
        const world = new World();
        for (const each of steps) {
          await world.run(each as Step);
          await world.check();
        }
        await checkKeys(world);
      }),
      { numRuns: 300 },
    );
  },
);

test(
  'whatever happened, an hour of the pump and a willing consumer end every invocation',
  { timeout: 60_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        await test_.redis.flushall();
        await test_.redis.set(durable.epoch, EPOCH);
        await test_.store.limitNamespaces(3);
        const world = new World();
        for (const each of steps) {
          await world.run(each as Step);
          await world.check();
        }
        const { store, redis } = test_;
        for (let round = 0; round < 200 && (await store.countUnfinished()) > 0; round++) {
          // The hour: everything that waits for a time is due, every lease has ended.
          for (const key of [events.due, events.leases]) {
            for (const id of await redis.zrange(key, 0, '-1')) await redis.zadd(key, 0, id);
          }
          const jobs = [
            await store.promote(100),
            await store.reap(100),
            await store.sweep(-1, 100, 'none:'),
          ].flatMap((each) => each.jobs);
          for (const job of jobs) {
            const { begun } = await store.begin(CONSUMER, 100_000, job.jobId, job.ids);
            for (const { id, fence } of begun) {
              await finishOne(store, createEnd({ id, fence }));
            }
          }
        }
        expect(await store.countUnfinished()).toBe(0);
      }),
      { numRuns: 60 },
    );
  },
);
