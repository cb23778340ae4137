/**
 * Finds the files a deploy sends. A folder is sent whole, less what is ignored. A single file is sent with the files
 * it imports by a relative path, so that `skiff deploy hello.ts` in a folder of other things sends only hello's.
 */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve, sep } from 'node:path';
import { isContainerfileName } from '../../protocol/source/containerfile-name.ts';
import { CliFailure } from '../failure.ts';
import { readIgnoreRules, type IgnoreRules } from './ignore.ts';
import { tryFindWorkspace } from './workspace.ts';

export interface SourceFile {
  /** In the archive, with slashes. */
  readonly name: string;
  readonly path: string;
  readonly isExecutable: boolean;
}

export interface SourceFiles {
  readonly root: string;
  /** Sorted by name. */
  readonly files: readonly SourceFile[];
  /** In the archive: a module, a Containerfile or the folder of a package; absent where the server shall find it. */
  readonly entry?: string;
  /** Left out although nothing ignores them: links that lead outside. */
  readonly skipped: readonly string[];
}

export function findSource(path: string): SourceFiles {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new CliFailure(`${path} does not exist`);
  if (stat.isDirectory()) return findFolder(realpathSync(path));
  if (stat.isFile() && isContainerfileName(basename(path)))
    return { ...listFolder(realpathSync(dirname(path))), entry: basename(path) };
  if (stat.isFile()) return findFileWithImports(realpathSync(path));
  throw new CliFailure(`${path} is neither a file nor a folder`);
}

function findFolder(folder: string): SourceFiles {
  const workspace = tryFindWorkspace(folder);
  if (!workspace) return listFolder(folder);
  const { root } = workspace;
  const parts = workspace.needed.map((name) => ({ name, part: listFolder(join(root, name)) }));
  const files = [
    ...workspace.files.map((name) => describeFile(root, join(root, name))),
    ...parts.flatMap(({ part }) => part.files.map(({ path }) => describeFile(root, path))),
  ];
  const skipped = parts.flatMap(({ name, part }) => part.skipped.map((link) => `${name}/${link}`));
  return { root, files: sortByName(files), entry: workspace.folder, skipped };
}

function listFolder(root: string): SourceFiles {
  const files: SourceFile[] = [];
  const skipped: string[] = [];
  const visit = (folder: string, outer: IgnoreRules): void => {
    const rules = outer.enter(folder);
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (rules.isIgnored(path, entry.isDirectory())) continue;
      if (entry.isDirectory()) visit(path, rules);
      else if (entry.isFile()) files.push(describeFile(root, path));
      else if (entry.isSymbolicLink() && isFileInside(root, path)) files.push(describeFile(root, path));
      else skipped.push(relative(root, path));
    }
  };
  visit(root, readIgnoreRules(root));
  if (files.length === 0)
    throw new CliFailure(`${root} has no files to deploy`, {
      hint: 'is everything in .gitignore or .skiffignore?',
    });
  return { root, files: sortByName(files), skipped };
}

/** A link is sent as the file it leads to, if that is part of the source: a link itself means nothing elsewhere. */
function isFileInside(root: string, link: string): boolean {
  if (statSync(link, { throwIfNoEntry: false })?.isFile() !== true) return false;
  return realpathSync(link).startsWith(root + sep);
}

function describeFile(root: string, path: string): SourceFile {
  const name = relative(root, path).split(sep).join('/');
  return { name, path, isExecutable: (statSync(path).mode & 0o100) !== 0 };
}

/** By code unit and not by locale: the same source gives the same archive everywhere. */
function sortByName(files: readonly SourceFile[]): SourceFile[] {
  return files.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

const IMPORTING = new Set(['.ts', '.tsx', '.mts', '.cts', '.js', '.jsx', '.mjs', '.cjs']);
/** `from './x'`, `import './x'`, `import('./x')`, `require('./x')`, `new URL('./x', import.meta.url)`. */
const RELATIVE_IMPORT = /(?:\bfrom|\bimport|\brequire|\bURL)\s*\(?\s*(['"])(\.{1,2}\/[^'"\n]*)\1/g;
/** What the bundler tries, in its order; `.js` may stand for a `.ts` that it will be compiled from. */
const SUFFIXES = [
  '',
  '.tsx',
  '.ts',
  '.jsx',
  '.js',
  '.mts',
  '.mjs',
  '.cts',
  '.cjs',
  '.json',
  '/index.ts',
  '/index.js',
];
/** They say how the file is built, so they go with it when they are beside it. */
const COMPANIONS = [
  'package.json',
  'package-lock.json',
  'pnpm-lock.yaml',
  'pnpm-workspace.yaml',
  'yarn.lock',
  '.yarnrc.yml',
  'tsconfig.json',
  'requirements.txt',
  '.npmrc',
];

function findFileWithImports(entry: string): SourceFiles {
  const found = new Set<string>();
  const queue = [entry];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    if (IMPORTING.has(extname(path))) queue.push(...readRelativeImports(path));
  }
  const root = commonFolder([...found]);
  for (const name of COMPANIONS) {
    const path = join(dirname(entry), name);
    if (existsSync(path)) found.add(path);
  }
  const files = sortByName([...found].map((path) => describeFile(root, path)));
  return { root, files, entry: relative(root, entry).split(sep).join('/'), skipped: [] };
}

function readRelativeImports(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return [...text.matchAll(RELATIVE_IMPORT)].flatMap(([, , specifier]) => {
    const target = resolveImport(resolve(dirname(path), specifier as string));
    // Not found: the bundler says so better, with the line.
    return target === undefined ? [] : [target];
  });
}

function resolveImport(base: string): string | undefined {
  const bare = base.replace(/\.([cm]?)js(x?)$/, '');
  const candidates = [base, ...(bare === base ? [] : [bare])].flatMap((stem) =>
    SUFFIXES.map((suffix) => stem + suffix),
  );
  return candidates.find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}

function commonFolder(paths: readonly string[]): string {
  let folder = dirname(paths[0] as string);
  for (const path of paths) {
    while (folder !== dirname(folder) && !path.startsWith(folder + sep)) folder = dirname(folder);
  }
  return folder;
}

/** A function's name from where its source is: the package's name, else the file's or folder's. */
export function suggestName({ root, entry: found }: SourceFiles): string {
  // A Containerfile's own name says nothing.
  const entry = found !== undefined && isContainerfileName(found) ? undefined : found;
  const packageName =
    entry === undefined || isPackage(root, entry) ? readPackageName(join(root, entry ?? '')) : undefined;
  const stem = entry === undefined ? basename(root) : basename(entry, extname(entry));
  const folder = basename(entry === undefined ? root : dirname(join(root, entry)));
  const name = packageName ?? (stem === 'index' || stem === 'main' ? folder : stem);
  return toName(name);
}

/** The package of a monorepo. */
function isPackage(root: string, entry: string): boolean {
  return existsSync(join(root, entry, 'package.json'));
}

function readPackageName(root: string): string | undefined {
  try {
    const { name } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name?: unknown };
    return typeof name === 'string' ? name.replace(/^@[^/]+\//, '') : undefined;
  } catch {
    // Absent or broken: the builder reports a broken one with its line.
    return undefined;
  }
}

const NAME_CHARS_MAX = 63;

/** The nearest allowed name: `My App_2` gives `my-app-2`. Empty when nothing of it is allowed. */
export function toName(text: string): string {
  return text
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1-$2')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+/, '')
    .slice(0, NAME_CHARS_MAX)
    .replace(/-+$/, '');
}
