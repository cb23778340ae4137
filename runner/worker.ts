/**
 * The runner: takes start orders and invocations from the fast Redis, as long as it has room, and says that it lives.
 * Invariant: everything this runner put into Redis carries its epoch. When it was silent for longer than RUNNER_DEAD_MS
 * it may have been given up, so it takes a new epoch and offers its free slots anew: old tokens are void.
 * Deliberately absent: placement. Runners pull; an overloaded one simply stops taking orders.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Deployment, NodeRecord } from '../sdk/protocol/api.ts';
import { SkiffError } from '../sdk/protocol/errors.ts';
import { DRAIN_GRACE_MS, HEARTBEAT_MS, RUNNER_DEAD_MS, SERVICE_FENCE_MS } from '../sdk/protocol/limits.ts';
import type { NodeRole } from '../sdk/protocol/swarm/resources.ts';
import type { Cell, Cells } from '../infra/contract/cells.ts';
import { fast } from '../infra/contract/keys.ts';
import { parseToken, type Dispatcher } from '../infra/dispatch/dispatcher.ts';
import type { Log } from '../infra/lib/log.ts';
import type { LayerStore } from '../infra/oci/store.ts';
import type { Intake } from './invoke/intake.ts';
import type { Links } from './invoke/links.ts';
import type { Current } from './pool/current.ts';
import { Health } from './pool/health.ts';
import type { Instance } from './pool/instance.ts';
import type { NamespaceQuota } from './pool/namespace-quota.ts';
import type { Pool } from './pool/pool.ts';
import type { Stems } from './pool/stems.ts';
import type { Replicas } from './service/replicas.ts';
import { Demand } from './swarm/demand.ts';
import { Rebalance } from './swarm/rebalance.ts';
import { Starts } from './swarm/starts.ts';
import { describeFacts, describeNode } from './swarm/node-record.ts';
import type { Probe } from './swarm/readiness/probe.ts';
import type { Readiness } from './swarm/readiness/readiness.ts';
import type { Standing } from './swarm/standing.ts';
import type { NodeVolumes } from './volume/volumes.ts';

export interface WorkerOptions {
  readonly id: string;
  readonly version: string;
  readonly link: string;
  /** For gateways of other hosts; undefined outside of a swarm. */
  readonly swarm: () => { readonly address: string; readonly role: NodeRole } | undefined;
  readonly memoryBytesMax: number;
  readonly cells: Cells;
  /** Connection for commands, and two that block for each cell. */
  readonly redis: Redis;
  readonly inboxRedis: readonly Redis[];
  readonly demandRedis: readonly Redis[];
  readonly dispatcher: Dispatcher;
  readonly getDeployment: (id: string) => Promise<Deployment | undefined>;
  /** Whether a start would have to fetch nothing. */
  readonly hasImage: (deployment: Deployment) => boolean;
  readonly standing: Standing;
  readonly readiness: Readiness;
  readonly probe: Pick<Probe, 'tryTake'>;
  readonly replicas: Replicas;
  readonly current: Current;
  readonly pool: Pool;
  readonly quota: NamespaceQuota;
  readonly stems: Stems;
  readonly store: Pick<LayerStore, 'usage'>;
  /** Layers that it gives to other nodes and gets from them; undefined when it does neither. */
  readonly sharing: () => NodeRecord['peers'];
  readonly volumes: Pick<NodeVolumes, 'usage' | 'sweep'>;
  readonly links: Links;
  readonly intake: Intake;
  readonly log: Log;
}

/** Reads end as their connections do, at once. */
const LOOPS_MS_MAX = 500;
const CLOCK_TICK_MS = 10;
const STARTS_AT_ONCE = 8;
const BLOCK_S = 1;
const INBOX_BATCH = 64;

export class Worker {
  readonly #options: WorkerOptions;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #startedMs = Date.now();
  readonly #health = new Health();
  #epoch = newEpoch();
  readonly #rebalance: Rebalance;
  readonly #starts: Starts;
  readonly #demand: Demand;
  #isStopping = false;
  #lastBeatMs = 0;
  /** By the clock that nobody sets. */
  #heardAt = performance.now();
  #drainingAt: number | undefined;
  /** Stops, and gives away what it has first. */
  #isLeaving = false;
  #loops: Promise<unknown>[] = [];

