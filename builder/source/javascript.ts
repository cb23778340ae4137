/** JavaScript and TypeScript: a single file, or a folder with package.json or conventional names. */
import { posix } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { type DetectedSource, listNames, type SourceRequest } from './kind.ts';
import { isFileWithin, type PackageJson, type SourceTree, tryNormalizePath } from './tree.ts';

const EXTENSIONS = ['ts', 'tsx', 'mts', 'cts', 'js', 'jsx', 'mjs', 'cjs'] as const;
const CODE = /\.(?:[cm]?[jt]s|[jt]sx)$/;
/** Code files that never are the function itself. */
const NOT_ENTRY = /(?:\.d\.[cm]?ts|\.(?:test|spec|config|stories)\.[cm]?[jt]sx?)$/;
const CONDITIONS = ['node', 'import', 'module-sync', 'require', 'default'];

export async function detectJavaScript(
  tree: SourceTree,
  request: SourceRequest,
): Promise<DetectedSource | undefined> {
  const found = await tryFindEntry(tree, request.entry);
  if (found && !request.runtime.startsWith('node:')) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `runtime "${request.runtime}" cannot run ${found.entry} yet; use node:22, node:24 or node:26`,
    );
  }
  if (found) return { kind: 'javascript', ...found };
  if (tree.packageJson && request.entry === undefined) throw createNoEntryError(tree, tree.packageJson);
  return undefined;
}

async function tryFindEntry(
  tree: SourceTree,
  entry: string | undefined,
): Promise<{ entry: string; reason: string } | undefined> {
  if (entry !== undefined) {
    if (!CODE.test(entry)) return undefined;
    if (await isFileWithin(tree.root, entry)) return { entry, reason: 'given' };
    throw new SkiffError(
      'INVALID_SOURCE',
      `entry "${entry}" is not in the upload; it has ${listNames(tree)}`,
    );
  }
  for (const { field, path } of listPackageEntries(tree.packageJson)) {
    const file = await tryResolveFile(tree.root, path);
    if (file !== undefined) return { entry: file, reason: `"${field}" of package.json` };
  }
  for (const folder of ['', 'src/']) {
    for (const extension of EXTENSIONS) {
      const path = `${folder}index.${extension}`;
      if (await isFileWithin(tree.root, path)) return { entry: path, reason: 'by its name' };
    }
  }
  const modules = tree.names.filter((name) => CODE.test(name) && !NOT_ENTRY.test(name));
  const [only] = modules;
  if (only !== undefined && modules.length === 1) return { entry: only, reason: 'the only module' };
  if (modules.length > 1 && tree.packageJson === undefined) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `which module is the function? The upload has ${modules.slice(0, 8).join(', ')}; name one index.ts or give --entry`,
    );
  }
  return undefined;
}

function createNoEntryError(tree: SourceTree, packageJson: PackageJson): SkiffError {
  const named = listPackageEntries(packageJson).map(
    ({ field, path }) => `"${field}" names ${path}, which is not in the upload`,
  );
  const why = named.length > 0 ? named.join('; ') : 'package.json has no "main", "module" or "exports"';
  return new SkiffError(
    'INVALID_SOURCE',
    `no entry module found: ${why}, and there is no index.* or src/index.*; the upload has ${listNames(tree)}; give --entry`,
  );
}

/** `exports` first, as Node does; `source` is what bundlers use for code that has not been compiled. */
export function listPackageEntries(packageJson: PackageJson | undefined): { field: string; path: string }[] {
  if (!packageJson) return [];
  const candidates: [string, string | undefined][] = [
    ['source', packageJson.source],
    ['exports', tryReadExports(packageJson.exports)],
    ['module', packageJson.module],
    ['main', packageJson.main],
  ];
  return candidates.flatMap(([field, path]) => (path === undefined ? [] : [{ field, path }]));
}

function tryReadExports(exports: unknown, depth = 0): string | undefined {
  if (typeof exports === 'string') return exports;
  if (depth > 8 || typeof exports !== 'object' || exports === null) return undefined;
  if (Array.isArray(exports)) {
    for (const item of exports) {
      const found = tryReadExports(item, depth + 1);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  const record = exports as Record<string, unknown>;
  for (const key of '.' in record ? ['.'] : CONDITIONS) {
    if (!Object.hasOwn(record, key)) continue;
    const found = tryReadExports(record[key], depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The path itself, with an extension, as a folder, or the TypeScript file a compiled name came from. */
async function tryResolveFile(root: string, path: string): Promise<string | undefined> {
  const normal = tryNormalizePath(path);
  if (normal === undefined) return undefined;
  const stem = normal.replace(/\.([cm]?)js$/, '.$1ts');
  const guesses = [
    normal,
    stem,
    ...EXTENSIONS.map((extension) => `${normal}.${extension}`),
    ...EXTENSIONS.map((extension) => posix.join(normal, `index.${extension}`)),
  ];
  for (const guess of guesses) {
    if (CODE.test(guess) && (await isFileWithin(root, guess))) return guess;
  }
  return undefined;
}
