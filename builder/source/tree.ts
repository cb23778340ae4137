/**
 * An unpacked source tree as the detectors see it: paths relative to its root with "/" between the parts.
 * Invariant: nothing outside the root is ever looked at, whatever a path or a symbolic link says.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';

export { tryNormalizePath } from '../../sdk/protocol/source/entry.ts';

const PACKAGE_JSON_BYTES_MAX = 1024 * 1024;
const Names = z.record(z.string(), z.string()).catch({});

/** What the builder reads of a package.json; wrong types of other fields are no reason to refuse it. */
export const PackageJson = z.looseObject({
  name: z.string().optional().catch(undefined),
  type: z.string().optional().catch(undefined),
  main: z.string().optional().catch(undefined),
  module: z.string().optional().catch(undefined),
  source: z.string().optional().catch(undefined),
  exports: z.unknown().optional(),
  workspaces: z.unknown().optional(),
  dependencies: Names,
  devDependencies: Names,
  optionalDependencies: Names,
  peerDependencies: Names,
});
export type PackageJson = z.output<typeof PackageJson>;

export interface SourceTree {
  /** Absolute real path on the host. */
  readonly root: string;
  /** Names in the root folder, sorted; folders end with "/". */
  readonly names: readonly string[];
  readonly packageJson: PackageJson | undefined;
}

export async function openSourceTree(folder: string): Promise<SourceTree> {
  const root = await realpath(folder);
  const entries = await readdir(root, { withFileTypes: true });
  const names = entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name)).sort();
  if (names.length === 0)
    throw new SkiffError('INVALID_SOURCE', 'the upload is empty; there must be at least one file');
  const packageJson = names.includes('package.json') ? await readPackageJson(root) : undefined;
  return { root, names, packageJson };
}

async function readPackageJson(root: string): Promise<PackageJson> {
  if (!(await isFileWithin(root, 'package.json'))) {
    throw new SkiffError(
      'INVALID_SOURCE',
      'package.json is not a file of the upload; it must be an ordinary file',
    );
  }
  const file = join(root, 'package.json');
  const { size } = await stat(file);
  if (size > PACKAGE_JSON_BYTES_MAX) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `package.json has ${size} bytes; the limit is ${PACKAGE_JSON_BYTES_MAX}`,
    );
  }
  try {
    return PackageJson.parse(JSON.parse((await readFile(file, 'utf8')).replace(/^\uFEFF/, '')));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : 'it is not an object';
    throw new SkiffError('INVALID_SOURCE', `package.json cannot be read: ${reason}`, { cause: error });
  }
}

/** True for an ordinary file whose real path is below `root`. */
export async function isFileWithin(root: string, path: string): Promise<boolean> {
  try {
    const real = await realpath(join(root, path));
    return real.startsWith(root + sep) && (await stat(real)).isFile();
  } catch {
    return false;
  }
}