  constructor(options: WorkerOptions) {
    this.#options = options;
    const { standing, readiness } = options;
    this.#rebalance = new Rebalance({
      ...options,
      facts: () => describeFacts(options),
      peers: () => standing.peers,
      getDeployment: (id) => this.#starts.getDeployment(id),
      start: (order) => void this.#starts.run(order),
      mayTake: () => standing.availability === 'active' && readiness.isFit && !this.#isLeaving,
    });
    this.#starts = new Starts({ ...options, rebalance: this.#rebalance });
    this.#demand = this.#createDemand();
  }

  get epoch(): string {
    return this.#epoch;
  }

  async open(): Promise<void> {
    // Whatever stands in our inbox was meant for a predecessor; its gateways find it there and send it elsewhere.
    const { readiness, standing } = this.#options;
    await standing.refresh();
    await this.#beat();
    await this.#options.redis.publish(fast.runners, this.#options.id);
    this.#every(HEARTBEAT_MS, () => this.#beat());
    // Not as a part of the beat: a durable store that is away must not make this runner look dead.
    this.#every(HEARTBEAT_MS, () => this.#options.standing.refresh());
    this.#every(HEARTBEAT_MS, () => this.#rebalance.tick());
    this.#every(HEARTBEAT_MS, () => this.#reclaim());
    this.#timers.push(setInterval(() => this.#fence(), HEARTBEAT_MS));
    this.#every(5_000, () => this.#renewLive());
    this.#every(5_000, () => this.#options.quota.renew());
    this.#every(2_000, () => this.#options.volumes.sweep());
    this.#every(1_000, () =>
      this.#options.pool.sweep(Date.now(), (deployment) => this.#options.current.has(deployment)),
    );
    this.#every(2_000, () => this.#keepMinimums());
    this.#timers.push(setInterval(() => this.#health.tick(this.#options.pool.instances, Date.now()), 1_000));
    this.#timers.push(setInterval(() => this.#tick(), CLOCK_TICK_MS));
    this.#loops = [...this.#options.cells.all.map((cell) => this.#readInbox(cell)), this.#demand.run()];
    readiness.open();
  }

  /**
   * Takes no new work, lets what runs finish within `graceMs`, then ends all sandboxes. Until then the runner says
   * that it lives: gateways give up everything that is on a runner which does not.
   */
  async close(graceMs: number): Promise<void> {
    this.#demand.stop();
    this.#options.readiness.close();
    this.#isLeaving = true;
    const { redis, cells, pool, stems, links, id } = this.#options;
    await this.#beat().catch(() => {});
    const deadline = Date.now() + graceMs;
    this.#drainingAt ??= performance.now();
    do {
      this.#drain();
      await new Promise((resolve) => setTimeout(resolve, 20));
    } while ((links.inFlight > 0 || this.#starts.count > 0) && Date.now() < deadline);
    this.#isStopping = true;
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.allSettled([
      redis.multi().del(fast.node(id), fast.replicas(id)).zrem(fast.nodes, id).exec(),
      ...cells.all.map((cell) => redis.del(cell.fast.alive(id))),
    ]);
    await Promise.all([pool.close(), stems.close()]);
    for (const one of [...this.#options.inboxRedis, ...this.#options.demandRedis]) one.disconnect();
    // ioredis never settles a read that waits for a store that is away.
    const limit = new Promise((resolve) => setTimeout(resolve, LOOPS_MS_MAX));
    await Promise.race([Promise.allSettled(this.#loops), limit]);
  }

  /** Something was decided about this node: it need not wait for the next beat to do so. */
  async follow(): Promise<void> {
    await this.#options.standing.refresh();
    await this.#beat();
  }

  #createDemand(): Demand {
    const options = this.#options;
    return new Demand({
      ...options,
      facts: () => describeFacts(this.#options),
      usedBytes: () => options.pool.usedBytes,
      getDeployment: (id) => this.#starts.getDeployment(id),
      isFit: () => options.readiness.isFit,
      canStart: () => this.#starts.count < STARTS_AT_ONCE,
      onStart: (order) => void this.#starts.run(order),
      onStop: (task) => options.replicas.stop(task),
      onImpossible: (order, message) =>
        void this.#starts.fail(order, new SkiffError('COLD_START_FAILED', message), 0),
    });
  }

  /** Sandboxes take nothing new and end with their last call; replicas move first, and end when their time is up. */
  #drain(): void {
    const { pool, standing } = this.#options;
    const graceMs = standing.drainGraceMs ?? DRAIN_GRACE_MS;
    const isOver = performance.now() - (this.#drainingAt ?? 0) > graceMs;
    for (const instance of pool.instances) {
      if (isOver && instance.state !== 'gone') instance.guest.kill();
      else if (!instance.isPinned) instance.drain();
    }
  }

  /** Others run our replicas in their place by now. */
  #fence(): void {
    if (performance.now() - this.#heardAt < SERVICE_FENCE_MS) return;
    const count = this.#options.replicas.fence();
    if (count > 0) this.#options.log.warn({ count }, 'cut off from the swarm: replicas were ended');
  }

  #every(ms: number, run: () => Promise<unknown>): void {
    let isRunning = false;
    const timer = setInterval(() => {
      if (isRunning) return;
      isRunning = true;
      run()
        .catch((error: unknown) =>
          this.#options.log.warn({ error }, 'a periodic duty failed; it is tried again'),
        )
        .finally(() => (isRunning = false));
    }, ms);
    this.#timers.push(timer);
  }

  async #beat(): Promise<void> {
    const { redis, cells, id, log } = this.#options;
    const now = Date.now();
    // A cell that forgot us forgot our idle slots, too.
    const [home, ...others] = cells.all.map((cell) => cell.fast.alive(id)) as [string, ...string[]];
    const epochs = await Promise.all([home, ...others].map((key) => redis.get(key)));
    const wasAlive = epochs.every((epoch) => epoch === this.#epoch);
    if (!wasAlive && this.#lastBeatMs > 0) {
      this.#epoch = newEpoch();
      log.warn({ silentMs: now - this.#lastBeatMs }, 'this runner was given up; it goes on with a new epoch');
    }
    const record = describeNode(this.#options, {
      epoch: this.#epoch,
      startedMs: this.#startedMs,
      heartbeatMs: now,
      availability: this.#isLeaving ? 'drain' : this.#options.standing.availability,
      warm: this.#rebalance.warm,
      taken: this.#rebalance.taken,
    });
    if (record.availability === 'drain') {
      this.#drainingAt ??= performance.now();
      this.#drain();
    } else this.#drainingAt = undefined;
    await Promise.all(others.map((key) => redis.set(key, this.#epoch, 'PX', RUNNER_DEAD_MS)));
    // First: who was given up and is back must not be believed what it said of its replicas before.
    await this.#options.replicas.report();
    const replies = await redis
      .multi()
      .set(home, this.#epoch, 'PX', RUNNER_DEAD_MS)
      .set(fast.node(id), JSON.stringify(record), 'PX', RUNNER_DEAD_MS * 4)
      .zadd(fast.nodes, now, id)
      .exec();
    for (const [error] of replies ?? []) if (error) throw error;
    this.#heardAt = performance.now();
    if (!wasAlive && this.#lastBeatMs > 0) await this.#reofferAll();
    this.#lastBeatMs = now;
  }

  async #reofferAll(): Promise<void> {
    for (const instance of this.#options.pool.instances) {
      await this.#options.intake.reoffer(
        instance,
        instance.slots.filter((slot) => slot.stream === 0),
      );
    }
  }

  async #renewLive(): Promise<void> {
    for (const instance of this.#options.pool.instances) {
      if (instance.state === 'active') {
        await this.#options.dispatcher.offer(instance.deployment.id, [], { live: instance.liveMember });
      }
    }
  }

  async #keepMinimums(): Promise<void> {
    for (const deployment of await this.#options.current.minimums()) {
      const { concurrency, max, min } = deployment.config;
      await this.#options.dispatcher.want({ deployment: deployment.id, concurrency, max, min });
    }
  }

  /** Leases that ran out come back to us; slots that are busy are offered when they end. */
  async #reclaim(): Promise<void> {
    for (const text of await this.#options.dispatcher.reclaim(this.#options.id)) {
      const token = parseToken(text);
      const instance = this.#options.pool.get(token.sandbox);
      const slot = instance?.slots[token.slot];
      if (!instance || !slot || slot.generation !== token.generation) continue;
      if (slot.stream === 0) await this.#options.intake.reoffer(instance, [slot]);
      else void this.#reofferWhenFree(instance, slot);
    }
  }

  async #reofferWhenFree(instance: Instance, slot: Instance['slots'][number]): Promise<void> {
    slot.generation++;
    while (slot.stream !== 0 && instance.state === 'active')
      await new Promise((resolve) => setTimeout(resolve, 50));
    await this.#options.intake.reoffer(instance, [slot]).catch(() => {});
  }

  #tick(): void {
    const now = performance.now();
    for (const invocation of this.#options.links.invocations()) invocation.tick(now);
  }

  async #readInbox({ index, fast: keys }: Cell): Promise<void> {
    const { inboxRedis, id, intake, probe, log } = this.#options;
    const redis = inboxRedis[index] as Redis;
    while (!this.#isStopping) {
      try {
        const reply = await redis.blmpopBuffer(BLOCK_S, 1, keys.inbox(id), 'LEFT', 'COUNT', INBOX_BATCH);
        const entries = (reply as [Buffer, Buffer[]] | null)?.[1] ?? [];
        for (const entry of entries) if (!probe.tryTake(entry)) intake.onInbox(entry);
      } catch (error) {
        if (this.#isStopping) return;
        log.warn({ error }, 'inbox could not be read; trying again');
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }
}

function newEpoch(): string {
  return createHash('sha256').update(randomBytes(16)).digest('hex').slice(0, 12);
}
