/**
 * Bundles one function again and again, incrementally, into the same form that a deploy makes: one CommonJS module,
 * or an ES module when it awaits at the top level. Files keep their real location, so that assets are found where
 * they are. What the code means (loaders, JSX) comes from sdk/protocol/source/bundling.ts, as in the builder.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  type BuildContext,
  type BuildFailure,
  type BuildOptions,
  context,
  formatMessages,
  type Loader,
  type Plugin,
  transform,
} from 'esbuild';
import { ASSET_LOADERS, chooseJsxImportSource } from '../../protocol/source/bundling.ts';
import { keepNativePackages } from './native-packages.ts';
import type { DevFunction } from './project.ts';

export type BuildOutcome =
  | { readonly ok: true; readonly entry: string; readonly warnings: readonly string[] }
  | { readonly ok: false; readonly message: string };

type Format = 'cjs' | 'esm';

const AUTHORING = join(import.meta.dirname, '..', '..', 'authoring', 'index.ts');
const TOP_LEVEL_AWAIT = /^Top-level await is (?:currently )?not supported with the "cjs" output format/;
const NAMES: Readonly<Record<Format, string>> = { cjs: 'index.cjs', esm: 'index.mjs' };
const ESM_BANNER = `import { createRequire as __skiffCreateRequire } from 'node:module'; const require = __skiffCreateRequire(import.meta.url);`;

export interface BundlerOptions {
  readonly fn: DevFunction;
  /** Sources are named relative to it in stack traces. */
  readonly cwd: string;
  readonly hasColor: boolean;
}

export class FunctionBundler {
  readonly #options: BundlerOptions;
  #format: Format = 'cjs';
  #build: BuildContext | undefined;
  #inputs: ReadonlySet<string> = new Set();

  constructor(options: BundlerOptions) {
    this.#options = options;
  }

  /** Absolute paths of the files of the last build that succeeded. */
  get inputs(): ReadonlySet<string> {
    return this.#inputs;
  }

  /** Writes the bundle into `folder`. */
  async rebuild(folder: string): Promise<BuildOutcome> {
    try {
      return await this.#rebuildAs(folder);
    } catch (error) {
      if (!isBuildFailure(error)) throw error;
      if (this.#format === 'cjs' && error.errors.every(({ text }) => TOP_LEVEL_AWAIT.test(text))) {
        this.#format = 'esm';
        await this.close();
        return this.rebuild(folder);
      }
      const texts = await formatMessages(error.errors, { kind: 'error', color: this.#options.hasColor });
      return { ok: false, message: texts.join('').trim() };
    }
  }

  async close(): Promise<void> {
    await this.#build?.dispose();
    this.#build = undefined;
  }

  async #rebuildAs(folder: string): Promise<BuildOutcome> {
    this.#build ??= await context(createOptions(this.#options, this.#format));
    const { outputFiles = [], metafile, warnings } = await this.#build.rebuild();
    const { root } = this.#options.fn;
    this.#inputs = new Set(Object.keys(metafile?.inputs ?? {}).map((path) => resolve(root, path)));
    await mkdir(folder, { recursive: true });
    for (const { path, contents } of outputFiles) {
      await writeFile(join(folder, path.slice(this.#options.cwd.length)), contents);
    }
    const texts = await formatMessages(warnings, { kind: 'warning', color: this.#options.hasColor });
    return { ok: true, entry: join(folder, NAMES[this.#format]), warnings: texts.map((text) => text.trim()) };
  }
}

function createOptions({ fn, cwd, hasColor }: BundlerOptions, format: Format): BuildOptions {
  return {
    absWorkingDir: fn.root,
    entryPoints: [{ in: `./${fn.entry}`, out: 'index' }],
    // Nothing is written there: it is what sources are named relative to.
    outdir: cwd,
    sourceRoot: `${pathToFileURL(cwd).href}/`,
    outExtension: { '.js': format === 'esm' ? '.mjs' : '.cjs' },
    bundle: true,
    write: false,
    metafile: true,
    format,
    platform: 'node',
    target: `node${process.versions.node}`,
    sourcemap: 'linked',
    charset: 'utf8',
    color: hasColor,
    logLevel: 'silent',
    loader: ASSET_LOADERS,
    define: { 'process.env.NODE_ENV': '"development"' },
    ...(saysJsx(fn.root)
      ? {}
      : { jsx: 'automatic', jsxImportSource: chooseJsxImportSource(fn.dependencies) }),
    ...(format === 'esm' ? { banner: { js: ESM_BANNER } } : {}),
    plugins: [resolveAuthoring(), keepNativePackages(), keepLocations(fn.root)],
  };
}

/** esbuild reads the project's tsconfig.json itself; our own defaults must not win over it. */
function saysJsx(root: string): boolean {
  const file = ['tsconfig.json', 'jsconfig.json'].map((name) => join(root, name)).find(existsSync);
  return file !== undefined && /"(?:jsx|extends)"\s*:/.test(readFileSync(file, 'utf8'));
}

/** `import … from 'skiff'` is the SDK of this installation, whatever is installed in the project. */
function resolveAuthoring(): Plugin {
  return {
    name: 'authoring',
    setup(build) {
      build.onResolve({ filter: /^skiff$/ }, () => ({ path: AUTHORING, sideEffects: false }));
    },
  };
}

const MENTIONS = /\bimport\s*\.\s*meta\b|\b__dirname\b|\b__filename\b/;

/** Files of the project know where they are, although their code runs in a bundle elsewhere. */
function keepLocations(root: string): Plugin {
  return {
    name: 'locations',
    setup(build) {
      build.onLoad({ filter: /\.(?:[cm]?[jt]s|[jt]sx)$/, namespace: 'file' }, async ({ path }) => {
        if (path.includes('/node_modules/') || !path.startsWith(root)) return undefined;
        const text = await readFile(path, 'utf8');
        if (!MENTIONS.test(text)) return undefined;
        const loader: Loader = /\.[cm]?ts$/.test(path) ? 'ts' : path.endsWith('.tsx') ? 'tsx' : 'jsx';
        try {
          const { code } = await transform(text, {
            loader,
            sourcefile: path,
            sourcemap: 'inline',
            jsx: 'preserve',
            logLevel: 'silent',
            define: {
              'import.meta.url': JSON.stringify(pathToFileURL(path).href),
              'import.meta.filename': JSON.stringify(path),
              'import.meta.dirname': JSON.stringify(dirname(path)),
              __filename: JSON.stringify(path),
              __dirname: JSON.stringify(dirname(path)),
            },
          });
          return { contents: code, loader: 'jsx' };
        } catch {
          // A syntax error: the bundler finds it again and reports it with its line.
          return undefined;
        }
      });
    },
  };
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && Array.isArray((error as Partial<BuildFailure>).errors);
}
