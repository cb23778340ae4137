/**
 * The runner's local store of unpacked images, addressed by digest: function layers and merged root filesystems.
 * Invariant: what is under `layers/` and `rootfs/` is complete and was checked against its digests. It is made in
 * `tmp/`, made durable and moved with one rename, so a process killed at any moment leaves only orphans in `tmp/`,
 * which the next open removes. Pinned entries are never evicted.
 * Deliberately absent: mounts, and which entries a sandbox still needs (its owner pins them).
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { parseReference } from './digest.ts';
import { unpackArchive, type Unpacked } from './layer-unpack.ts';
import {
  LAYER_COMPRESSION,
  parseConfig,
  selectPlatform,
  type Descriptor,
  type ImageManifest,
  type ManifestDocument,
} from './manifest.ts';
import type { Registry } from './registry.ts';
import { summarize } from './store/digest-summary.ts';
import { writeDocuments } from './store/documents.ts';
import { addMountPoints, mergeLayer } from './store/merge.ts';
import { Sources, type PeerSource } from './store/sources.ts';
import { BLOB, StoreIndex, type EntryKind, type Kept, type StoreEntry } from './store/store-index.ts';
import { isDigestMismatch } from './transfer/pull.ts';

export interface LayerDescriptor {
  readonly digest: string;
  readonly diffId: string;
  /** Compressed size. */
  readonly bytes: number;
  readonly mediaType: string;
}

export interface StoreUsage {
  readonly bytes: number;
  readonly bytesMax: number;
  readonly count: number;
  /** What `prune` could free now. */
  readonly reclaimableBytes: number;
}

/** What other hosts can be given. */
export interface KeptUsage {
  /** Of their digests, see digest-summary.ts. */
  readonly summary: string;
  readonly count: number;
  readonly bytes: number;
}

export interface LayerStore {
  /**
   * Root filesystem of `repository@digest` as one folder, pulled and merged if absent. The digest may be an index's.
   * @throws SkiffError NOT_FOUND, UNAVAILABLE, INVALID_SOURCE, INTERNAL (damaged in the registry, after one more try)
   */
  ensureRootfs(reference: string): Promise<{ readonly lowerDirs: string[]; readonly rootfs: string }>;
  /** Folder of one unpacked layer, for example `<folder>/var/task/index.cjs`. Errors as `ensureRootfs`. */
  ensureLayer(repository: string, layer: LayerDescriptor): Promise<string>;
  /** Whether a layer or an image is here, whole. Does not count as a use. */
  has(kind: EntryKind, digest: string): boolean;
  /**
   * Folder, perhaps not there yet, for what was derived from a layer that is here: evicted with it and never without.
   * Undefined for other layers.
   */
  annexOf(digest: string): string | undefined;
  /** Says that what is in a layer's annex takes this much now. */
  countAnnex(digest: string, bytes: number): void;
  /** A layer as it came, or a document of an image, for another host. One that is under way is waited for. */
  findKept(digest: string): Promise<Kept | undefined>;
  keptUsage(): KeptUsage;
  /** It turned out to be damaged. What was unpacked from it was checked, and stays. */
  dropKept(digest: string): Promise<void>;
  /** Keeps a layer or an image (by its digest) until as many `unpin` calls; both may come before it is there. */
  pin(repository: string, digest: string): void;
  unpin(repository: string, digest: string): void;
  usage(): StoreUsage;
  /** Evicts what is not pinned, least recently used first, down to `bytesMax`. Returns the bytes freed. */
  prune(bytesMax?: number): Promise<number>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

export interface StoreOptions {
  readonly dir: string;
  readonly registry: Registry;
  /** Eviction starts above this many bytes on disk. */
  readonly bytesMax: number;
  /** Other hosts, asked before the registry. Absent: there are none. */
  readonly peers?: PeerSource | undefined;
}

/** Pulls that unpack at the same time: more only makes them fight for the disk. */
const UNPACKS_MAX = 3;

/** Removes what a killed predecessor left half-made. One store per folder at a time. */
export async function openStore(options: StoreOptions): Promise<LayerStore> {
  const index = await StoreIndex.open(options.dir);
  return new Store(options, index);
}

class Store implements LayerStore {
  readonly #sources: Sources;
  readonly #bytesMax: number;
  readonly #index: StoreIndex;
  readonly #flights = new Map<string, Promise<StoreEntry>>();
  readonly #waiting: (() => void)[] = [];
  #unpacks = 0;
  #kept: (KeptUsage & { readonly version: number }) | undefined;

