/** JavaScript and TypeScript: one bundle with its map and assets; packages with compiled addons stay beside it. */
import type { LayerEntry } from '../../infra/oci/layer-pack.ts';
import type { AssetFile } from '../bundle/assets.ts';
import { type Bundle, bundleFunction } from '../bundle/bundle.ts';
import {
  collectPackageFiles,
  findNativePackages,
  type NativePackages,
  NO_NATIVE_PACKAGES,
} from '../bundle/native.ts';
import type { Progress } from '../job/progress.ts';
import type { SourceTree } from '../source/tree.ts';
import type { CompiledFunction, CompileInput } from './compile.ts';
import { formatSize } from './source.ts';

export async function compileJavaScript(input: CompileInput): Promise<CompiledFunction> {
  const { tree, progress } = input.source;
  const native = input.dependencies?.native ?? (await findVendoredNative(tree));
  const bundle = await progress.step('bundle', () => bundleSource(input, native), describeBundle);
  warnIncomplete(bundle, native, progress);
  return collectLayers(tree.root, bundle);
}

/** Packages that came with the upload. */
async function findVendoredNative(tree: SourceTree): Promise<NativePackages> {
  return tree.names.includes('node_modules/') ? findNativePackages(tree.root) : NO_NATIVE_PACKAGES;
}

function bundleSource(
  { engine, source, detected, config, dependencies }: CompileInput,
  native: NativePackages,
): Promise<Bundle> {
  const { tree, progress, signal } = source;
  return bundleFunction({
    root: tree.root,
    entry: detected.entry,
    runtime: config.runtime,
    packageJson: tree.packageJson,
    env: config.env,
    dependencies: dependencies && !dependencies.hasLocalPackages ? dependencies.folder : undefined,
    native,
    engine,
    signal,
    onWarning: (text) => progress.log('warn', text),
  });
}

function warnIncomplete(bundle: Bundle, native: NativePackages, progress: Progress): void {
  for (const name of bundle.externals.filter((external) => native.incomplete.includes(external))) {
    progress.log(
      'warn',
      `package "${name}" gets its compiled addon from an install script, and install scripts are not run: it will probably not load (build.installScripts runs them)`,
    );
  }
}

async function collectLayers(root: string, bundle: Bundle): Promise<CompiledFunction> {
  const packages = await collectPackageFiles(root, bundle.externals);
  const outputs = new Map<string, LayerEntry>(
    bundle.outputs.map(({ path, bytes }) => [path, { path: `var/task/${path}`, data: bytes }]),
  );
  const assets = bundle.assets.filter(({ path }) => !outputs.has(path)).map(toEntry);
  const own = { entries: [...outputs.values(), ...assets] };
  return {
    entry: bundle.entry,
    report: bundle.report,
    layers: packages.length === 0 ? [own] : [{ entries: packages.map(toEntry) }, own],
  };
}

function toEntry({ path, source, isExecutable }: AssetFile): LayerEntry {
  return { path: `var/task/${path}`, file: source, isExecutable };
}

function describeBundle(bundle: Bundle): string {
  const bytes = bundle.outputs
    .filter(({ path }) => !path.endsWith('.map'))
    .reduce((sum, output) => sum + output.bytes.length, 0);
  const assets = bundle.assets.length === 0 ? '' : `, ${bundle.assets.length} assets`;
  const externals = bundle.externals.length === 0 ? '' : `, beside ${bundle.externals.join(', ')}`;
  return `${bundle.modules} modules, ${formatSize(bytes)}${assets}${externals}`;
}
