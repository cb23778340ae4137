/**
 * Which deployments still have traffic: those an alias of their function points to. Sandboxes of the others are let
 * go soon, and minimums are kept only for the current ones.
 * Invariant: what is not known yet counts as current, so nothing is ended by mistake.
 */
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import type { Change } from '../../infra/catalog/changes.ts';

export class Current {
  readonly #catalog: Pick<Catalog, 'getFunction' | 'listFunctions' | 'resolveRoute'>;
  readonly #targets = new Map<string, ReadonlySet<string>>();
  readonly #loading = new Set<string>();

  constructor(catalog: Pick<Catalog, 'getFunction' | 'listFunctions' | 'resolveRoute'>) {
    this.#catalog = catalog;
  }

  has(deployment: Deployment): boolean {
    const known = this.#targets.get(deployment.functionName);
    if (known) return known.has(deployment.id);
    this.#load(deployment.functionName);
    return true;
  }

  onChange(change: Change): void {
    if ((change.kind === 'alias' || change.kind === 'function') && this.#targets.delete(change.name))
      this.#load(change.name);
  }

  onGap(): void {
    this.#targets.clear();
  }

  /** Live deployments that want a minimum of sandboxes. */
  async minimums(): Promise<Deployment[]> {
    const wanted: Deployment[] = [];
    for (const entry of await this.#catalog.listFunctions()) {
      const route = await this.#catalog.resolveRoute(entry.name);
      for (const target of route?.targets ?? [])
        if (target.deployment.config.min > 0) wanted.push(target.deployment);
    }
    return wanted;
  }

  #load(name: string): void {
    if (this.#loading.has(name)) return;
    this.#loading.add(name);
    this.#catalog
      .getFunction(name)
      .then((entry) => {
        const targets =
          entry?.aliases.flatMap((alias) => alias.targets.map((target) => target.deployment)) ?? [];
        this.#targets.set(name, new Set(targets));
      })
      .catch(() => {})
      .finally(() => this.#loading.delete(name));
  }
}
