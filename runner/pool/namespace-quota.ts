/**
 * How many sandboxes a namespace has, on all hosts together. Invariant: a sandbox of a namespace runs only while it has
 * a place among `max`; a place is given back with its sandbox, and a runner that is gone loses its places by itself.
 * Deliberately absent: functions without a namespace; those are the operator's, whose limit is the hosts' memory.
 */
import type { Redis } from 'ioredis';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { namespaceOf } from '../../sdk/protocol/reach/namespaces.ts';
import { fast } from '../../infra/contract/keys.ts';
import { LIVE_MS } from '../../infra/dispatch/dispatcher.ts';
import { defineScript } from '../../infra/lib/redis.ts';
import type { Instance } from './instance.ts';

/** How long a namespace that was found full is not asked about again. */
const FULL_MS = 250;

type Enter = (key: string, max: number, place: string, lifeMs: number) => Promise<number>;

export class NamespaceQuota {
  readonly #redis: Redis;
  readonly #max: (namespace: string) => number;
  /** Place -> namespace. */
  readonly #held = new Map<string, string>();
  readonly #fullUntil = new Map<string, number>();

  /** `max` of a namespace; 0: no limit. */
  constructor(redis: Redis, max: (namespace: string) => number) {
    this.#redis = redis;
    this.#max = max;
    defineScript(redis, 'skiffEnterNamespace', new URL('enter-namespace.lua', import.meta.url), 1);
  }

  /** Starts a sandbox in a place of its own. `place` is unique. Rejects with THROTTLED when the namespace has no more. */
  async start(deployment: Deployment, place: string, launch: () => Promise<Instance>): Promise<Instance> {
    const namespace = namespaceOf(deployment.functionName);
    const max = namespace === undefined ? 0 : this.#max(namespace);
    if (namespace === undefined || max === 0) return launch();
    await this.#enter(namespace, max, place);
    try {
      const instance = await launch();
      void instance.guest.exited.then(() => this.#leave(namespace, place));
      return instance;
    } catch (error) {
      this.#leave(namespace, place);
      throw error;
    }
  }

  /** Well within LIVE_MS. */
  async renew(): Promise<void> {
    if (this.#held.size === 0) return;
    const pipeline = this.#redis.pipeline();
    for (const [place, namespace] of this.#held)
      pipeline.zadd(fast.namespace(namespace), Date.now() + LIVE_MS, place);
    await pipeline.exec();
  }

  async #enter(namespace: string, max: number, place: string): Promise<void> {
    const full = (): SkiffError =>
      new SkiffError(
        'THROTTLED',
        `namespace "${namespace}" has ${max} sandboxes, which is its limit (SKIFF_NAMESPACE_SANDBOXES_MAX); the function was not run`,
      );
    if ((this.#fullUntil.get(namespace) ?? 0) > Date.now()) throw full();
    const { skiffEnterNamespace } = this.#redis as unknown as { skiffEnterNamespace: Enter };
    const isIn = await skiffEnterNamespace.call(this.#redis, fast.namespace(namespace), max, place, LIVE_MS);
    if (isIn === 1) {
      this.#fullUntil.delete(namespace);
      this.#held.set(place, namespace);
      return;
    }
    this.#fullUntil.set(namespace, Date.now() + FULL_MS);
    throw full();
  }

  #leave(namespace: string, place: string): void {
    this.#held.delete(place);
    this.#redis.zrem(fast.namespace(namespace), place).catch(() => {});
  }
}
