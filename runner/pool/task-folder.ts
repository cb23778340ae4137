/**
 * Attaches a deployment's files to a running stem: hard links into the folder that is mounted at /var/task.
 * A hard link costs microseconds, shares the page cache between sandboxes of one deployment and needs no mount;
 * the mount inside is read-only and the files are root's, so neither side can change the other's.
 *
 * What a layer consists of is remembered, since a layer never changes, and few files are linked at once: waiting for each
 * on a thread of the pool would take longer than all of them.
 */
import { linkSync, mkdirSync, symlinkSync } from 'node:fs';
import { link, mkdir, readdir, readlink, symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { LRUCache } from 'lru-cache';

const TASK_PATH = 'var/task';
/** So many are linked in one go. */
const SMALL_MAX = 32;

interface Entry {
  /** Below var/task; folders come before what is in them. */
  readonly path: string;
  readonly kind: 'folder' | 'file' | { readonly linkTo: string };
}

const small = new LRUCache<string, readonly Entry[]>({ max: 1_000 });

/** `layerDir` is an unpacked function layer; its var/task becomes `taskDir`'s content. Later layers add to it. */
export async function attachLayer(layerDir: string, taskDir: string): Promise<void> {
  const from = join(layerDir, TASK_PATH);
  const known = small.get(from);
  if (known) return attachNow(from, taskDir, known);
  const entries: Entry[] = [];
  await linkTree(from, taskDir, '', entries);
  if (entries.length <= SMALL_MAX) small.set(from, entries);
}

function attachNow(from: string, to: string, entries: readonly Entry[]): void {
  for (const { path, kind } of entries) {
    const target = join(to, path);
    if (kind === 'folder') mkdirSync(target, { recursive: true, mode: 0o755 });
    else if (kind === 'file') linkSync(join(from, path), target);
    else symlinkSync(kind.linkTo, target);
  }
}

/** A code cache beside the module it belongs to. One that the function brought itself stays. */
export function attachCodeCache(file: string, taskDir: string, entry: string): void {
  try {
    linkSync(file, join(taskDir, `${relative(`/${TASK_PATH}`, entry)}.cache`));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Evicted a moment ago, or there already: the function loads without it.
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
  }
}

async function linkTree(from: string, to: string, below: string, seen: Entry[]): Promise<void> {
  const entries = await readdir(join(from, below), { withFileTypes: true });
  await Promise.all(
    entries.map(async (entry) => {
      const path = join(below, entry.name);
      const target = join(to, path);
      if (entry.isDirectory()) {
        seen.push({ path, kind: 'folder' });
        await mkdir(target, { recursive: true, mode: 0o755 });
        await linkTree(from, to, path, seen);
      } else if (entry.isSymbolicLink()) {
        const linkTo = await readlink(join(from, path));
        seen.push({ path, kind: { linkTo } });
        await symlink(linkTo, target);
      } else {
        seen.push({ path, kind: 'file' });
        await link(join(from, path), target);
      }
    }),
  );
}
