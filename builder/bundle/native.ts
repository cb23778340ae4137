/**
 * npm packages with compiled addons. They cannot be bundled: they stay packages, are required by name, and travel
 * with everything they depend on in a layer of their own at /var/task/node_modules, which most redeploys reuse.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import type { Plugin } from 'esbuild';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { LAYER_ENTRIES_MAX } from '../../sdk/protocol/limits.ts';
import { PackageJson } from '../source/tree.ts';
import type { AssetFile } from './assets.ts';
import { PATTERN_META } from './confine.ts';

/** Packages that find a compiled addon for the package that depends on them. */
const ADDON_LOADERS: ReadonlySet<string> = new Set([
  'bindings',
  'node-gyp-build',
  'node-gyp-build-optional-packages',
  'node-pre-gyp',
  '@mapbox/node-pre-gyp',
  'prebuild-install',
  'node-bindings',
]);

export interface NativePackages {
  /** Names to leave out of the bundle, sorted. */
  readonly names: readonly string[];
  /** Those of them that have no compiled addon: it would have come from an install script. */
  readonly incomplete: readonly string[];
}

export const NO_NATIVE_PACKAGES: NativePackages = { names: [], incomplete: [] };

interface InstalledPackage {
  readonly name: string;
  /** Relative to the root, for example `node_modules/a/node_modules/b`. */
  readonly path: string;
  readonly manifest: PackageJson;
  readonly hasAddon: boolean;
}

/** Looks through `root`/node_modules once; the result belongs to an installed tree and is kept with it. */
export async function findNativePackages(root: string): Promise<NativePackages> {
  const packages = await listPackages(root, 'node_modules');
  const withAddon = new Set(packages.filter((each) => each.hasAddon).map((each) => each.name));
  const names = new Set(withAddon);
  const incomplete = new Set<string>();
  for (const each of packages) {
    const needs = [
      ...Object.keys(each.manifest.dependencies),
      ...Object.keys(each.manifest.optionalDependencies),
    ];
    const platformAddon = Object.keys(each.manifest.optionalDependencies).some((name) => withAddon.has(name));
    const loader = needs.some((name) => ADDON_LOADERS.has(name));
    if (platformAddon || loader) names.add(each.name);
    if (loader && !each.hasAddon && !needs.some((name) => withAddon.has(name))) incomplete.add(each.name);
  }
  return { names: [...names].sort(), incomplete: [...incomplete].sort() };
}

async function listPackages(root: string, folder: string, depth = 0): Promise<InstalledPackage[]> {
  if (depth > 32) return [];
  const packages: InstalledPackage[] = [];
  for (const entry of await tryList(join(root, folder))) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) continue;
    const path = `${folder}/${entry.name}`;
    if (entry.name.startsWith('@')) packages.push(...(await listPackages(root, path, depth + 1)));
    else packages.push(...(await readPackage(root, path, depth)));
  }
  return packages;
}

async function readPackage(root: string, path: string, depth: number): Promise<InstalledPackage[]> {
  const manifest = await tryReadManifest(join(root, path));
  if (!manifest) return [];
  const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const hasAddon = await hasFileEnding(join(root, path), '.node');
  return [
    { name, path, manifest, hasAddon },
    ...(await listPackages(root, `${path}/node_modules`, depth + 1)),
  ];
}

async function hasFileEnding(folder: string, end: string, depth = 0): Promise<boolean> {
  for (const entry of await tryList(folder)) {
    if (entry.isFile() && entry.name.endsWith(end)) return true;
    if (
      entry.isDirectory() &&
      entry.name !== 'node_modules' &&
      depth < 8 &&
      (await hasFileEnding(join(folder, entry.name), end, depth + 1))
    )
      return true;
  }
  return false;
}

async function tryList(folder: string) {
  return readdir(folder, { withFileTypes: true }).catch(() => []);
}

async function tryReadManifest(folder: string): Promise<PackageJson | undefined> {
  try {
    return PackageJson.parse(JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')));
  } catch {
    return undefined;
  }
}

/** Leaves the named packages out of the bundle and notes which of them the code really imports. */
export function keepNativePackages(names: readonly string[], used: Set<string>): Plugin {
  return {
    name: 'native-packages',
    setup(build) {
      if (names.length === 0) return;
      const filter = new RegExp(
        `^(?:${names.map((name) => name.replace(PATTERN_META, '\\$&')).join('|')})(?:/|$)`,
      );
      build.onResolve({ filter }, ({ path, kind }) => {
        if (kind === 'entry-point') return undefined;
        used.add(path.split('/', path.startsWith('@') ? 2 : 1).join('/'));
        return { path, external: true };
      });
    },
  };
}

/**
 * Files of the named packages and of everything they depend on, as Node would resolve it from the root, in place.
 * @throws SkiffError BUILD_FAILED when there are too many.
 */
export async function collectPackageFiles(root: string, names: readonly string[]): Promise<AssetFile[]> {
  const folders = new Set<string>();
  const queue = names.map((name) => ({ name, from: '' }));
  for (let next = queue.pop(); next; next = queue.pop()) {
    const found = await tryResolvePackage(root, next.name, next.from);
    if (!found || folders.has(found.path)) continue;
    folders.add(found.path);
    const { dependencies, optionalDependencies, peerDependencies } = found.manifest;
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }))
      queue.push({ name, from: found.path });
  }
  const files: AssetFile[] = [];
  for (const folder of [...folders].sort()) await addFiles(root, folder, files);
  return files;
}

async function tryResolvePackage(
  root: string,
  name: string,
  from: string,
): Promise<{ path: string; manifest: PackageJson } | undefined> {
  for (let folder = from; ; folder = dirname(folder)) {
    if (folder === '.') folder = '';
    if (posix.basename(folder) !== 'node_modules') {
      const path = posix.join(folder, 'node_modules', name);
      const manifest = await tryReadManifest(join(root, path));
      if (manifest) return { path, manifest };
    }
    if (folder === '') return undefined;
  }
}

async function addFiles(root: string, folder: string, files: AssetFile[]): Promise<void> {
  for (const entry of (await tryList(join(root, folder))).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory() && entry.name !== 'node_modules') await addFiles(root, path, files);
    if (entry.isFile()) files.push(await describeFile(root, path));
  }
  if (files.length > LAYER_ENTRIES_MAX)
    throw new SkiffError(
      'BUILD_FAILED',
      `packages with compiled addons have more than ${LAYER_ENTRIES_MAX} files`,
    );
}

async function describeFile(root: string, path: string): Promise<AssetFile> {
  const source = join(root, path);
  return { path, source, isExecutable: ((await stat(source)).mode & 0o111) !== 0 };
}
