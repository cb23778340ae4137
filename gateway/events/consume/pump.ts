/**
 * What must happen by itself: due events become ready, ends of leases and ages are noticed, jobs that a crash forgot are
 * added, what has had its time is removed; each in one cell. Invariant: every duty is one atomic script that any number of pumps may run
 * at once; nothing is lost when one dies in the middle.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DEAD_KEPT_MS } from '../../../sdk/protocol/limits.ts';
import type { Payloads } from '../../../infra/events/payloads.ts';
import type { ReleasedJob, ShardQueues } from '../../../infra/events/shards.ts';
import type { EventRecords } from '../../../infra/events/cells/event-cells.ts';
import type { EventStore } from '../../../infra/events/store.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';

export interface PumpOptions {
  readonly store: EventStore;
  readonly queues: ShardQueues;
  readonly payloads: Payloads;
  /** Of all cells, when there are several: for groups whose members are here and whose follower is elsewhere. */
  readonly others?: {
    readonly store: Pick<EventRecords, 'endMember'>;
    readonly queues: Pick<ShardQueues, 'add'>;
  };
  readonly log: Log;
  /** How long a released invocation may be without a job before it gets one. */
  readonly sweepAfterMs?: number;
}

interface Duty {
  readonly name: string;
  readonly everyMs: number;
  /** Returns after how long to come again, if that is sooner than `everyMs`. */
  readonly run: () => Promise<number | void>;
}

const BATCH = 200;
const SWEEP_AFTER_MS = 5_000;
const AWAY_MS = 500;

export class Pump {
  readonly #options: PumpOptions;
  readonly #stopping = new AbortController();
  #loops: Promise<void>[] = [];

  constructor(options: PumpOptions) {
    this.#options = options;
  }

  open(): void {
    this.#loops = this.#duties().map((duty) => this.#repeat(duty));
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#loops);
  }

  #duties(): Duty[] {
    const { store, queues, payloads, others, sweepAfterMs = SWEEP_AFTER_MS } = this.#options;
    return [
      ...(others ? [{ name: 'groups', everyMs: 200, run: () => this.#tellGroups(others) }] : []),
      { name: 'promote', everyMs: 100, run: () => this.#promote() },
      { name: 'reap', everyMs: 500, run: () => this.#drain(() => store.reap(BATCH), 'attempts lost') },
      { name: 'expire', everyMs: 1_000, run: () => this.#drain(() => store.expire(BATCH)) },
      {
        name: 'sweep',
        everyMs: 1_000,
        run: () =>
          this.#drain(() => store.sweep(sweepAfterMs, BATCH, queues.jobKeyPrefix), 'jobs added again'),
      },
      {
        name: 'trim',
        everyMs: 60_000,
        run: async () => {
          await store.trimDead(Date.now() - DEAD_KEPT_MS);
          await payloads.sweep(BATCH);
        },
      },
    ];
  }

  async #promote(): Promise<number | void> {
    const { count, nextMs, jobs } = await this.#options.store.promote(BATCH);
    await this.#add(jobs);
    return count === BATCH ? 0 : nextMs;
  }

  async #tellGroups({ store, queues }: NonNullable<PumpOptions['others']>): Promise<number | void> {
    const ends = await this.#options.store.listGroupEnds(BATCH);
    const jobs = await Promise.all(ends.map(({ id, member }) => store.endMember(id, member)));
    await this.#options.store.dropGroupEnds(ends);
    await queues.add(jobs.flat());
    return ends.length === BATCH ? 0 : undefined;
  }

  async #drain(
    step: () => Promise<{ count: number; jobs: ReleasedJob[] }>,
    what?: string,
  ): Promise<number | void> {
    const { count, jobs } = await step();
    await this.#add(jobs);
    if (count > 0 && what !== undefined) this.#options.log.warn({ count }, what);
    return count >= BATCH ? 0 : undefined;
  }

  async #add(jobs: readonly ReleasedJob[]): Promise<void> {
    if (jobs.length > 0) await this.#options.queues.add(jobs);
  }

  async #repeat({ name, everyMs, run }: Duty): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let waitMs = everyMs;
      try {
        waitMs = Math.min(everyMs, (await run()) ?? everyMs);
      } catch (error) {
        if (!isServiceAway(error))
          this.#options.log.error({ error, duty: name }, 'a duty failed; it is tried again');
        waitMs = Math.max(everyMs, AWAY_MS);
      }
      await delay(waitMs, undefined, { signal }).catch(() => {});
    }
  }
}
