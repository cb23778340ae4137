/** Which functions a path holds: one module, one folder, or a folder of several. */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { isEntryName, type PackageEntries, tryFindEntry } from '../../protocol/source/entry.ts';
import { SkiffError } from '../../protocol/errors.ts';

export interface DevFunction {
  readonly name: string;
  /** Absolute folder that relative paths of the function mean. */
  readonly root: string;
  /** Entry module relative to the root. */
  readonly entry: string;
  /** Names of packages of its package.json. */
  readonly dependencies: Readonly<Record<string, string>>;
  /** Configuration from outside the code, as a deploy would send it. */
  readonly config?: Readonly<Record<string, unknown>>;
}

interface Package extends PackageEntries {
  readonly name?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

/**
 * A module is a function. A folder with an entry module is one; otherwise each of its modules and each subfolder with
 * an entry module is.
 * @param toName makes a function's name of a package's, file's or folder's name
 * @throws SkiffError INVALID_SOURCE when there is none
 */
export async function findFunctions(path: string, toName: (text: string) => string): Promise<DevFunction[]> {
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) throw new SkiffError('INVALID_SOURCE', `${path} does not exist`);
  if ((await stat(real)).isFile()) {
    const root = dirname(real);
    return [await describe(root, basename(real), toName(stem(real)), await tryReadPackage(root))];
  }
  const own = await tryFindInFolder(real, toName);
  if (own) return [own];
  const found = await findInside(real, toName);
  if (found.length > 0) return found;
  throw new SkiffError(
    'INVALID_SOURCE',
    `${path} has no function: no package.json with an entry module, no index.* or src/index.*, and no folder or module that could be one`,
  );
}

async function tryFindInFolder(
  root: string,
  toName: (text: string) => string,
): Promise<DevFunction | undefined> {
  const packageJson = await tryReadPackage(root);
  const found = await tryFindEntry({
    // Without the names of single modules: several of them are several functions here.
    names: [],
    packageJson,
    given: undefined,
    isFile: (path) => isFile(join(root, path)),
  });
  if (!found) return undefined;
  const named = packageJson?.name?.replace(/^@[^/]+\//, '');
  return describe(root, found.entry, toName(named ?? basename(root)), packageJson);
}

const SKIPPED = new Set(['node_modules', 'dist', 'build', 'test', 'tests']);

async function findInside(root: string, toName: (text: string) => string): Promise<DevFunction[]> {
  const found: DevFunction[] = [];
  const entries = await readdir(root, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.') || SKIPPED.has(entry.name)) continue;
    const path = join(root, entry.name);
    if (entry.isDirectory()) {
      const one = await tryFindInFolder(path, toName);
      if (one) found.push(one);
    } else if (entry.isFile() && isEntryName(entry.name)) {
      found.push(await describe(root, entry.name, toName(stem(path)), await tryReadPackage(root)));
    }
  }
  return found;
}

async function describe(
  root: string,
  entry: string,
  name: string,
  packageJson: Package | undefined,
): Promise<DevFunction> {
  const fallback = name === '' ? 'function' : name;
  return { name: fallback, root, entry, dependencies: packageJson?.dependencies ?? {} };
}

/** A module that is called index is named by its folder. */
function stem(path: string): string {
  const name = basename(path, extname(path));
  return name === 'index' || name === 'main' ? basename(dirname(path)) : name;
}

async function tryReadPackage(root: string): Promise<Package | undefined> {
  try {
    return JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as Package;
  } catch {
    // Absent or broken: a deploy says what is wrong with it.
    return undefined;
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true;
}