  constructor(options: StoreOptions, index: StoreIndex) {
    this.#sources = new Sources(options.registry, options.peers);
    this.#bytesMax = options.bytesMax;
    this.#index = index;
  }

  async ensureRootfs(reference: string): Promise<{ lowerDirs: string[]; rootfs: string }> {
    const { repository, digest } = parseReference(reference);
    const entry = await this.#ensure('rootfs', digest, () => this.#buildRootfs(repository, digest));
    return { lowerDirs: [entry.folder], rootfs: entry.folder };
  }

  async ensureLayer(repository: string, layer: LayerDescriptor): Promise<string> {
    const entry = await this.#ensureLayer(repository, layer);
    // The host follows names inside function layers (it links their files), so no link may lead out of them.
    if (!entry.meta.isContained) {
      throw new SkiffError(
        'INVALID_SOURCE',
        `layer ${layer.digest} has a symbolic link that leads out of it`,
      );
    }
    return entry.folder;
  }

  has(kind: EntryKind, digest: string): boolean {
    return this.#index.has(kind, digest);
  }

  annexOf(digest: string): string | undefined {
    return this.#index.annexOf(digest);
  }

  countAnnex(digest: string, bytes: number): void {
    this.#index.countAnnex(digest, bytes);
  }

  async findKept(digest: string): Promise<Kept | undefined> {
    const kept = this.#index.kept(digest);
    if (kept) return kept;
    await this.#flights.get(`layer ${digest}`)?.catch(() => {});
    return this.#index.kept(digest);
  }

  keptUsage(): KeptUsage {
    const version = this.#index.keptVersion;
    if (this.#kept?.version !== version) {
      const { digests, count, bytes } = this.#index.listKept();
      this.#kept = { version, summary: summarize(digests), count, bytes };
    }
    return this.#kept;
  }

  async dropKept(digest: string): Promise<void> {
    await this.#index.dropBlob(digest);
  }

  pin(_repository: string, digest: string): void {
    this.#index.pin(digest, 1);
  }

  unpin(_repository: string, digest: string): void {
    this.#index.pin(digest, -1);
  }

  usage(): StoreUsage {
    return { ...this.#index.usage(), bytesMax: this.#bytesMax };
  }

  prune(bytesMax = this.#bytesMax): Promise<number> {
    return this.#index.evict(bytesMax);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#flights.values());
  }

  #ensureLayer(repository: string, layer: LayerDescriptor): Promise<StoreEntry> {
    return this.#ensure('layer', layer.digest, () => this.#limit(() => this.#pullLayer(repository, layer)));
  }

  /** One flight per digest: everybody who asks meanwhile gets its outcome. */
  #ensure(kind: EntryKind, digest: string, make: () => Promise<StoreEntry>): Promise<StoreEntry> {
    const known = this.#index.use(kind, digest);
    if (known) return Promise.resolve(known);
    const key = `${kind} ${digest}`;
    const flying = this.#flights.get(key);
    if (flying) return flying;
    const flight = retryDamaged(make).finally(() => this.#flights.delete(key));
    this.#flights.set(key, flight);
    // Evicting is housekeeping: it must not delay or fail the cold start that waits for the entry.
    flight.then(() => this.prune()).catch(() => {});
    return flight;
  }

