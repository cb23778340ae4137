/**
 * What is in the store: one folder an entry with `fs/` and `meta.json`, an index in memory, pins and recency. Beside them
 * may lie what other hosts can be given: `blob`, the layer as the registry has it, or `documents.json` of an image.
 * Invariant: an entry is in the index exactly while its folder is complete; it leaves the index first and the disk
 * afterwards, so nobody is handed a folder that is being removed.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { digestHex } from '../digest.ts';
import { tryReadDocuments, type StoredDocument } from './documents.ts';
import { removeTree } from '../tree-removal.ts';

export type EntryKind = 'layer' | 'rootfs';

const Meta = z.object({
  version: z.literal(1),
  bytes: z.number(),
  entries: z.number(),
  whiteouts: z.array(z.string()).readonly(),
  opaques: z.array(z.string()).readonly(),
  isContained: z.boolean(),
  /** Digests of the layers a root filesystem shares its files with. */
  layers: z.array(z.string()),
});
export type EntryMeta = Omit<z.output<typeof Meta>, 'version'>;

export interface StoreEntry {
  readonly kind: EntryKind;
  readonly digest: string;
  /** The unpacked files. */
  readonly folder: string;
  readonly meta: EntryMeta;
  /** Of what was derived from it and lies beside it. */
  annexBytes: number;
  /** Of the layer as it came, for other hosts; 0: not kept. */
  blobBytes: number;
  /** Of an image. */
  readonly documents: readonly StoredDocument[];
  usedMs: number;
}

/** What another host can be given. */
export type Kept =
  | { readonly kind: 'blob'; readonly file: string; readonly bytes: number }
  | { readonly kind: 'document'; readonly document: StoredDocument };

const ANNEX = 'annex';
export const BLOB = 'blob';
const FOLDERS: Readonly<Record<EntryKind, string>> = { layer: 'layers', rootfs: 'rootfs' };
/** An entry handed out a moment ago is not evicted before its owner could pin it. */
const GRACE_MS = 30_000;
/** Recency survives a restart through the time of meta.json, written at most this often. */
const TOUCH_MS = 60_000;
/** What an entry takes on disk beside its bytes: an inode and on average half a block. */
const INODE_BYTES = 2_560;
/** With more files than this, one sync of the file system is cheaper than one for each file. */
const FSYNC_FILES_MAX = 64;
const run = promisify(execFile);

export class StoreIndex {
  readonly #dir: string;
  readonly #entries = new Map<string, StoreEntry>();
  readonly #pins = new Map<string, number>();
  #evicting: Promise<number> | undefined;
  readonly #documents = new Map<string, StoredDocument>();
  /** Changes with what can be given to others. */
  keptVersion = 0;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<StoreIndex> {
    const index = new StoreIndex(dir);
    await removeTree(join(dir, 'tmp'));
    for (const name of ['tmp', ...Object.values(FOLDERS)])
      await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
    for (const kind of ['layer', 'rootfs'] as const) await index.#load(kind);
    return index;
  }

  /** The entry, counted as used now. */
  use(kind: EntryKind, digest: string): StoreEntry | undefined {
    const entry = this.#entries.get(`${kind} ${digest}`);
    if (!entry) return undefined;
    const now = Date.now();
    if (now - entry.usedMs > TOUCH_MS) {
      const seconds = now / 1000;
      utimes(join(entry.folder, '..', 'meta.json'), seconds, seconds).catch(() => {});
    }
    entry.usedMs = now;
    return entry;
  }

  has(kind: EntryKind, digest: string): boolean {
    return this.#entries.has(`${kind} ${digest}`);
  }

  annexOf(digest: string): string | undefined {
    const entry = this.#entries.get(`layer ${digest}`);
    return entry && join(entry.folder, '..', ANNEX);
  }

  countAnnex(digest: string, bytes: number): void {
    const entry = this.#entries.get(`layer ${digest}`);
    if (entry) entry.annexBytes = bytes;
  }

