/** Containerfiles, under any of the names they go by. */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { isContainerfileName } from '../../sdk/protocol/source/containerfile-name.ts';
import { type DetectedSource, listNames, type SourceRequest } from './kind.ts';
import { isFileWithin, type SourceTree } from './tree.ts';

/** In the order in which they are tried. */
const NAMES = ['Containerfile', 'Dockerfile'];

export async function detectContainerfile(
  tree: SourceTree,
  { entry }: SourceRequest,
): Promise<DetectedSource | undefined> {
  if (entry === undefined) {
    const name = NAMES.find((one) => tree.names.includes(one));
    if (name === undefined || !(await isFileWithin(tree.root, name))) return undefined;
    return { language: 'containerfile', entry: name, reason: 'by its name' };
  }
  if (!isContainerfileName(entry)) return undefined;
  if (await isFileWithin(tree.root, entry)) return { language: 'containerfile', entry, reason: 'given' };
  throw new SkiffError('INVALID_SOURCE', `"${entry}" is not in the upload; it has ${listNames(tree)}`);
}