  async #pullLayer(repository: string, layer: LayerDescriptor): Promise<StoreEntry> {
    const compression = LAYER_COMPRESSION[layer.mediaType];
    if (compression === undefined)
      throw new SkiffError('INVALID_SOURCE', `layer of media type "${layer.mediaType}" is not known`);
    const temporary = await this.#index.createTemporary();
    try {
      const { digest, bytes: blobBytes } = layer;
      const unpacked = await this.#sources.readLayer(
        { repository, digest, bytes: blobBytes },
        join(temporary, BLOB),
        (blob) => unpackArchive(blob, join(temporary, 'fs'), { policy: 'layer', compression }),
      );
      assertDiffId(layer, unpacked);
      const { bytes, entries, whiteouts, opaques, isContained } = unpacked;
      return await this.#index.publish('layer', layer.digest, temporary, {
        bytes,
        entries,
        whiteouts,
        opaques,
        isContained,
        layers: [],
      });
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }

  async #buildRootfs(repository: string, digest: string): Promise<StoreEntry> {
    const { manifest, documents } = await this.#resolveManifest(repository, digest);
    const configBytes = await this.#sources.readBlob(repository, manifest.config);
    const config = parseConfig(configBytes, manifest.layers.length);
    const descriptors = manifest.layers.map((layer, i) =>
      toLayer(layer, config.rootfs.diff_ids[i] as string),
    );
    const pins = descriptors.map((layer) => layer.digest);
    for (const pin of pins) this.#index.pin(pin, 1);
    const temporary = await this.#index.createTemporary();
    try {
      const layers = await Promise.all(descriptors.map((layer) => this.#ensureLayer(repository, layer)));
      const root = join(temporary, 'fs');
      await mkdir(root, { mode: 0o755 });
      let entries = 0;
      for (const layer of layers) entries += await mergeLayer(layer.folder, root, layer.meta);
      await addMountPoints(root);
      if (this.#sources.isShared)
        await writeDocuments(temporary, [
          ...documents,
          { mediaType: manifest.config.mediaType, bytes: configBytes },
        ]);
      return await this.#index.publish('rootfs', digest, temporary, {
        // Its files are hard links into the layers, which are counted there.
        bytes: 0,
        entries,
        whiteouts: [],
        opaques: [],
        isContained: false,
        layers: pins,
      });
    } finally {
      for (const pin of pins) this.#index.pin(pin, -1);
      await rm(temporary, { recursive: true, force: true });
    }
  }

  /** With all documents that led to it. */
  async #resolveManifest(
    repository: string,
    digest: string,
  ): Promise<{ manifest: ImageManifest; documents: ManifestDocument[] }> {
    const document = await this.#sources.getManifest(repository, digest);
    if (document.manifest) return { manifest: document.manifest, documents: [document] };
    const selected = selectPlatform(document.index as NonNullable<typeof document.index>, digest);
    const inner = await this.#sources.getManifest(repository, selected.digest);
    if (!inner.manifest || inner.bytes.length !== selected.size) {
      throw new SkiffError('INVALID_SOURCE', `index ${digest} describes ${selected.digest} wrongly`);
    }
    return { manifest: inner.manifest, documents: [document, inner] };
  }

  async #limit<T>(run: () => Promise<T>): Promise<T> {
    if (this.#unpacks >= UNPACKS_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#unpacks++;
    try {
      return await run();
    } finally {
      // A waiting pull inherits the place, so the count changes only when nobody waits.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#unpacks--;
    }
  }
}

function toLayer(descriptor: Descriptor, diffId: string): LayerDescriptor {
  return { digest: descriptor.digest, diffId, bytes: descriptor.size, mediaType: descriptor.mediaType };
}

function assertDiffId(layer: LayerDescriptor, unpacked: Unpacked): void {
  if (unpacked.diffId === layer.diffId) return;
  throw new SkiffError(
    'INVALID_SOURCE',
    `layer ${layer.digest} unpacks to ${unpacked.diffId}; its image says ${layer.diffId}`,
  );
}

/** Bytes that were damaged on the way may come whole the second time; damaged storage will not change. */
async function retryDamaged<T>(make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (!isDigestMismatch(error)) throw error;
    return make();
  }
}
