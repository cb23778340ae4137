/**
 * Makes what an install left safe to be used on this host: files and folders become ours and read-only for others,
 * links that lead out of the tree and anything that is neither file, folder nor link are removed, and the size is
 * known. It runs after the last process of the sandbox is gone, so nothing moves while it looks.
 */
import { chmod, lchown, lstat, readdir, realpath, rm } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { DEPENDENCIES_BYTES_MAX, LAYER_ENTRIES_MAX } from '../../sdk/protocol/limits.ts';

const SETTLED_AT_ONCE = 16;

export interface SettledTree {
  readonly bytes: number;
  readonly entries: number;
}

/** Undefined when the folder has more than `bytesMax` bytes: the walk stops there. For a look while npm works. */
export async function tryMeasure(folder: string, bytesMax: number): Promise<number | undefined> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    const inside = entry.isDirectory()
      ? await tryMeasure(path, bytesMax - bytes)
      : ((await lstat(path).catch(() => undefined))?.size ?? 0);
    if (inside === undefined || bytes + inside > bytesMax) return undefined;
    bytes += inside;
  }
  return bytes;
}

/** @throws SkiffError BUILD_FAILED when there are too many files or bytes. */
export async function settleTree(root: string, uid: number): Promise<SettledTree> {
  const tree = { bytes: 0, entries: 0 };
  const real = await realpath(root);
  await settle(real, real, uid, tree);
  return tree;
}

async function settle(
  root: string,
  path: string,
  uid: number,
  tree: { bytes: number; entries: number },
): Promise<void> {
  const info = await lstat(path);
  tree.entries++;
  if (info.isFile()) tree.bytes += info.size;
  if (tree.bytes > DEPENDENCIES_BYTES_MAX || tree.entries > LAYER_ENTRIES_MAX) throw createTooLargeError();
  if (info.isSymbolicLink()) {
    if (!(await staysInside(root, path))) await rm(path);
    else await lchown(path, uid, uid);
    return;
  }
  if (!info.isFile() && !info.isDirectory()) return rm(path, { recursive: true });
  await lchown(path, uid, uid);
  await chmod(path, info.isDirectory() || (info.mode & 0o111) !== 0 ? 0o755 : 0o644);
  if (!info.isDirectory()) return;
  const names = await readdir(path);
  // Each entry is a few short waits for the disk: several at a time take a third of the time.
  for (let at = 0; at < names.length; at += SETTLED_AT_ONCE) {
    const some = names.slice(at, at + SETTLED_AT_ONCE);
    await Promise.all(some.map((name) => settle(root, join(path, name), uid, tree)));
  }
}

/** Asked of the kernel: the text of a link says little once it goes through other links. */
async function staysInside(root: string, link: string): Promise<boolean> {
  const target = await realpath(link).catch(() => '');
  return target === root || target.startsWith(root + sep);
}

export function createTooLargeError(): SkiffError {
  return new SkiffError(
    'BUILD_FAILED',
    `the dependencies take more than ${DEPENDENCIES_BYTES_MAX} bytes or ${LAYER_ENTRIES_MAX} files; drop some of them`,
  );
}
