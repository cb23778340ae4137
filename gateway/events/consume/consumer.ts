/**
 * Takes jobs from the shard queues of a cell and runs the invocations they name. BullMQ says when and how many at a time; whether
 * an invocation is to be run, the record says.
 * Invariant: every held attempt is renewed, or cancelled as soon as it is not ours any more. This process does nothing
 * heavy, since locks and leases are renewed on its event loop.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type ConnectionOptions, type Job, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { EVENT_LEASE_MS } from '../../../sdk/protocol/limits.ts';
import { ONE_CELL, type Cell } from '../../../infra/contract/cells.ts';
import { cancelsChannel } from '../../../infra/contract/keys.ts';
import { shardQueue, shardsOf, type ShardJob, type ShardQueues } from '../../../infra/events/shards.ts';
import type { EventStore } from '../../../infra/events/store.ts';
import type { AttemptEnd, Begun, EndReply } from '../../../infra/events/wire.ts';
import { Batcher } from '../../../infra/lib/batcher.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';
import { Attempt, type AttemptParts } from './attempt.ts';

export interface ConsumerOptions extends Omit<AttemptParts, 'finish'> {
  readonly store: EventStore;
  /** Default: the one there is. */
  readonly cell?: Cell;
  readonly id: string;
  readonly queues: ShardQueues;
  /** For BullMQ's workers: waits for Redis as long as it takes. Each worker makes a second one from it, that blocks. */
  readonly connection: ConnectionOptions;
  /** For pub/sub. Consumers of several cells may share one. */
  readonly subscriber: Redis;
  /** Jobs of one shard at a time. */
  readonly concurrency: number;
  /** Invocations of one namespace in the queue proper or running, on all consumers and in all cells. */
  readonly namespaceMax: number;
  /** A worker that takes nothing for this long while its queue has jobs is replaced. */
  readonly deafMs?: number;
  readonly onEnd?: (outcome: string, state: string) => void;
}

/** As delivery asks: a lock of 10 s, looked at every 5 s, so that a dead consumer's jobs move within 20 s. */
const LOCK = {
  lockDuration: EVENT_LEASE_MS,
  lockRenewTime: 3_000,
  stalledInterval: 5_000,
  maxStalledCount: 3,
} as const;
const RENEW_MS = 3_000;
const AWAY_MS = 200;
const DEAF_MS = 15_000;
const WATCH_MS = 5_000;
/** A job does not go on with further invocations for longer, so that other consumers get their share. */
const CHAIN_MS = 5_000;
/** Ends written by one script call: others wait for it. */
const ENDS_MAX = 64;
const END_BATCHES_MAX = 2;

interface Shard {
  worker: Worker<ShardJob>;
  running: number;
  lastTakenMs: number;
}

