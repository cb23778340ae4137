/**
 * Packages with compiled addons stay packages: a bundle would lose the files beside their code. They are required by
 * their absolute path, as the bundle lies elsewhere.
 */
import { type Dirent, existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Plugin } from 'esbuild';

const BARE = /^(?:@[^/.][^/]*\/)?[^./@][^/]*/;
/** `build/Release/x.node` and `prebuilds/linux-x64/x.node` are the deepest that are usual. */
const DEPTH_MAX = 2;
/** What such packages use to find their addon. */
const FINDERS = ['bindings', 'node-gyp-build', '@mapbox/node-pre-gyp', 'prebuild-install', 'node-addon-api'];

export function keepNativePackages(): Plugin {
  const known = new Map<string, boolean>();
  return {
    name: 'native packages',
    setup(build) {
      build.onResolve({ filter: /^[^./]/ }, async ({ path, resolveDir, kind, pluginData }) => {
        const name = BARE.exec(path)?.[0];
        if (pluginData === known || name === undefined || path.startsWith('node:')) return undefined;
        const folder = tryFindPackage(resolveDir, name);
        if (folder === undefined) return undefined;
        let isNative = known.get(folder);
        if (isNative === undefined) known.set(folder, (isNative = hasAddon(folder)));
        if (!isNative) return undefined;
        const resolved = await build.resolve(path, { resolveDir, kind, pluginData: known });
        return resolved.errors.length > 0 ? undefined : { path: resolved.path, external: true };
      });
    },
  };
}

function tryFindPackage(from: string, name: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name);
    if (existsSync(join(candidate, 'package.json'))) return candidate;
    if (folder === dirname(folder)) return undefined;
  }
}

function hasAddon(folder: string): boolean {
  if (existsSync(join(folder, 'binding.gyp')) || hasAddonFile(folder)) return true;
  const { dependencies = {}, optionalDependencies = {} } = readPackage(folder);
  if (FINDERS.some((finder) => Object.hasOwn(dependencies, finder))) return true;
  // One package for each platform, of which at most one is installed: sharp, esbuild and napi-rs do so.
  return Object.keys(optionalDependencies).some((name) => {
    const platform = tryFindPackage(folder, name);
    return platform !== undefined && name.includes(process.platform) && hasAddonFile(platform);
  });
}

function hasAddonFile(folder: string, depth = 0): boolean {
  return list(folder).some((entry) => {
    if (!entry.isDirectory()) return entry.name.endsWith('.node');
    const isOther = entry.name === 'node_modules' || entry.name.startsWith('.');
    return !isOther && depth < DEPTH_MAX && hasAddonFile(join(folder, entry.name), depth + 1);
  });
}

interface Package {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

function readPackage(folder: string): Package {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Package;
  } catch {
    return {};
  }
}

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}
