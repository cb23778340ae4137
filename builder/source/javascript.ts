/** JavaScript and TypeScript: a single file, or a folder with package.json or conventional names. */
import {
  type EntryQuestion,
  listNames,
  listPackageEntries,
  type PackageEntries,
  tryFindEntry,
} from '../../sdk/protocol/source/entry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { DetectedSource, SourceRequest } from './kind.ts';
import { isFileWithin, type SourceTree } from './tree.ts';

export async function detectJavaScript(
  tree: SourceTree,
  request: SourceRequest,
): Promise<DetectedSource | undefined> {
  const question: EntryQuestion = {
    names: tree.names,
    packageJson: tree.packageJson,
    given: request.entry,
    isFile: (path) => isFileWithin(tree.root, path),
  };
  const found = await tryFindEntry(question);
  if (found) return { language: 'javascript', ...found };
  if (tree.packageJson && request.entry === undefined) throw createNoEntryError(tree, tree.packageJson);
  return undefined;
}

function createNoEntryError(tree: SourceTree, packageJson: PackageEntries): SkiffError {
  const named = listPackageEntries(packageJson).map(
    ({ field, path }) => `"${field}" names ${path}, which is not in the upload`,
  );
  const why = named.length > 0 ? named.join('; ') : 'package.json has no "main", "module" or "exports"';
  return new SkiffError(
    'INVALID_SOURCE',
    `no entry module found: ${why}, and there is no index.* or src/index.*; the upload has ${listNames(tree.names)}; give --entry`,
  );
}
