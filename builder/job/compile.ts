/** From an uploaded source to the layers of its image: fetch, then detect, install and bundle. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type BuildJob, SOURCE_REPOSITORY } from '../../infra/contract/jobs.ts';
import type { LayerEntry } from '../../infra/oci/layer-pack.ts';
import { unpackArchive, type Unpacked } from '../../infra/oci/layer-unpack.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { FunctionConfig } from '../../sdk/protocol/manifest.ts';
import type { AssetFile } from '../bundle/assets.ts';
import { type Bundle, bundleFunction } from '../bundle/bundle.ts';
import type { BundlerEngine } from '../bundle/engine.ts';
import {
  collectPackageFiles,
  findNativePackages,
  type NativePackages,
  NO_NATIVE_PACKAGES,
} from '../bundle/native.ts';
import type { Dependencies, DependencyStore } from '../install/dependency-store.ts';
import type { Installer } from '../install/install.ts';
import { detectSource } from '../source/detect.ts';
import type { DetectedSource } from '../source/kind.ts';
import { openSourceTree, type SourceTree } from '../source/tree.ts';
import type { Progress } from './progress.ts';

export interface CompileParts {
  readonly registry: Registry;
  readonly engine: BundlerEngine;
  readonly installer: Pick<Installer, 'install' | 'release'>;
  readonly dependencies: DependencyStore;
  /** Sources are unpacked in folders below it. */
  readonly workFolder: string;
}

export interface CompiledFunction {
  /** Absolute path of the entry module in the image. */
  readonly entry: string;
  /** Bottom to top: packages that stay packages, then the function itself. */
  readonly layers: readonly { readonly entries: readonly LayerEntry[] }[];
}

/** A source on disk, and which build it belongs to. */
export interface FetchedSource {
  readonly tree: SourceTree;
  readonly job: BuildJob;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/**
 * Unpacks the source of a job for as long as `use` runs; afterwards nothing of it is left on disk.
 * @throws SkiffError INVALID_SOURCE, UNAVAILABLE; the reason of `signal`; what `use` throws.
 */
export async function withSource<Result>(
  parts: CompileParts,
  job: BuildJob,
  progress: Progress,
  signal: AbortSignal,
  use: (source: FetchedSource) => Promise<Result>,
): Promise<Result> {
  const folder = join(parts.workFolder, job.buildId);
  // A predecessor that died may have left its own.
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o711 });
  try {
    const { tree } = await progress.step(
      'fetch',
      () => fetchSource(parts, job, join(folder, 'src'), signal),
      ({ unpacked }) => `${unpacked.entries} entries, ${formatSize(unpacked.bytes)}`,
    );
    return await use({ tree, job, progress, signal });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * `use` is given the result while the files it names exist.
 * @throws SkiffError INVALID_SOURCE, BUILD_FAILED, UNAVAILABLE; the reason of `signal`.
 */
export async function compileFunction<Result>(
  parts: CompileParts,
  { tree, job, progress, signal }: FetchedSource,
  config: FunctionConfig,
  use: (compiled: CompiledFunction) => Promise<Result>,
): Promise<Result> {
  const source = await detectSource(tree, { entry: job.entry, runtime: config.runtime });
  progress.log('info', `entry module is ${source.entry} (${source.reason})`);
  let dependencies: Dependencies | undefined;
  try {
    dependencies = await progress.step(
      'install',
      () => install(parts, config, tree, progress, signal),
      describeDependencies,
    );
    const native = dependencies?.native ?? (await findVendoredNative(tree));
    const bundle = await progress.step(
      'bundle',
      () => bundleSource(parts, config, tree, source, dependencies, native, progress, signal),
      describeBundle,
    );
    warnIncomplete(bundle, native, progress);
    return await use(await collectLayers(tree.root, bundle));
  } finally {
    if (dependencies) parts.installer.release(dependencies);
  }
}

async function fetchSource(
  parts: CompileParts,
  job: BuildJob,
  target: string,
  signal: AbortSignal,
): Promise<{ tree: SourceTree; unpacked: Unpacked }> {
  let blob;
  try {
    blob = await parts.registry.pullBlob(SOURCE_REPOSITORY, job.source.digest, {
      bytes: job.source.bytes,
      signal,
    });
  } catch (error) {
    if (!(error instanceof SkiffError) || error.code !== 'NOT_FOUND') throw error;
    throw new SkiffError(
      'INVALID_SOURCE',
      `the uploaded source ${job.source.digest} is not there any more; upload it again`,
      { cause: error },
    );
  }
  const unpacked = await unpackArchive(blob, target, { policy: 'source', compression: 'detect' });
  signal.throwIfAborted();
  return { tree: await openSourceTree(target), unpacked };
}

async function install(
  parts: CompileParts,
  config: FunctionConfig,
  tree: SourceTree,
  progress: Progress,
  signal: AbortSignal,
): Promise<Dependencies | undefined> {
  const dependencies = await parts.installer.install({
    tree,
    runtime: config.runtime,
    signal,
    onLog: (level, line) => progress.log(level, line),
  });
  if (dependencies) await parts.dependencies.attach(dependencies, tree.root);
  return dependencies;
}

/** Packages that came with the upload. */
async function findVendoredNative(tree: SourceTree): Promise<NativePackages> {
  return tree.names.includes('node_modules/') ? findNativePackages(tree.root) : NO_NATIVE_PACKAGES;
}

function bundleSource(
  parts: CompileParts,
  config: FunctionConfig,
  tree: SourceTree,
  source: DetectedSource,
  dependencies: Dependencies | undefined,
  native: NativePackages,
  progress: Progress,
  signal: AbortSignal,
): Promise<Bundle> {
  return bundleFunction({
    root: tree.root,
    entry: source.entry,
    runtime: config.runtime,
    packageJson: tree.packageJson,
    env: config.env,
    dependencies: dependencies && !dependencies.hasLocalPackages ? dependencies.folder : undefined,
    native,
    engine: parts.engine,
    signal,
    onWarning: (text) => progress.log('warn', text),
  });
}

function warnIncomplete(bundle: Bundle, native: NativePackages, progress: Progress): void {
  for (const name of bundle.externals.filter((external) => native.incomplete.includes(external))) {
    progress.log(
      'warn',
      `package "${name}" gets its compiled addon from an install script, and install scripts are not run: it will probably not load`,
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
    layers: packages.length === 0 ? [own] : [{ entries: packages.map(toEntry) }, own],
  };
}

function toEntry({ path, source, isExecutable }: AssetFile): LayerEntry {
  return { path: `var/task/${path}`, file: source, isExecutable };
}

function formatSize(bytes: number): string {
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

function describeDependencies(dependencies: Dependencies | undefined): string {
  return dependencies ? `${formatSize(dependencies.bytes)} of packages` : 'nothing to install';
}

function describeBundle(bundle: Bundle): string {
  const bytes = bundle.outputs
    .filter(({ path }) => !path.endsWith('.map'))
    .reduce((sum, output) => sum + output.bytes.length, 0);
  const assets = bundle.assets.length === 0 ? '' : `, ${bundle.assets.length} assets`;
  const externals = bundle.externals.length === 0 ? '' : `, beside ${bundle.externals.join(', ')}`;
  return `${bundle.modules} modules, ${formatSize(bytes)}${assets}${externals}`;
}
