/**
 * Fires the ticks of schedules. One process of all leads (a lease with a fence token); the others stand by, and one of
 * them goes on when the lease ends. Each tick is one atomic write (infra/schedules), so that neither two leaders nor a
 * death in between fires a tick twice or forgets it. It only has ordinary events accepted: running them, retries and
 * failures are those of any event.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SCHEDULE_LATE_MS, SCHEDULE_MISSED_MAX } from '../../../sdk/protocol/limits.ts';
import type { ShardQueues } from '../../../infra/events/shards.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';
import { nextInstant } from '../../../infra/schedules/instants.ts';
import {
  tickId,
  timingOf,
  type PlannedTick,
  type ScheduleDefinition,
  type ScheduleStore,
  type TickReply,
} from '../../../infra/schedules/store.ts';
import type { Acceptor, NewEvent } from '../accept/acceptor.ts';
import type { Routes } from '../../invoke/routes.ts';
import { chooseTarget } from '../../invoke/routes.ts';
import { createTickEvent } from './tick-event.ts';
import { planTicks } from './tick-plan.ts';

export interface SchedulerOptions {
  readonly id: string;
  readonly store: ScheduleStore;
  readonly acceptor: Acceptor;
  readonly queues: Pick<ShardQueues, 'add'>;
  readonly routes: Routes;
  readonly log: Log;
  /** Wall clock, epoch milliseconds. */
  readonly now?: () => number;
}

const LEASE_MS = 10_000;
const RENEW_MS = 3_000;
/** How soon a new schedule is noticed. */
const LOOK_MS = 500;
/** What is still due (its queue is full) is not tried at every turn. */
const AGAIN_MS = 20;
const BATCH = 100;

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #now: () => number;
  readonly #stopping = new AbortController();
  #fence: number | undefined;
  #renewedMs = -Infinity;
  #loop: Promise<void> | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  get isLeading(): boolean {
    return this.#fence !== undefined;
  }

  open(): void {
    this.#loop = this.#repeat();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #repeat(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let waitMs = LOOK_MS;
      try {
        if (await this.lead()) waitMs = await this.step();
      } catch (error) {
        if (!isServiceAway(error)) this.#options.log.error({ error }, 'schedules could not be looked at');
      }
      await delay(waitMs, undefined, { signal }).catch(() => {});
    }
  }

  /** Becomes or stays the scheduler; false when another process is. */
  async lead(): Promise<boolean> {
    const { store, id, log } = this.#options;
    if (this.#fence !== undefined && performance.now() - this.#renewedMs < RENEW_MS) return true;
    const fence = await store.lead(id, this.#fence, LEASE_MS);
    if (fence !== undefined && fence !== this.#fence) log.info({ fence }, 'this process fires schedules now');
    this.#fence = fence;
    this.#renewedMs = performance.now();
    return fence !== undefined;
  }

  /** Fires what is due now. Returns after how many milliseconds to come again. */
  async step(): Promise<number> {
    const { store, log } = this.#options;
    const nowMs = this.#now();
    const due = await store.listDue(nowMs, BATCH);
    for (const name of [...due, ...(await store.listPending())]) {
      await this.#serve(name, nowMs).catch((error: unknown) => {
        if (isServiceAway(error)) throw error;
        log.warn({ error, schedule: name }, 'a tick could not be fired yet');
      });
    }
    if (due.length === BATCH) return 0;
    const next = await store.nextDueMs();
    return next === undefined ? LOOK_MS : Math.min(LOOK_MS, Math.max(AGAIN_MS, next - this.#now()));
  }

  async #serve(name: string, nowMs: number): Promise<void> {
    const schedule = await this.#options.store.getDefinition(name);
    if (!schedule) return;
    if (schedule.pendingMs !== undefined) await this.#firePending(schedule, schedule.pendingMs);
    const timing = timingOf(schedule);
    const plan = planTicks(timing, schedule.input.missed, schedule.lastMs, nowMs, {
      lateMs: SCHEDULE_LATE_MS,
      countMax: SCHEDULE_MISSED_MAX,
    });
    for (const { plannedMs, isMissed, missedBefore } of plan) {
      const nextMs = nextInstant(timing, plannedMs);
      const reply = await this.#fire(schedule, { plannedMs, nextMs, isMissed, missedBefore });
      // Others fire it, or it changed under us: what is left to do is seen anew.
      if (reply.kind === 'stale' || reply.kind === 'fenced' || reply.kind === 'refused') return;
    }
  }

  async #fire(schedule: ScheduleDefinition, tick: PlannedTick): Promise<TickReply> {
    const { store, acceptor, log } = this.#options;
    const event = tick.isMissed ? undefined : await this.#createEvent(schedule, tick.plannedMs);
    if (!tick.isMissed && !event) {
      // Dealt with all the same: it would be due for ever.
      log.warn(
        { schedule: schedule.name, function: schedule.input.function },
        'a tick was missed: no such function',
      );
    }
    const prepared = event && (await acceptor.prepare(event));
    const epoch = prepared?.epoch ?? (await acceptor.assertDurable());
    const reply = await store.fire(this.#leader, schedule, tick, prepared?.acceptance, epoch);
    return this.#settle(schedule, reply);
  }

  async #firePending(schedule: ScheduleDefinition, plannedMs: number): Promise<void> {
    const event = await this.#createEvent(schedule, plannedMs);
    if (!event) return;
    const { acceptance, epoch } = await this.#options.acceptor.prepare(event);
    const reply = await this.#options.store.firePending(this.#leader, schedule, acceptance, epoch);
    await this.#settle(schedule, reply);
  }

  async #settle(schedule: ScheduleDefinition, reply: TickReply): Promise<TickReply> {
    const { queues, log } = this.#options;
    if (reply.kind === 'fenced') this.#fence = undefined;
    if (reply.kind === 'refused')
      log.warn({ schedule: schedule.name, why: reply.why }, 'a tick was not accepted yet');
    if (reply.kind === 'fired' && reply.jobs.length > 0) await queues.add(reply.jobs).catch(() => {});
    return reply;
  }

  get #leader(): string {
    return `${this.#options.id}|${this.#fence}`;
  }

  /** Undefined when its function is not there. */
  async #createEvent(schedule: ScheduleDefinition, plannedMs: number): Promise<NewEvent | undefined> {
    const route = await this.#options.routes.get(schedule.input.function);
    if (!route) return undefined;
    return createTickEvent(
      schedule,
      plannedMs,
      chooseTarget(route, Math.random()),
      tickId(schedule, plannedMs),
    );
  }
}
