/**
 * Fetches images before they are needed: base images of everything that is live, and the layers of a function on the
 * nodes that are first in its ranking (placement.ts), so that its first start there fetches nothing.
 * Invariant: one image at a time, in the background; whatever fails is fetched when it is needed.
 */
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import type { LayerStore } from '../../infra/oci/store.ts';
import type { Log } from '../../infra/lib/log.ts';
import { weigh } from './placement.ts';
import type { Standing } from './standing.ts';

export interface PrefetchOptions {
  readonly id: string;
  readonly catalog: Pick<Catalog, 'listFunctions' | 'resolveRoute'>;
  readonly store: Pick<LayerStore, 'ensureRootfs' | 'ensureLayer'>;
  readonly standing: Pick<Standing, 'peers' | 'availability'>;
  readonly log: Log;
}

/** How many nodes have a function's layers ahead of time. */
const NODES_PER_FUNCTION = 2;

export class Prefetch {
  readonly #options: PrefetchOptions;
  #running: Promise<void> = Promise.resolve();

  constructor(options: PrefetchOptions) {
    this.#options = options;
  }

  /** Everything that is live. */
  all(): void {
    this.#queue(async () => {
      for (const { name } of await this.#options.catalog.listFunctions()) await this.#fetch(name);
    });
  }

  /** What one function has live now. */
  one(functionName: string): void {
    this.#queue(() => this.#fetch(functionName));
  }

  #queue(run: () => Promise<void>): void {
    this.#running = this.#running.then(run).catch((error: unknown) => {
      this.#options.log.warn({ error }, 'an image was not fetched ahead of time');
    });
  }

  async #fetch(functionName: string): Promise<void> {
    const { catalog, standing } = this.#options;
    // Alone, whatever is deployed is tried here anyway.
    if (standing.availability !== 'active' || standing.peers.length === 0) return;
    const route = await catalog.resolveRoute(functionName);
    for (const { deployment } of route?.targets ?? []) await this.#fetchDeployment(deployment);
  }

  async #fetchDeployment({ id, image }: Deployment): Promise<void> {
    const { store, standing } = this.#options;
    if (image.base) await store.ensureRootfs(image.base.reference);
    const own = weigh(id, this.#options.id);
    const before = standing.peers.filter((peer) => weigh(id, peer.id) > own).length;
    if (before >= NODES_PER_FUNCTION) return;
    const repository = image.reference.split('@')[0] as string;
    for (const layer of image.layers) await store.ensureLayer(repository, layer);
  }
}