  kept(digest: string): Kept | undefined {
    const entry = this.#entries.get(`layer ${digest}`);
    if (entry && entry.blobBytes > 0)
      return { kind: 'blob', file: join(entry.folder, '..', BLOB), bytes: entry.blobBytes };
    const document = this.#documents.get(digest);
    return document && { kind: 'document', document };
  }

  /** Digests of all that can be given to others, most recently used first, and what it takes on disk. */
  listKept(): { digests: string[]; count: number; bytes: number } {
    const layers = [...this.#entries.values()].filter(({ blobBytes }) => blobBytes > 0);
    const blobs = layers.toSorted((a, b) => b.usedMs - a.usedMs).map(({ digest }) => digest);
    const bytes = layers.reduce((sum, { blobBytes }) => sum + blobBytes, 0);
    return { digests: [...this.#documents.keys(), ...blobs], count: blobs.length, bytes };
  }

  /** Only the blob: what was unpacked from it stays. */
  async dropBlob(digest: string): Promise<number> {
    const entry = this.#entries.get(`layer ${digest}`);
    if (!entry || entry.blobBytes === 0) return 0;
    const freed = entry.blobBytes;
    entry.blobBytes = 0;
    this.keptVersion++;
    await rm(join(entry.folder, '..', BLOB), { force: true });
    return freed;
  }

  pin(digest: string, change: 1 | -1): void {
    const count = (this.#pins.get(digest) ?? 0) + change;
    if (count > 0) this.#pins.set(digest, count);
    else this.#pins.delete(digest);
  }

  usage(): { bytes: number; count: number; reclaimableBytes: number } {
    const held = this.#held();
    let bytes = 0;
    let reclaimableBytes = 0;
    for (const entry of this.#entries.values()) {
      const size = sizeOf(entry);
      bytes += size;
      if (!held.has(entry.digest)) reclaimableBytes += size;
    }
    return { bytes, count: this.#entries.size, reclaimableBytes };
  }

  /** A private folder; its maker removes it whatever happens. */
  async createTemporary(): Promise<string> {
    const folder = join(this.#dir, 'tmp', randomUUID());
    await mkdir(folder, { mode: 0o700 });
    return folder;
  }

  /** Makes `temporary` (with `fs/` in it) durable and moves it to its place. */
  async publish(kind: EntryKind, digest: string, temporary: string, meta: EntryMeta): Promise<StoreEntry> {
    await writeFile(join(temporary, 'meta.json'), JSON.stringify({ version: 1, ...meta }));
    await makeDurable(temporary, meta.entries);
    const place = join(this.#dir, FOLDERS[kind], digestHex(digest));
    // Only something that is not in the index can be here: damaged, or just being evicted.
    await rm(place, { recursive: true, force: true });
    await rename(temporary, place);
    await fsync(join(this.#dir, FOLDERS[kind]));
    const entry = {
      kind,
      digest,
      folder: join(place, 'fs'),
      meta,
      annexBytes: 0,
      blobBytes: await sizeOfFile(join(place, BLOB)),
      documents: await tryReadDocuments(place),
      usedMs: Date.now(),
    };
    this.#add(entry);
    return entry;
  }

  #add(entry: StoreEntry): void {
    this.#entries.set(`${entry.kind} ${entry.digest}`, entry);
    for (const document of entry.documents) this.#documents.set(document.digest, document);
    this.keptVersion++;
  }

  /** Removes the least recently used entries until at most `bytesMax` are left. One eviction at a time. */
  evict(bytesMax: number): Promise<number> {
    this.#evicting ??= this.#evict(bytesMax).finally(() => (this.#evicting = undefined));
    return this.#evicting;
  }

  async #evict(bytesMax: number): Promise<number> {
    let freed = 0;
    for (;;) {
      const { bytes } = this.usage();
      if (bytes <= bytesMax) return freed;
      // Before anything that this host itself may need.
      const blob = this.#oldest(({ blobBytes }) => blobBytes > 0, new Set());
      if (blob) {
        freed += await this.dropBlob(blob.digest);
        continue;
      }
      const victim = this.#oldest(() => true, this.#held());
      if (!victim) return freed;
      this.#entries.delete(`${victim.kind} ${victim.digest}`);
      for (const { digest } of victim.documents) this.#documents.delete(digest);
      this.keptVersion++;
      const grave = join(this.#dir, 'tmp', randomUUID());
      await rename(join(victim.folder, '..'), grave);
      await removeTree(grave);
      freed += sizeOf(victim);
    }
  }

  /** Layers before root filesystems: losing one of those costs a merge of many files. */
  #oldest(isWanted: (entry: StoreEntry) => boolean, held: ReadonlySet<string>): StoreEntry | undefined {
    const latestMs = Date.now() - GRACE_MS;
    let oldest: StoreEntry | undefined;
    for (const entry of this.#entries.values()) {
      if (!isWanted(entry) || held.has(entry.digest) || entry.usedMs > latestMs) continue;
      if (
        !oldest ||
        rank(entry) < rank(oldest) ||
        (rank(entry) === rank(oldest) && entry.usedMs < oldest.usedMs)
      )
        oldest = entry;
    }
    return oldest;
  }

  /** Pinned, or the layer of a root filesystem that is here: removing such a layer would free nothing. */
  #held(): Set<string> {
    const held = new Set(this.#pins.keys());
    for (const entry of this.#entries.values()) for (const layer of entry.meta.layers) held.add(layer);
    return held;
  }

  async #load(kind: EntryKind): Promise<void> {
    const parent = join(this.#dir, FOLDERS[kind]);
    for (const name of await readdir(parent)) {
      const place = join(parent, name);
      const entry = await tryReadEntry(kind, place, `sha256:${name}`);
      if (entry) this.#add(entry);
      else await rm(place, { recursive: true, force: true });
    }
  }
}

function rank(entry: StoreEntry): number {
  return entry.kind === 'layer' ? 0 : 1;
}

function sizeOf(entry: StoreEntry): number {
  return entry.meta.bytes + entry.annexBytes + entry.blobBytes + entry.meta.entries * INODE_BYTES;
}

async function tryReadEntry(kind: EntryKind, place: string, digest: string): Promise<StoreEntry | undefined> {
  try {
    const file = join(place, 'meta.json');
    const folder = join(place, 'fs');
    const [text, { mtimeMs }, { isDirectory }] = await Promise.all([
      readFile(file, 'utf8'),
      stat(file),
      stat(folder).then((found) => ({ isDirectory: found.isDirectory() })),
    ]);
    const meta = Meta.parse(JSON.parse(text));
    if (!isDirectory) return undefined;
    return {
      kind,
      digest,
      folder,
      meta,
      annexBytes: await measure(join(place, ANNEX)),
      blobBytes: await sizeOfFile(join(place, BLOB)),
      documents: await tryReadDocuments(place),
      usedMs: mtimeMs,
    };
  } catch {
    // Whatever is wrong with it, it can be pulled again.
    return undefined;
  }
}

/** 0 when there is none. */
async function sizeOfFile(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}

async function measure(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** A rename may reach the disk before the files it moves; then a power cut would leave empty files in place. */
async function makeDurable(folder: string, entries: number): Promise<void> {
  if (entries > FSYNC_FILES_MAX) await run('sync', ['--file-system', folder]);
  else await fsyncTree(folder);
}

async function fsyncTree(folder: string): Promise<void> {
  const found = await readdir(folder, { withFileTypes: true });
  await Promise.all(
    found.map(async (item) => {
      const path = join(folder, item.name);
      if (item.isDirectory()) await fsyncTree(path);
      else if (item.isFile()) await fsync(path);
    }),
  );
  await fsync(folder);
}

async function fsync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
