/**
 * Routes to deployments and aliases that a URL names: /f/<name>@<deployment or alias>/…
 * Invariant: a deployment is reached under its own function's name only, and no longer than it exists; so nothing is
 * kept for longer than a moment, whatever was published or missed.
 */
import { LRUCache } from 'lru-cache';
import type { FunctionStore, RouteEntry } from '../../infra/catalog/functions.ts';
import { isId } from '../../sdk/protocol/ids.ts';

const KEPT_MS = 2_000;
const KEPT_MAX = 1_000;

export class Versions {
  readonly #store: Pick<FunctionStore, 'getDeployment' | 'resolveRoute'>;
  readonly #cache = new LRUCache<string, RouteEntry>({ max: KEPT_MAX, ttl: KEPT_MS });

  constructor(store: Pick<FunctionStore, 'getDeployment' | 'resolveRoute'>) {
    this.#store = store;
  }

  /** Undefined when the function has no such deployment or alias. */
  async get(name: string, version: string): Promise<RouteEntry | undefined> {
    const key = `${name}@${version}`;
    const known = this.#cache.get(key);
    if (known) return known;
    const found = isId('dep', version)
      ? await this.#getDeployment(name, version)
      : await this.#store.resolveRoute(name, version);
    if (found) this.#cache.set(key, found);
    return found;
  }

  async #getDeployment(name: string, id: string): Promise<RouteEntry | undefined> {
    const deployment = await this.#store.getDeployment(id);
    if (deployment?.functionName !== name) return undefined;
    const alias = { name: id, targets: [{ deployment: id, weight: 100 }], version: 0, updatedMs: 0 };
    return { name, alias, targets: [{ weight: 100, deployment }] };
  }
}
