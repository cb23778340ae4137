/** Files of the upload beside package.json that say which versions are installed. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { isFileWithin, type SourceTree } from '../../source/tree.ts';

export interface LockFile {
  readonly path: string;
  readonly text: string;
}

const LOCK_BYTES_MAX = 64 * 1024 * 1024;

/** The first of these that is an ordinary file in the root of the upload. @throws SkiffError INVALID_SOURCE */
export async function findLockText(
  tree: SourceTree,
  names: readonly string[],
): Promise<LockFile | undefined> {
  for (const name of names) {
    if (!tree.names.includes(name) || !(await isFileWithin(tree.root, name))) continue;
    const file = join(tree.root, name);
    const { size } = await stat(file);
    if (size > LOCK_BYTES_MAX)
      throw new SkiffError('INVALID_SOURCE', `${name} has ${size} bytes; the limit is ${LOCK_BYTES_MAX}`);
    return { path: name, text: await readFile(file, 'utf8') };
  }
  return undefined;
}
