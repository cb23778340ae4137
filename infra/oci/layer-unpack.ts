/**
 * Unpacks an archive that somebody else made: an uploaded source or an image layer.
 * Invariant: nothing is written outside the target folder, nothing is left when it fails, and what is there
 * afterwards is plain: directories, files 0444/0555 (0644/0755 for sources) and symbolic links, all ours.
 * Set-id bits, owners and extended attributes are dropped; devices, fifos and sparse files are refused.
 * The target must be a new folder that nobody else writes to: paths are decided from the archive alone.
 */
import { constants } from 'node:fs';
import { link, mkdir, open, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import {
  LAYER_ENTRIES_MAX,
  LAYER_UNPACKED_BYTES_MAX,
  SOURCE_ENTRIES_MAX,
  SOURCE_UNPACKED_BYTES_MAX,
} from '../../sdk/protocol/limits.ts';
import { decompress } from './archive/decompress.ts';
import { ArchiveTree, parentOf, parseEntryPath, parseLinkTarget } from './archive/entry-path.ts';
import { badArchive, readTar, type TarEntry } from './archive/tar-reader.ts';
import { clip } from './digest.ts';
import type { Compression } from './manifest.ts';
import { removeTree } from './tree-removal.ts';

export interface UnpackOptions {
  /**
   * `source`: files stay writable for their owner and every link must stay inside. `layer`: files are read-only,
   * whiteouts are understood, and links may point anywhere since only a container resolves them.
   */
  readonly policy: 'source' | 'layer';
  readonly compression: Compression | 'detect';
  readonly bytesMax?: number;
  readonly entriesMax?: number;
}

export interface Unpacked {
  /** Digest of the uncompressed archive. */
  readonly diffId: string;
  /** Sum of file sizes. */
  readonly bytes: number;
  readonly entries: number;
  /** Paths of lower layers that this layer removes, and folders whose lower content it hides. */
  readonly whiteouts: readonly string[];
  readonly opaques: readonly string[];
  /** Every symbolic link stays inside. Always true for sources. */
  readonly isContained: boolean;
}

/** Header, padding and extended headers that come with one entry, for the limit on the unpacked stream. */
const OVERHEAD_BYTES_PER_ENTRY = 2_048;
const ARCHIVE_SLACK_BYTES = 1024 * 1024;
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * @throws SkiffError INVALID_SOURCE for a hostile, damaged or too large archive, UNAVAILABLE for a full disk, or the
 * source stream's own error; the target folder is gone then.
 */
export async function unpackArchive(
  source: Readable,
  target: string,
  options: UnpackOptions,
): Promise<Unpacked> {
  const isSource = options.policy === 'source';
  const bytesMax = options.bytesMax ?? (isSource ? SOURCE_UNPACKED_BYTES_MAX : LAYER_UNPACKED_BYTES_MAX);
  const entriesMax = options.entriesMax ?? (isSource ? SOURCE_ENTRIES_MAX : LAYER_ENTRIES_MAX);
  await mkdir(target, { mode: 0o755 });
  try {
    const streamBytesMax = bytesMax + entriesMax * OVERHEAD_BYTES_PER_ENTRY + ARCHIVE_SLACK_BYTES;
    const { chunks, diffId } = decompress(source, options.compression, streamBytesMax);
    const unpacker = new Unpacker(target, isSource, bytesMax, entriesMax);
    for await (const entry of readTar(chunks)) await unpacker.add(entry);
    return { ...unpacker.finish(), diffId: diffId() };
  } catch (error) {
    await removeTree(target);
    throw explain(error, target);
  } finally {
    source.destroy();
  }
}

function explain(error: unknown, target: string): unknown {
  const { code } = error as { code?: string };
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new SkiffError('UNAVAILABLE', `no space left on the disk of ${target}; free some and try again`, {
    cause: error,
  });
}

class Unpacker {
  readonly #target: string;
  readonly #isSource: boolean;
  readonly #bytesMax: number;
  readonly #entriesMax: number;
  readonly #tree = new ArchiveTree();
  readonly #whiteouts: string[] = [];
  readonly #opaques: string[] = [];
  #bytes = 0;
  #entries = 0;

  constructor(target: string, isSource: boolean, bytesMax: number, entriesMax: number) {
    this.#target = target;
    this.#isSource = isSource;
    this.#bytesMax = bytesMax;
    this.#entriesMax = entriesMax;
  }

  async add(entry: TarEntry): Promise<void> {
    if (++this.#entries > this.#entriesMax) throw badArchive(`more than ${this.#entriesMax} entries`);
    this.#bytes += entry.size;
    if (this.#bytes > this.#bytesMax) throw badArchive(`its files take more than ${this.#bytesMax} bytes`);
    const path = parseEntryPath(entry.path);
    if (path === '') {
      if (entry.type !== 'directory') throw badArchive(`its root is a ${entry.type}`);
      return;
    }
    if (!this.#isSource && this.#isWhiteout(path, entry)) return;
    switch (entry.type) {
      case 'directory':
        return this.#addDirectory(path);
      case 'file':
        return this.#addFile(path, entry);
      case 'symlink':
        return this.#addSymlink(path, entry);
      case 'hardlink':
        return this.#addHardlink(path, entry);
    }
  }

  finish(): Omit<Unpacked, 'diffId'> {
    const escape = this.#tree.findEscape();
    if (escape !== undefined && this.#isSource)
      throw badArchive(`link "${clip(escape)}" leads out of the folder or in circles`);
    return {
      bytes: this.#bytes,
      entries: this.#entries,
      whiteouts: this.#whiteouts,
      opaques: this.#opaques,
      isContained: escape === undefined,
    };
  }

  /** Names that OCI layers reserve: they say what to remove and are never created. */
  #isWhiteout(path: string, entry: TarEntry): boolean {
    const parent = parentOf(path);
    const name = path.slice(parent === '' ? 0 : parent.length + 1);
    if (!name.startsWith(WHITEOUT)) {
      if (parent.split('/').some((part) => part.startsWith(WHITEOUT)))
        throw badArchive(`"${clip(path)}" is below a whiteout`);
      return false;
    }
    if (entry.type !== 'file' || entry.size > 0)
      throw badArchive(`whiteout "${clip(path)}" is not an empty file`);
    const removed = name.slice(WHITEOUT.length);
    if (name === OPAQUE) this.#opaques.push(parent);
    else if (removed === '' || removed === '.' || removed === '..')
      throw badArchive(`whiteout "${clip(path)}" names nothing`);
    // `.wh..wh.plnk` and the like are bookkeeping of aufs.
    else if (!removed.startsWith(WHITEOUT))
      this.#whiteouts.push(parent === '' ? removed : `${parent}/${removed}`);
    return true;
  }

  async #admit(path: string, type: 'file' | 'directory' | 'link', target?: string): Promise<boolean> {
    const { isNew, parents } = this.#tree.admit(path, type, target);
    for (const parent of parents) await mkdir(join(this.#target, parent), { mode: 0o755 });
    return isNew;
  }

  async #addDirectory(path: string): Promise<void> {
    if (await this.#admit(path, 'directory')) await mkdir(join(this.#target, path), { mode: 0o755 });
  }

  async #addFile(path: string, entry: TarEntry): Promise<void> {
    await this.#admit(path, 'file');
    const writable = this.#isSource ? 0o200 : 0;
    const mode = (entry.isExecutable ? 0o555 : 0o444) | writable;
    const file = await open(join(this.#target, path), CREATE, mode);
    try {
      await file.writeFile(entry.body);
      await file.utimes(entry.mtimeSeconds, entry.mtimeSeconds);
    } finally {
      await file.close();
    }
  }

  async #addSymlink(path: string, entry: TarEntry): Promise<void> {
    const target = parseLinkTarget(path, entry.target);
    await this.#admit(path, 'link', target);
    await symlink(target, join(this.#target, path));
  }

  async #addHardlink(path: string, entry: TarEntry): Promise<void> {
    const target = parseEntryPath(parseLinkTarget(path, entry.target));
    if (!this.#tree.isFile(target))
      throw badArchive(
        `hard link "${clip(path)}" to "${clip(target)}", which is no file of the archive so far`,
      );
    await this.#admit(path, 'file');
    await link(join(this.#target, target), join(this.#target, path));
  }
}
