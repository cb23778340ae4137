/**
 * The names inside an archive. A tree remembers what was unpacked where, so that no decision about a path ever asks
 * the file system, which a hostile archive shapes as it goes.
 * Invariant: every parent of an accepted path is a directory of the tree, never a symbolic link.
 */
import { clip } from '../digest.ts';
import { badArchive } from './tar-reader.ts';

/** Linux's limits, less room for the folder that is unpacked into. */
const NAME_BYTES_MAX = 255;
const PATH_BYTES_MAX = 3_500;
const TARGET_BYTES_MAX = 4_095;
/** All names of one archive together: they are kept in memory until its end. */
const TREE_BYTES_MAX = 32 * 1024 * 1024;
const HOPS_MAX = 40;
/** Work to resolve all links of one archive, in path components. */
const RESOLVE_STEPS_MAX = 4_000_000;
// oxlint-disable-next-line no-control-regex -- finding control characters is the point
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** Path without `.` and empty parts; empty for the root itself. @throws SkiffError INVALID_SOURCE */
export function parseEntryPath(raw: string): string {
  if (CONTROL.test(raw)) throw badArchive(`"${clip(raw)}" has control characters in its name`);
  if (raw === '') throw badArchive('an entry has no name');
  if (raw.startsWith('/')) throw badArchive(`"${clip(raw)}" is an absolute path`);
  const parts = raw.split('/').filter((part) => part !== '' && part !== '.');
  for (const part of parts) {
    if (part === '..') throw badArchive(`"${clip(raw)}" leaves the folder ("..")`);
    if (Buffer.byteLength(part) > NAME_BYTES_MAX)
      throw badArchive(`a name in "${clip(raw)}" is longer than ${NAME_BYTES_MAX} bytes`);
  }
  const path = parts.join('/');
  if (Buffer.byteLength(path) > PATH_BYTES_MAX)
    throw badArchive(`"${clip(raw)}" is longer than ${PATH_BYTES_MAX} bytes`);
  return path;
}

/** @throws SkiffError INVALID_SOURCE */
export function parseLinkTarget(path: string, target: string): string {
  if (target === '') throw badArchive(`link "${clip(path)}" has no target`);
  if (CONTROL.test(target)) throw badArchive(`the target of link "${clip(path)}" has control characters`);
  if (Buffer.byteLength(target) > TARGET_BYTES_MAX)
    throw badArchive(`the target of link "${clip(path)}" is longer than ${TARGET_BYTES_MAX} bytes`);
  return target;
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

export class ArchiveTree {
  readonly #nodes = new Map<string, 'file' | 'directory'>();
  readonly #links = new Map<string, string>();
  #bytes = 0;

  /**
   * Decides whether `path` may be created; returns the parents that do not exist yet, outermost first.
   * A directory may be named again, nothing else may. @throws SkiffError INVALID_SOURCE
   */
  admit(
    path: string,
    type: 'file' | 'directory' | 'link',
    target = '',
  ): { isNew: boolean; parents: string[] } {
    const parents: string[] = [];
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      const parent = path.slice(0, slash);
      if (this.#links.has(parent))
        throw badArchive(`"${clip(path)}" goes through the link "${clip(parent)}"`);
      const kind = this.#nodes.get(parent);
      if (kind === 'file') throw badArchive(`"${clip(path)}" is below the file "${clip(parent)}"`);
      if (kind === undefined) {
        parents.push(parent);
        this.#remember(parent, 'directory');
      }
    }
    const known = this.#links.has(path) ? 'link' : this.#nodes.get(path);
    if (known === 'directory' && type === 'directory') return { isNew: false, parents };
    if (known !== undefined) throw badArchive(`"${clip(path)}" occurs twice`);
    if (type === 'link') {
      this.#links.set(path, target);
      this.#count(path.length + target.length);
    } else this.#remember(path, type);
    return { isNew: true, parents };
  }

  isFile(path: string): boolean {
    return this.#nodes.get(path) === 'file';
  }

  /** First link that leads, by whatever way, out of the archive's root or in circles. */
  findEscape(): string | undefined {
    const budget = { steps: RESOLVE_STEPS_MAX };
    for (const path of this.#links.keys()) if (this.#escapes(path, budget)) return path;
    return undefined;
  }

  #escapes(path: string, budget: { steps: number }): boolean {
    const at = parentOf(path).split('/').filter(Boolean);
    const todo = [path.slice(path.lastIndexOf('/') + 1)];
    let hops = 0;
    while (todo.length > 0) {
      if (--budget.steps < 0) throw badArchive('its links are too many and too long to check');
      const part = todo.pop() as string;
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (at.pop() === undefined) return true;
        continue;
      }
      at.push(part);
      const target = this.#links.get(at.join('/'));
      if (target === undefined) continue;
      if (target.startsWith('/') || ++hops > HOPS_MAX) return true;
      at.pop();
      todo.push(...target.split('/').reverse());
    }
    return false;
  }

  #remember(path: string, kind: 'file' | 'directory'): void {
    this.#nodes.set(path, kind);
    this.#count(path.length);
  }

  #count(length: number): void {
    this.#bytes += length;
    if (this.#bytes > TREE_BYTES_MAX) throw badArchive(`its names take more than ${TREE_BYTES_MAX} bytes`);
  }
}
