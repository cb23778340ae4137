/**
 * Which module of a folder is the function: one answer for a deploy (builder/source) and for local development.
 * Pure: it sees names and a parsed package.json, and asks whether a path is a file.
 */
import { SkiffError } from '../errors.ts';

/** Paths are relative to the folder, with "/" between the parts. */
export interface EntryQuestion {
  /** Names in the folder itself, sorted; folders end with "/". */
  readonly names: readonly string[];
  readonly packageJson: PackageEntries | undefined;
  /** As the user gave it, normalised. */
  readonly given: string | undefined;
  /** True for an ordinary file inside the folder. */
  readonly isFile: (path: string) => Promise<boolean>;
}

export interface PackageEntries {
  readonly source?: string | undefined;
  readonly exports?: unknown;
  readonly module?: string | undefined;
  readonly main?: string | undefined;
}

export interface FoundEntry {
  readonly entry: string;
  /** How it was found, for people. */
  readonly reason: string;
}

const EXTENSIONS = ['ts', 'tsx', 'mts', 'cts', 'js', 'jsx', 'mjs', 'cjs'] as const;
const CODE = /\.(?:[cm]?[jt]s|[jt]sx)$/;
/** Code files that never are the function itself. */
const NOT_ENTRY = /(?:\.d\.[cm]?ts|\.(?:test|spec|config|stories)\.[cm]?[jt]sx?)$/;
const CONDITIONS = ['node', 'import', 'module-sync', 'require', 'default'];

/** A file that could be a function by itself. */
export function isEntryName(name: string): boolean {
  return CODE.test(name) && !NOT_ENTRY.test(name);
}

/**
 * Undefined when there is no such module and nothing says that there should be.
 * @throws SkiffError INVALID_SOURCE when the given one is not there, or when several could be meant
 */
export async function tryFindEntry(question: EntryQuestion): Promise<FoundEntry | undefined> {
  const { names, packageJson, given, isFile } = question;
  if (given !== undefined) {
    if (!CODE.test(given)) return undefined;
    if (await isFile(given)) return { entry: given, reason: 'given' };
    throw new SkiffError(
      'INVALID_SOURCE',
      `entry "${given}" is not in the upload; it has ${listNames(names)}`,
    );
  }
  for (const { field, path } of listPackageEntries(packageJson)) {
    const file = await tryResolveFile(path, isFile);
    if (file !== undefined) return { entry: file, reason: `"${field}" of package.json` };
  }
  for (const folder of ['', 'src/']) {
    for (const extension of EXTENSIONS) {
      const path = `${folder}index.${extension}`;
      if (await isFile(path)) return { entry: path, reason: 'by its name' };
    }
  }
  const modules = names.filter(isEntryName);
  const [only] = modules;
  if (only !== undefined && modules.length === 1) return { entry: only, reason: 'the only module' };
  if (modules.length > 1 && packageJson === undefined) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `which module is the function? The upload has ${modules.slice(0, 8).join(', ')}; name one index.ts or give --entry`,
    );
  }
  return undefined;
}

export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 12).join(', ');
  return names.length > 12 ? `${shown} and ${names.length - 12} more` : shown;
}

/** `exports` first, as Node does; `source` is what bundlers use for code that has not been compiled. */
export function listPackageEntries(
  packageJson: PackageEntries | undefined,
): { field: string; path: string }[] {
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
async function tryResolveFile(path: string, isFile: EntryQuestion['isFile']): Promise<string | undefined> {
  const normal = tryNormalizePath(path);
  if (normal === undefined) return undefined;
  const stem = normal.replace(/\.([cm]?)js$/, '.$1ts');
  const guesses = [
    normal,
    stem,
    ...EXTENSIONS.map((extension) => `${normal}.${extension}`),
    ...EXTENSIONS.map((extension) => `${normal}/index.${extension}`),
  ];
  for (const guess of guesses) {
    if (CODE.test(guess) && (await isFile(guess))) return guess;
  }
  return undefined;
}

/** `./a//b` -> `a/b`; undefined when the path is absolute, leaves the folder or is the folder itself. */
export function tryNormalizePath(path: string): string | undefined {
  if (path.includes('\0') || path.startsWith('/')) return undefined;
  const parts: string[] = [];
  for (const part of path.replaceAll('\\', '/').split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.length === 0 ? undefined : parts.join('/');
}
