/** Copies what the code reads at run time beside the bundle, at the same place relative to the root. */
import { realpath, readdir, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { SOURCE_ENTRIES_MAX } from '../../sdk/protocol/limits.ts';
import type { AssetReference } from './location.ts';

export interface AssetFile {
  /** Relative to /var/task. */
  readonly path: string;
  /** On this host. */
  readonly source: string;
  readonly isExecutable: boolean;
}

/**
 * Files behind the references, sorted by path, each once. A folder stands for everything in it but node_modules and
 * names that begin with a dot. What does not exist is left out: code often asks whether a file is there.
 * @throws SkiffError BUILD_FAILED for a path that leads outside the root.
 */
export async function collectAssets(
  root: string,
  references: readonly AssetReference[],
): Promise<AssetFile[]> {
  const files = new Map<string, AssetFile>();
  for (const { path, from } of references) {
    if (path === '..' || path.startsWith('../')) throw createOutsideError(path, from);
    await collect(root, path, from, files);
  }
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function collect(
  root: string,
  path: string,
  from: string,
  files: Map<string, AssetFile>,
): Promise<void> {
  let real: string;
  try {
    real = await realpath(join(root, path));
  } catch {
    return;
  }
  if (!real.startsWith(root + sep)) throw createOutsideError(path, from);
  const info = await stat(real);
  if (info.isFile()) {
    files.set(path, { path, source: real, isExecutable: (info.mode & 0o111) !== 0 });
    if (files.size > SOURCE_ENTRIES_MAX)
      throw new SkiffError(
        'BUILD_FAILED',
        `more than ${SOURCE_ENTRIES_MAX} files are read at run time by ${from}`,
      );
  } else if (info.isDirectory() && real === join(root, path)) {
    for (const name of (await readdir(real)).sort()) {
      if (name !== 'node_modules' && !name.startsWith('.'))
        await collect(root, `${path}/${name}`, from, files);
    }
  }
}

function createOutsideError(path: string, from: string): SkiffError {
  return new SkiffError(
    'BUILD_FAILED',
    `${from} reads "${path}", which is outside the function's folder; copy it into the folder`,
  );
}
