/** esbuild's options for one function. */
import { findRuntime } from '../../infra/runtimes/catalog.ts';
import type { BuildOptions } from 'esbuild';
import { ASSET_LOADERS, chooseJsxImportSource } from '../../sdk/protocol/source/bundling.ts';
import type { ProjectTypescript } from './tsconfig.ts';
import type { PackageJson } from '../source/tree.ts';

export type BundleFormat = 'cjs' | 'esm';

/** Where the function's files are in every image. */
export const TASK_DIR = '/var/task';
export const BUNDLE_NAMES: Record<BundleFormat, string> = { cjs: 'index.cjs', esm: 'index.mjs' };

/** CommonJS packages in an ES module bundle need a `require`; esbuild keeps this name free. */
const ESM_BANNER = `import { createRequire as __skiffCreateRequire } from 'node:module'; const require = __skiffCreateRequire(import.meta.url);`;

export interface OptionsInput {
  readonly format: BundleFormat;
  /** Paths as esbuild sees them. */
  readonly root: string;
  readonly entry: string;
  readonly runtime: string;
  readonly packageJson: PackageJson | undefined;
  readonly typescript: ProjectTypescript;
  readonly preserveSymlinks: boolean;
  readonly setsNodeEnv: boolean;
}

/** What the bundler compiles for. */
export function chooseTarget(runtime: string): string {
  return findRuntime(runtime).bundleTarget ?? 'esnext';
}

export function createBuildOptions(input: OptionsInput) {
  const file = `${TASK_DIR}/${BUNDLE_NAMES[input.format]}`;
  const here = {
    [input.format === 'esm' ? '__filename' : 'import.meta.filename']: file,
    [input.format === 'esm' ? '__dirname' : 'import.meta.dirname']: TASK_DIR,
  };
  const constants = input.format === 'esm' ? here : { ...here, 'import.meta.url': `file://${file}` };
  return {
    absWorkingDir: input.root,
    entryPoints: [{ in: `./${input.entry}`, out: 'index' }],
    outdir: input.root,
    outExtension: { '.js': input.format === 'esm' ? '.mjs' : '.cjs' },
    bundle: true,
    write: false,
    metafile: true,
    format: input.format,
    platform: 'node',
    target: chooseTarget(input.runtime),
    external: [...(findRuntime(input.runtime).builtins ?? [])],
    sourcemap: 'linked',
    sourcesContent: true,
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'silent',
    logLimit: 0,
    loader: ASSET_LOADERS,
    preserveSymlinks: input.preserveSymlinks,
    ...(input.typescript.saysJsx
      ? {}
      : { jsx: 'automatic', jsxImportSource: chooseJsxImportSource(input.packageJson?.dependencies) }),
    ...(input.format === 'esm' ? { banner: { js: ESM_BANNER } } : {}),
    define: {
      ...Object.fromEntries(Object.entries(constants).map(([name, value]) => [name, JSON.stringify(value)])),
      // Libraries choose their production code by it; without it both variants are bundled.
      ...(input.setsNodeEnv ? {} : { 'process.env.NODE_ENV': '"production"' }),
    },
  } satisfies BuildOptions;
}
