/**
 * What this node is told about itself (availability, labels) and what it knows of the others: refreshed with every
 * heartbeat. Invariant: when it cannot be read, the last known holds; a node that was never told anything is active.
 */
import type { Redis } from 'ioredis';
import { NodeRecord } from '../../sdk/protocol/api.ts';
import { isFit, type NodeSettings } from '../../sdk/protocol/swarm/resources.ts';
import { fast } from '../../infra/contract/keys.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import type { Members } from '../../infra/swarm/members.ts';

export interface StandingOptions {
  readonly id: string;
  /** From this node's own configuration. */
  readonly labels: Readonly<Record<string, string>>;
  readonly members: Pick<Members, 'settings'>;
  /** The fast store. */
  readonly redis: Redis;
}

export class Standing {
  readonly #options: StandingOptions;
  #settings: NodeSettings = { availability: 'active', labels: {} };
  #peers: readonly NodeRecord[] = [];
  #known: readonly NodeRecord[] = [];

  constructor(options: StandingOptions) {
    this.#options = options;
  }

  get availability(): NodeSettings['availability'] {
    return this.#settings.availability;
  }

  get drainGraceMs(): number | undefined {
    return this.#settings.drainGraceMs;
  }

  get labels(): Record<string, string> {
    return { ...this.#options.labels, ...this.#settings.labels };
  }

  /** Other nodes that are up, fit and take new work, as they were at the last heartbeat. */
  get peers(): readonly NodeRecord[] {
    return this.#peers;
  }

  /** Other nodes that are up, whatever they take. */
  get known(): readonly NodeRecord[] {
    return this.#known;
  }

  async refresh(): Promise<void> {
    await Promise.all([this.#readSettings(), this.#readPeers()]);
  }

  async #readSettings(): Promise<void> {
    const settings = await this.#options.members.settings(this.#options.id).catch(() => undefined);
    if (settings) this.#settings = settings;
  }

  async #readPeers(): Promise<void> {
    const { redis, id } = this.#options;
    try {
      const ids = (await redis.zrange(fast.nodes, 0, '-1')).filter((other) => other !== id);
      if (ids.length === 0) {
        this.#peers = this.#known = [];
        return;
      }
      const [records, epochs] = await Promise.all([
        redis.mget(ids.map(fast.node)),
        redis.mget(ids.map(cellsOf(redis).first.fast.alive)),
      ]);
      this.#known = records.flatMap((json, index) => {
        if (json === null || epochs[index] === null) return [];
        return NodeRecord.safeParse(JSON.parse(json)).data ?? [];
      });
      this.#peers = this.#known.filter((node) => node.availability === 'active' && isFit(node));
    } catch {
      // The fast store is away; then there are no orders to judge either.
    }
  }
}
