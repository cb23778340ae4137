/**
 * Turns a detected JavaScript or TypeScript source into the files of its function layer: one CommonJS module
 * `index.cjs` (or `index.mjs` when it awaits at the top level), its source map, and the assets it reads at run time.
 *
 * Invariants: the same source gives the same bytes on every host; nothing outside the source and its installed
 * packages is read, and no path of this host is in an output or a message; nothing of the source is executed.
 * Deliberately absent: installing packages (../install) and packing layers (../image).
 */
import type { BuildFailure, BuildOptions, BuildResult, Plugin } from 'esbuild';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BundleReport } from '../../sdk/protocol/source/bundle-report.ts';
import type { PackageJson } from '../source/tree.ts';
import { type AssetFile, collectAssets } from './assets.ts';
import { resolveAuthoring } from './authoring.ts';
import { confineTo } from './confine.ts';
import type { BundlerEngine } from './engine.ts';
import { toJailPath } from './jail.ts';
import { type AssetReference, keepLocations } from './location.ts';
import { describeMessages, type MessageContext } from './messages.ts';
import { keepNativePackages, type NativePackages } from './native.ts';
import { BUNDLE_NAMES, type BundleFormat, chooseTarget, createBuildOptions, TASK_DIR } from './options.ts';
import { createReport } from './analysis/report.ts';
import { findUnworkable } from './analysis/unworkable.ts';
import { type ProjectTypescript, readProjectTypescript } from './tsconfig.ts';

export interface BundleRequest {
  /** Real path of the source tree on this host. */
  readonly root: string;
  /** Entry module relative to the root. */
  readonly entry: string;
  readonly runtime: string;
  readonly packageJson: PackageJson | undefined;
  /** Names of the function's own environment variables. */
  readonly env: Readonly<Record<string, string>>;
  /** Host folder that `node_modules` in the root links to, when it is a link. */
  readonly dependencies: string | undefined;
  readonly native: NativePackages;
  readonly engine: BundlerEngine;
  readonly signal: AbortSignal;
  /** A warning with its code frame. */
  readonly onWarning: (text: string) => void;
}

export interface OutputFile {
  /** Relative to /var/task. */
  readonly path: string;
  readonly bytes: Buffer;
}

export interface Bundle {
  readonly format: BundleFormat;
  /** Absolute path of the entry module in the image. */
  readonly entry: string;
  /** Made by the bundler, sorted by path. */
  readonly outputs: readonly OutputFile[];
  /** Copied from the source as they are, sorted by path. */
  readonly assets: readonly AssetFile[];
  /** Packages that the code requires by name at run time. */
  readonly externals: readonly string[];
  /** Modules that went in. */
  readonly modules: number;
  readonly report: BundleReport;
}

const TOP_LEVEL_AWAIT = /^Top-level await is (?:currently )?not supported with the "cjs" output format/;
const WARNINGS_MAX = 50;

/** @throws SkiffError BUILD_FAILED with the messages and code frames; the reason of `signal` when it is aborted. */
export async function bundleFunction(request: BundleRequest): Promise<Bundle> {
  const typescript = await readProjectTypescript(request.root);
  try {
    return await bundleAs('cjs', request, typescript);
  } catch (error) {
    if (!isTopLevelAwait(error)) throw error;
    return bundleAs('esm', request, typescript);
  }
}

class MessagesError extends Error {
  override name = 'MessagesError';
  readonly failure: BuildFailure;
  constructor(failure: BuildFailure) {
    super('the bundler reported errors');
    this.failure = failure;
  }
}

function isTopLevelAwait(error: unknown): boolean {
  const messages =
    error instanceof SkiffError && error.cause instanceof MessagesError ? error.cause.failure.errors : [];
  return messages.length > 0 && messages.every((message) => TOP_LEVEL_AWAIT.test(message.text));
}

async function bundleAs(
  format: BundleFormat,
  request: BundleRequest,
  typescript: ProjectTypescript,
): Promise<Bundle> {
  const root = toJailPath(request.engine.jail, request.root);
  const references: AssetReference[] = [];
  const externals = new Set<string>();
  const messages = createMessageContext(request, root);
  const options = createBuildOptions({
    ...request,
    format,
    root,
    typescript,
    preserveSymlinks: request.dependencies !== undefined,
    setsNodeEnv: Object.hasOwn(request.env, 'NODE_ENV'),
  });
  const plugins: Plugin[] = [
    resolveAuthoring(),
    keepNativePackages(request.native.names, externals),
    keepLocations({
      esbuildRoot: root,
      hostRoot: request.root,
      taskDir: TASK_DIR,
      target: chooseTarget(request.runtime),
      esbuild: request.engine.esbuild,
      compilerOptions: typescript.compilerOptions,
      onAssets: (found) => references.push(...found),
    }),
    confineTo(
      [
        root,
        ...(request.dependencies === undefined
          ? []
          : [toJailPath(request.engine.jail, request.dependencies)]),
      ],
      messages.hide,
    ),
  ];
  const result = await runOrDescribe({ ...options, plugins }, request, messages);
  for (const text of await describeMessages(result.warnings.slice(0, WARNINGS_MAX), 'warning', messages))
    request.onWarning(text);
  const metafile = result.metafile ?? { inputs: {}, outputs: {} };
  for (const text of findUnworkable(metafile)) request.onWarning(text);
  const assets = await collectAssets(request.root, references);
  const names = [...externals].sort();
  return {
    format,
    entry: `${TASK_DIR}/${BUNDLE_NAMES[format]}`,
    outputs: readOutputs(result, root),
    assets,
    externals: names,
    modules: Object.keys(metafile.inputs).length,
    report: createReport({ metafile, externals: names, assets: assets.length }),
  };
}

async function runOrDescribe(
  options: BuildOptions,
  request: BundleRequest,
  messages: MessageContext,
): Promise<BuildResult> {
  try {
    return await request.engine.build(options, request.signal);
  } catch (error) {
    if (!isBuildFailure(error)) throw error;
    const texts = await describeMessages(error.errors, 'error', messages);
    throw new SkiffError('BUILD_FAILED', texts.join('\n\n'), { cause: new MessagesError(error) });
  }
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && Array.isArray((error as Partial<BuildFailure>).errors);
}

function createMessageContext(request: BundleRequest, root: string): MessageContext {
  const hidden = [
    request.root,
    root,
    request.dependencies ?? root,
    toJailPath(request.engine.jail, request.dependencies ?? request.root),
  ];
  const prefixes = [...new Set(hidden)].sort((a, b) => b.length - a.length);
  return {
    esbuild: request.engine.esbuild,
    hide: (text) =>
      prefixes.reduce((result, prefix) => result.replaceAll(`${prefix}/`, '').replaceAll(prefix, '.'), text),
    dependencies: { ...request.packageJson?.dependencies, ...request.packageJson?.optionalDependencies },
    devDependencies: request.packageJson?.devDependencies ?? {},
  };
}

function readOutputs(result: BuildResult, root: string): OutputFile[] {
  const files = (result.outputFiles ?? []).map(({ path, contents }) => ({
    path: path.slice(root.length + 1),
    bytes: Buffer.from(contents.buffer, contents.byteOffset, contents.byteLength),
  }));
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}
