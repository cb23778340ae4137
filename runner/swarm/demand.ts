/**
 * Reads orders: those for this node alone, and, while it is active and has room to work, those that any node may take.
 * Invariant: an order that is popped is started, given on, or answered as impossible; none is dropped but those that
 * nobody waits for any more. Deliberately absent: how a sandbox is started (worker.ts).
 */
import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { NodeFacts } from '../../sdk/protocol/swarm/constraint.ts';
import type { StartOrder, StopOrder } from '../../infra/contract/jobs.ts';
import type { Cell, Cells } from '../../infra/contract/cells.ts';
import { fast } from '../../infra/contract/keys.ts';
import type { Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import type { Log } from '../../infra/lib/log.ts';
import { HEARTBEAT_MS } from '../../sdk/protocol/limits.ts';
import { judge, type Verdict } from './placement.ts';
import type { Standing } from './standing.ts';

export interface DemandOptions {
  readonly id: string;
  readonly cells: Cells;
  readonly dispatcher: Pick<Dispatcher, 'giveOn'>;
  /** One that blocks for each cell. */
  readonly demandRedis: readonly Redis[];
  readonly standing: Standing;
  readonly memoryBytesMax: number;
  readonly log: Log;
  facts(): NodeFacts;
  usedBytes(): number;
  /** Undefined when it does not exist. */
  getDeployment(id: string): Promise<Deployment | undefined>;
  hasImage(deployment: Deployment): boolean;
  /** Do invocations pass through this node? One that is not fit leaves orders to those that are. */
  isFit(): boolean;
  /** May another start begin now? */
  canStart(): boolean;
  onStart(order: StartOrder): void;
  onStop(task: string): void;
  onImpossible(order: StartOrder, message: string): void;
}

const BLOCK_S = 1;
const BUSY_MS = 1;
const RETRY_MS = 200;
const UNSETTLED_MS = 50;
/** Whoever gave this order is long gone: it is not given on any more. */
const ORDER_MS_MAX = 60_000;
const TAKE = { kind: 'take' } as const;

export class Demand {
  readonly #options: DemandOptions;
  /** Orders that were given on, and since when. */
  readonly #seen = new LRUCache<string, number>({ max: 1_000 });
  #isStopping = false;

  constructor(options: DemandOptions) {
    this.#options = options;
  }

  stop(): void {
    this.#isStopping = true;
  }

  /** Resolves after `stop`, when the blocking connection is closed. */
  async run(): Promise<void> {
    await Promise.all(this.#options.cells.all.map((cell) => this.#read(cell)));
  }

  /** Orders for this node alone are in the first cell. */
  async #read({ index, fast: keys }: Cell): Promise<void> {
    const { demandRedis, standing, log, id } = this.#options;
    const redis = demandRedis[index] as Redis;
    const own = fast.orders(id);
    while (!this.#isStopping) {
      try {
        if (!this.#options.canStart()) {
          await sleep(BUSY_MS);
          continue;
        }
        if (index > 0 && !this.#takesWork) {
          await sleep(RETRY_MS);
          continue;
        }
        const lists = [...(index === 0 ? [own] : []), ...(this.#takesWork ? [keys.demand] : [])];
        const reply = await redis.blpop(...lists, BLOCK_S);
        if (!reply) continue;
        const order = JSON.parse(reply[1]) as StartOrder | StopOrder;
        if ('stop' in order) this.#options.onStop(order.stop);
        else if (reply[0] === own) this.#options.onStart(order);
        // Alone there is nobody to wait for, so orders need not be judged one after the other.
        else if (standing.peers.length === 0) void this.#consider(order, reply[1]);
        else await this.#consider(order, reply[1]);
      } catch (error) {
        if (this.#isStopping) return;
        log.warn({ error }, 'start orders could not be read; trying again');
        await sleep(RETRY_MS);
      }
    }
  }

  /** With nobody fit to leave it to, an order is tried here: its caller learns what is wrong. */
  get #takesWork(): boolean {
    const { standing, isFit } = this.#options;
    return standing.availability === 'active' && (isFit() || standing.peers.length === 0);
  }

  /** `text` is the order as it was popped: given on unchanged, so that whoever gave it can take it back. */
  async #consider(order: StartOrder, text: string): Promise<void> {
    const { dispatcher, onStart, onImpossible } = this.#options;
    if (!this.#takesWork || this.#isStopping) {
      await dispatcher.giveOn(order, text, true);
      return;
    }
    // One that cannot be read fails where it is started, with a reason.
    const deployment = await this.#options.getDeployment(order.dep).catch(() => undefined);
    const seenAt = this.#seen.get(order.id);
    const verdict = deployment ? this.#judge(deployment, seenAt !== undefined) : TAKE;
    if (verdict.kind === 'take') return onStart(order);
    const seenMs = performance.now() - (seenAt ?? performance.now());
    if (seenMs > ORDER_MS_MAX) return;
    // What is known of others may be as old as two heartbeats: one of them may just have become able.
    if (verdict.kind === 'impossible' && seenMs > HEARTBEAT_MS * 3)
      return onImpossible(order, verdict.message);
    if (seenAt === undefined) this.#seen.set(order.id, performance.now());
    await dispatcher.giveOn(order, text);
    await sleep(verdict.kind === 'pass' ? verdict.waitMs : UNSETTLED_MS);
  }

  #judge(deployment: Deployment, hasPassed: boolean): Verdict {
    const { standing, memoryBytesMax, facts, usedBytes, hasImage } = this.#options;
    const { constraints, memory } = deployment.config;
    return judge({
      deployment: deployment.id,
      constraints,
      memoryBytes: memory,
      hasPassed,
      hasImage: hasImage(deployment),
      self: { ...facts(), freeBytes: memoryBytesMax - usedBytes(), capacityBytes: memoryBytesMax },
      peers: standing.peers,
    });
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