export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #parts: AttemptParts;
  readonly #ends: Batcher<AttemptEnd, EndReply>;
  readonly #held = new Map<string, Attempt>();
  readonly #timers: NodeJS.Timeout[] = [];
  #shards: Shard[] = [];
  #isClosing = false;

  constructor(options: ConsumerOptions) {
    this.#options = options;
    this.#ends = new Batcher({
      run: (ends) => this.#finish(ends),
      countMax: ENDS_MAX,
      inFlightMax: END_BATCHES_MAX,
    });
    this.#parts = { ...options, finish: (end) => this.#ends.add(end) };
  }

  get #cell(): Cell {
    return this.#options.cell ?? ONE_CELL.first;
  }

  get #deafMs(): number {
    return this.#options.deafMs ?? DEAF_MS;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** The attempt of this invocation that runs here. */
  held(id: string): Attempt | undefined {
    return this.#held.get(id);
  }

  async open(): Promise<void> {
    const { subscriber, store, namespaceMax, log } = this.#options;
    subscriber.on('message', (channel: string, id: string) => {
      if (channel === cancelsChannel) this.#held.get(id)?.cancel();
    });
    await subscriber.subscribe(cancelsChannel);
    // Until the store is there, the limit is the one before.
    await store
      .limitNamespaces(Math.ceil(namespaceMax / this.#cell.of))
      .catch((error: unknown) => log.warn({ error }, 'limit not set'));
    this.#shards = Array.from({ length: shardsOf(this.#cell) }, (_, shard) => this.#openShard(shard));
    this.#timers.push(
      setInterval(() => void this.#renew(), RENEW_MS),
      setInterval(() => void this.#watch(), Math.min(WATCH_MS, this.#deafMs / 3)),
    );
  }

  /** Takes nothing new and lets what runs end within `graceMs`; the rest is left to its leases. */
  async close(graceMs: number): Promise<void> {
    this.#isClosing = true;
    const closing = Promise.all(this.#shards.map(({ worker }) => worker.close()));
    await Promise.race([closing, delay(graceMs, undefined, { ref: false })]);
    for (const timer of this.#timers) clearInterval(timer);
    for (const attempt of this.#held.values()) attempt.cancel();
  }

  #openShard(index: number): Shard {
    const { connection, concurrency, log } = this.#options;
    const shard: Shard = {
      running: 0,
      lastTakenMs: performance.now(),
      worker: new Worker<ShardJob>(shardQueue(index), (job) => this.#process(shard, job), {
        connection,
        concurrency,
        prefix: this.#cell.events.bullPrefix,
        runRetryDelay: 500,
        drainDelay: 2,
        ...LOCK,
      }),
    };
    shard.worker.on('error', (error) => log.debug({ error }, 'shard queue'));
    shard.worker.on('stalled', (jobId) =>
      log.warn({ jobId }, 'a job was taken from a consumer that gave no sign of life'),
    );
    return shard;
  }

  async #process(shard: Shard, job: Job<ShardJob>): Promise<void> {
    shard.running += 1;
    shard.lastTakenMs = performance.now();
    try {
      const begun = await this.#begin(String(job.id), job.data.ids);
      await Promise.all(begun.map((each) => this.#runChain(shard, each)));
    } finally {
      shard.running -= 1;
    }
  }

  async #begin(jobId: string, ids: readonly string[]): Promise<Begun[]> {
    const { store, queues, id } = this.#options;
    for (;;) {
      try {
        const { begun, jobs } = await store.begin(id, EVENT_LEASE_MS, jobId, ids);
        if (jobs.length > 0) await queues.add(jobs).catch(() => {});
        return begun;
      } catch (error) {
        if (!isServiceAway(error) || this.#isClosing) throw error;
        await delay(AWAY_MS);
      }
    }
  }

  /** Runs one invocation and then, while it is quicker than going through the queue, the function's next ones. */
  async #runChain(shard: Shard, first: Begun): Promise<void> {
    const untilMs = performance.now() + CHAIN_MS;
    for (let begun: Begun | undefined = first; begun;) {
      // When all places are taken others wait in the queue: then it is their turn.
      const mayTake = !this.#isClosing && shard.running < this.#options.concurrency;
      begun = await this.#run(begun, mayTake && performance.now() < untilMs);
    }
  }

  async #run(begun: Begun, mayTake: boolean): Promise<Begun | undefined> {
    const { log, onEnd } = this.#options;
    const attempt = new Attempt(this.#parts, begun);
    this.#held.set(begun.id, attempt);
    try {
      const reply = await attempt.run(mayTake);
      if (reply?.kind === 'written') {
        onEnd?.('written', reply.state);
        return reply.next;
      }
      if (reply) {
        const { id: invocation, fence } = begun;
        log.warn({ invocation, fence, state: reply.state }, 'fenced: an old result was refused');
        onEnd?.('fenced', reply.state);
      }
    } catch (error) {
      log.error({ error, invocation: begun.id }, 'an attempt failed; it counts as lost when its lease ends');
    } finally {
      if (this.#held.get(begun.id) === attempt) this.#held.delete(begun.id);
    }
    return undefined;
  }

  async #finish(ends: readonly AttemptEnd[]): Promise<readonly EndReply[]> {
    const { store, queues, id } = this.#options;
    const { replies, jobs } = await store.finishMany(id, EVENT_LEASE_MS, ends);
    // Not awaited: the pump adds what is missing.
    if (jobs.length > 0) queues.add(jobs).catch(() => {});
    return replies;
  }

  async #renew(): Promise<void> {
    try {
      for (const id of await this.#options.store.renew(EVENT_LEASE_MS, [...this.#held.values()])) {
        this.#held.get(id)?.cancel();
      }
    } catch (error) {
      this.#options.log.warn({ error }, 'leases could not be renewed; it is tried again');
    }
  }

  /** BullMQ's workers have gone deaf after outages before: progress is checked from outside. */
  async #watch(): Promise<void> {
    const { queues, concurrency, log } = this.#options;
    const waiting = await queues.countWaiting().catch(() => []);
    for (const [index, shard] of this.#shards.entries()) {
      const isBusy = shard.running >= concurrency;
      if (!waiting[index] || isBusy || this.#isClosing) shard.lastTakenMs = performance.now();
      if (performance.now() - shard.lastTakenMs < this.#deafMs) continue;
      log.error({ shard: index, waiting: waiting[index] }, 'a consumer takes no jobs; it is replaced');
      void shard.worker.close(true).catch(() => {});
      this.#shards[index] = this.#openShard(index);
    }
  }
}
