/**
 * Removes what no deployment needs from the registry: images of functions, old base images, uploaded sources.
 * Invariant: something is removed only after it was seen unneeded for the whole grace time, which is longer than any
 * build, and no build holds it: a build holds an image before it looks whether it is there. Removing a manifest frees
 * its blobs when the registry next sweeps its disk (infra/host does that at start).
 * Deliberately absent: repositories that are not the platform's.
 */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import { functionRepository, SOURCE_REPOSITORY } from '../../infra/contract/jobs.ts';
import { durable } from '../../infra/contract/keys.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import { sourceTag } from '../../infra/oci/source-manifest.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { BUILD_MS_MAX, IMAGES_UNNEEDED_MS } from '../../sdk/protocol/limits.ts';

export interface CollectorOptions {
  readonly redis: Redis;
  readonly catalog: Pick<Catalog, 'listDeployments'>;
  readonly registry: Registry;
  readonly log: Log;
  /** How long something must have been unneeded. */
  readonly graceMs?: number;
}

/** What is needed, of one repository. */
interface Needs {
  readonly digests: ReadonlySet<string>;
  readonly tags: ReadonlySet<string>;
}

const FUNCTIONS = functionRepository('');
const LOCK_MS = 600_000;

/** Keeps an image from being collected while a build uses it again. */
export async function holdImage(redis: Redis, digest: string): Promise<void> {
  await redis.zadd(durable.imagesHeld, Date.now() + 2 * BUILD_MS_MAX, digest);
}

export class Collector {
  readonly #options: CollectorOptions;
  /** `repository digest` -> since when it has been seen unneeded. */
  #unneeded = new Map<string, number>();

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** Looks once. Returns how many manifests were removed; undefined when another builder is at it. */
  async run(now = Date.now()): Promise<number | undefined> {
    const { redis } = this.#options;
    const owner = randomBytes(8).toString('hex');
    if ((await redis.set(durable.collecting, owner, 'PX', LOCK_MS, 'NX')) === null) return undefined;
    try {
      await redis.zremrangebyscore(durable.imagesHeld, '-inf', Date.now());
      return await this.#collect(now);
    } finally {
      if ((await redis.get(durable.collecting)) === owner) await redis.del(durable.collecting);
    }
  }

  async #collect(now: number): Promise<number> {
    const { registry, log } = this.#options;
    const repositories = await registry.listRepositories();
    const owners = repositories.filter((name) => name.startsWith(FUNCTIONS));
    const deployments = new Map<string, Deployment[]>();
    for (const name of owners)
      deployments.set(name, await this.#options.catalog.listDeployments(name.slice(FUNCTIONS.length)));
    const all = [...deployments.values()].flat();
    const seen = new Map<string, number>();
    let removed = 0;
    for (const repository of repositories) {
      const needs = this.#needsOf(repository, deployments.get(repository) ?? [], all);
      if (needs) removed += await this.#sweep(repository, needs, now, seen);
    }
    this.#unneeded = seen;
    if (removed > 0) log.info({ removed }, 'images that no deployment needs were removed');
    return removed;
  }

  /** Undefined for repositories that are not ours. */
  #needsOf(repository: string, own: readonly Deployment[], all: readonly Deployment[]): Needs | undefined {
    if (repository.startsWith(FUNCTIONS)) {
      return { digests: new Set(own.map(({ image }) => image.digest)), tags: new Set() };
    }
    if (repository === SOURCE_REPOSITORY) {
      const tags = all.flatMap(({ source }) => (source ? [sourceTag(source.digest)] : []));
      return { digests: new Set(), tags: new Set(tags) };
    }
    if (!repository.startsWith('skiff/')) return undefined;
    const bases = all.flatMap(({ image }) => (image.base ? [image.base.digest] : []));
    return { digests: new Set(bases), tags: new Set() };
  }

  async #sweep(repository: string, needs: Needs, now: number, seen: Map<string, number>): Promise<number> {
    const { registry } = this.#options;
    const digests = new Map<string, string>();
    const needed = new Set(needs.digests);
    for (const tag of await registry.listTags(repository)) {
      const digest = await registry.headManifest(repository, tag);
      if (digest === undefined) continue;
      digests.set(digest, tag);
      // The plain tag of a runtime, `26`, names the base image that the next build takes.
      if (needs.tags.has(tag) || isCurrentBase(repository, tag)) needed.add(digest);
    }
    let removed = 0;
    for (const digest of digests.keys()) {
      if (needed.has(digest)) continue;
      const key = `${repository} ${digest}`;
      const since = this.#unneeded.get(key) ?? now;
      if (now - since < (this.#options.graceMs ?? IMAGES_UNNEEDED_MS) || (await this.#isHeld(digest))) {
        seen.set(key, since);
      } else if (await registry.deleteManifest(repository, digest)) removed++;
    }
    return removed;
  }

  async #isHeld(digest: string): Promise<boolean> {
    const until = await this.#options.redis.zscore(durable.imagesHeld, digest);
    return until !== null && Number(until) > Date.now();
  }
}

/** Base images have a second tag `<version>-<hash of inputs>`, by which a build finds one made before. */
function isCurrentBase(repository: string, tag: string): boolean {
  return repository.startsWith('skiff/') && repository !== SOURCE_REPOSITORY && !/-[0-9a-f]{16}$/.test(tag);
}
