/**
 * Merges unpacked layers into one root filesystem by hard links: no copy, one page cache, no overlay mount to set up
 * per sandbox. Whiteouts are applied here. The target is private to the store while it grows, and only folders that
 * are real folders of the target are entered, so links in a layer lead nowhere.
 */
import type { Dirent } from 'node:fs';
import { link, lstat, mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { SkiffError } from '../../../sdk/protocol/errors.ts';

/** Folders that every sandbox mounts something on. */
const MOUNT_POINTS = ['proc', 'dev', 'sys', 'tmp', 'run/skiff', 'var/task'];

/** Adds one layer on top of `root`. Returns the number of its entries. */
export async function mergeLayer(
  layer: string,
  root: string,
  removals: { readonly whiteouts: readonly string[]; readonly opaques: readonly string[] },
): Promise<number> {
  for (const path of removals.opaques) await removeContents(root, path);
  for (const path of removals.whiteouts) await removePath(root, path);
  return addTree(layer, root);
}

async function addTree(from: string, to: string): Promise<number> {
  const found = await readdir(from, { withFileTypes: true });
  const counts = await Promise.all(
    found.map((item) => addItem(item, join(from, item.name), join(to, item.name))),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

async function addItem(item: Dirent, source: string, target: string): Promise<number> {
  const there = await kindOf(target);
  if (item.isDirectory()) {
    if (there !== 'directory') {
      if (there !== undefined) await rm(target);
      await mkdir(target, { mode: 0o755 });
    }
    return 1 + (await addTree(source, target));
  }
  if (there !== undefined) await rm(target, { recursive: true });
  if (item.isSymbolicLink()) await symlink(await readlink(source), target);
  else await link(source, target);
  return 1;
}

async function removePath(root: string, path: string): Promise<void> {
  const place = await enter(root, path.split('/').slice(0, -1));
  if (place !== undefined)
    await rm(join(place, path.slice(path.lastIndexOf('/') + 1)), { recursive: true, force: true });
}

async function removeContents(root: string, path: string): Promise<void> {
  const place = await enter(root, path.split('/').filter(Boolean));
  if (place === undefined) return;
  for (const name of await readdir(place)) await rm(join(place, name), { recursive: true, force: true });
}

/** The folder below `root`, undefined when a part of the way is absent or no real folder. */
async function enter(root: string, parts: readonly string[]): Promise<string | undefined> {
  let place = root;
  for (const part of parts) {
    place = join(place, part);
    if ((await kindOf(place)) !== 'directory') return undefined;
  }
  return place;
}

async function kindOf(path: string): Promise<'directory' | 'other' | undefined> {
  try {
    return (await lstat(path)).isDirectory() ? 'directory' : 'other';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Creates missing mount points and replaces links in their place: the OCI runtime mounts on them as root, and a link
 * there would choose where. @throws SkiffError INVALID_SOURCE when the way to one is a file or a link
 */
export async function addMountPoints(root: string): Promise<void> {
  for (const point of MOUNT_POINTS) {
    const parts = point.split('/');
    let place = root;
    for (const [depth, part] of parts.entries()) {
      place = join(place, part);
      const kind = await kindOf(place);
      if (kind === 'directory') continue;
      const isLast = depth === parts.length - 1;
      if (kind === 'other') {
        if (!isLast)
          throw new SkiffError(
            'INVALID_SOURCE',
            `image has no folder at /${parts.slice(0, depth + 1).join('/')}, which sandboxes mount below`,
          );
        await rm(place);
      }
      await mkdir(place, { mode: 0o755 });
    }
  }
}
