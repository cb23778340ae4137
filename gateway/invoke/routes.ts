/**
 * Where a function's traffic goes, cached until the catalog says it changed.
 * Invariant: an entry is used only while the subscription to changes stands; a gap in it drops everything.
 */
import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { LRUCache } from 'lru-cache';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { RouteEntry } from '../../infra/catalog/functions.ts';
import { stickyKey } from './request-head.ts';

const ROUTES_MAX = 10_000;

export class Routes {
  readonly #resolve: (name: string) => Promise<RouteEntry | undefined>;
  readonly #cache = new LRUCache<string, RouteEntry>({ max: ROUTES_MAX });
  readonly #pending = new Map<string, Promise<RouteEntry | undefined>>();
  #generation = 0;

  constructor(resolve: (name: string) => Promise<RouteEntry | undefined>) {
    this.#resolve = resolve;
  }

  /** Without a wait when it is cached: the hot path has no promise. */
  peek(name: string): RouteEntry | undefined {
    return this.#cache.get(name);
  }

  async get(name: string): Promise<RouteEntry | undefined> {
    const cached = this.#cache.get(name);
    if (cached) return cached;
    const pending = this.#pending.get(name);
    if (pending) return pending;
    const generation = this.#generation;
    const loading = this.#resolve(name)
      .then((entry) => {
        // A change that came while we read may not be in what we read.
        if (entry && generation === this.#generation) this.#cache.set(name, entry);
        return entry;
      })
      .finally(() => this.#pending.delete(name));
    this.#pending.set(name, loading);
    return loading;
  }

  drop(name: string): void {
    this.#generation++;
    this.#pending.delete(name);
    this.#cache.delete(name);
  }

  dropAll(): void {
    this.#generation++;
    this.#pending.clear();
    this.#cache.clear();
  }
}

/** Whether a call may begin without a look at more: nobody needs a token, whichever target is chosen. */
export function isOpen({ targets, refusal }: RouteEntry): boolean {
  return refusal === undefined && targets.every(({ deployment }) => deployment.config.access === 'public');
}

/** @throws SkiffError QUEUE_EXPIRED when whoever waited would wait for nothing */
export function assertServed({ refusal }: RouteEntry): void {
  if (refusal !== undefined) throw new SkiffError('QUEUE_EXPIRED', refusal);
}

/** One of the alias's targets, by weight. `random` in [0, 1). */
export function chooseTarget(route: RouteEntry, random: number): Deployment {
  const [first, second] = route.targets;
  if (!first) throw new Error(`alias ${route.alias.name} of ${route.name} has no target`);
  return second && random * 100 >= first.weight ? second.deployment : first.deployment;
}

/**
 * The target for a caller: by chance, or with a sticky key always the same while the weights are. A share that grows
 * keeps those it had, as long as its deployment stays the first target.
 */
export function chooseTargetFor(route: RouteEntry, request: IncomingMessage): Deployment {
  const key = route.targets.length > 1 ? stickyKey(request) : undefined;
  return chooseTarget(route, key === undefined ? Math.random() : stickyShare(route.name, key));
}

/** The same number in [0, 1) for the same key, for each function another. */
function stickyShare(name: string, key: string): number {
  return hash('sha256', `${name}\0${key}`, 'buffer').readUInt32LE(0) / 2 ** 32;
}
