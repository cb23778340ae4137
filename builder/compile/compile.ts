/**
 * From a source on disk to the layers of its image, one way for each language.
 * Invariant: nothing of a source is executed here, and what a way makes depends on the source, the configuration and
 * the installed packages alone.
 */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BundleReport } from '../../sdk/protocol/source/bundle-report.ts';
import type { LayerEntry } from '../../infra/oci/layer-pack.ts';
import type { LayerDescriptor } from '../../infra/oci/store.ts';
import type { Language } from '../../infra/runtimes/contract.ts';
import type { FunctionConfig } from '../../sdk/protocol/manifest.ts';
import type { BundlerEngine } from '../bundle/engine.ts';
import type { Dependencies, DependencyStore } from '../install/dependency-store.ts';
import type { Installer } from '../install/install.ts';
import { detectSource } from '../source/detect.ts';
import type { DetectedSource } from '../source/kind.ts';
import { compileJavaScript } from './javascript.ts';
import { compilePython } from './python.ts';
import { type FetchedSource, formatSize, type SourceParts } from './source.ts';

export interface CompileParts extends SourceParts {
  readonly engine: BundlerEngine;
  readonly installer: Pick<Installer, 'install' | 'release'>;
  readonly dependencies: DependencyStore;
}

export interface CompiledFunction {
  /** Absolute path of the entry module in the image. */
  readonly entry: string;
  /** Of a bundle. */
  readonly report?: BundleReport;
  /** Bottom to top: packages that stay packages, then the function itself. */
  readonly layers: readonly (
    | { readonly entries: readonly LayerEntry[] }
    | { readonly packed: LayerDescriptor; readonly file: string }
  )[];
}

/** What a language's way is given: a source, where its entry is, and its packages installed. */
export interface CompileInput {
  readonly engine: BundlerEngine;
  readonly source: FetchedSource;
  readonly detected: DetectedSource;
  readonly config: FunctionConfig;
  readonly dependencies: Dependencies | undefined;
}

const WAYS: Readonly<Record<Language, (input: CompileInput) => Promise<CompiledFunction>>> = {
  javascript: compileJavaScript,
  python: compilePython,
};

/**
 * `use` is given the result while the files it names exist.
 * @throws SkiffError INVALID_SOURCE, BUILD_FAILED, UNAVAILABLE; the reason of the source's signal.
 */
export async function compileFunction<Result>(
  parts: CompileParts,
  source: FetchedSource,
  config: FunctionConfig,
  use: (compiled: CompiledFunction) => Promise<Result>,
): Promise<Result> {
  const { tree, job, progress } = source;
  const detected = await detectSource(tree, { entry: job.entry, runtime: config.runtime });
  const { language } = detected;
  if (language === 'containerfile') throw new SkiffError('INTERNAL', 'a Containerfile is no module');
  progress.log('info', `entry module is ${detected.entry} (${detected.reason})`);
  let dependencies: Dependencies | undefined;
  try {
    dependencies = await progress.step(
      'install',
      () => install(parts, source, config, language),
      describeDependencies,
    );
    const { engine } = parts;
    return await use(await WAYS[language]({ engine, source, detected, config, dependencies }));
  } finally {
    if (dependencies) parts.installer.release(dependencies);
  }
}

async function install(
  parts: CompileParts,
  { tree, progress, signal }: FetchedSource,
  config: FunctionConfig,
  language: Language,
): Promise<Dependencies | undefined> {
  const dependencies = await parts.installer.install({
    tree,
    language,
    runtime: config.runtime,
    mayRunScripts: config.build.installScripts,
    signal,
    onLog: (level, line) => progress.log(level, line),
  });
  if (dependencies && language === 'javascript') await parts.dependencies.attach(dependencies, tree.root);
  return dependencies;
}

function describeDependencies(dependencies: Dependencies | undefined): string {
  return dependencies ? `${formatSize(dependencies.bytes)} of packages` : 'nothing to install';
}
