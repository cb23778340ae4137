/** JavaScript and TypeScript: a single file, or a folder with package.json or conventional names. */
import { join } from 'node:path';
import {
  type EntryQuestion,
  listNames,
  listPackageEntries,
  type PackageEntries,
  tryFindEntry,
} from '../../sdk/protocol/source/entry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { isContainerfileName } from '../../sdk/protocol/source/containerfile-name.ts';
import type { DetectedSource, SourceRequest } from './kind.ts';
import { isFileWithin, openSourceTree, type SourceTree } from './tree.ts';

export async function detectJavaScript(
  tree: SourceTree,
  request: SourceRequest,
): Promise<DetectedSource | undefined> {
  const isProgram = request.entry === undefined && hasContainerfile(tree);
  // Whoever wrote a Containerfile and no package.json did not mean one of the files to be a function.
  if (isProgram && !tree.packageJson) return undefined;
  const folder = request.entry === undefined ? undefined : await tryOpenPackage(tree, request.entry);
  const prefix = folder === undefined ? '' : `${request.entry}/`;
  const question: EntryQuestion = {
    names: (folder ?? tree).names,
    packageJson: (folder ?? tree).packageJson,
    given: folder === undefined ? request.entry : undefined,
    isFile: (path) => isFileWithin(tree.root, prefix + path),
  };
  const found = await tryFindEntry(question);
  if (found) return { language: 'javascript', ...found, entry: prefix + found.entry };
  // With a Containerfile beside it a package.json without an entry is a program, not a function.
  if (folder?.packageJson) throw createNoEntryError(folder, folder.packageJson);
  if (tree.packageJson && request.entry === undefined && !isProgram)
    throw createNoEntryError(tree, tree.packageJson);
  return undefined;
}

/** A package of a monorepo may be named instead of a module in it. */
async function tryOpenPackage(tree: SourceTree, entry: string): Promise<SourceTree | undefined> {
  if (!(await isFileWithin(tree.root, `${entry}/package.json`))) return undefined;
  return openSourceTree(join(tree.root, entry));
}

function hasContainerfile(tree: SourceTree): boolean {
  return tree.names.some(isContainerfileName);
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
