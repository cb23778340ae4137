/**
 * Loads a function's module and finds its handler. CommonJS bundles may come with a V8 code cache (`<entry>.cache`,
 * made by the same runtime); it is used when V8 accepts it and ignored otherwise.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire, Module } from 'node:module';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import type { CodeCacheUse } from '../protocol/invocation.ts';
import type { Handler } from './channel/invocation.ts';
import { installWebGlobals, shadowWebNames } from './web/globals.ts';

/** What loading gives. */
export interface LoadedFunction {
  readonly handler: Handler;
  /** Of modules whose compiled code can be kept: those of some size, in CommonJS. */
  readonly codeCache?: { readonly use: CodeCacheUse; create(): Buffer };
}

/** In less source than this there is nothing to gain; of 20 KB, compiling and a first call take three times as long without. */
const CACHED_SOURCE_UNITS_MIN = 8 * 1024;

export async function loadFunction(entry: string): Promise<LoadedFunction> {
  shadowWebNames();
  if (entry.endsWith('.mjs'))
    return { handler: resolveHandler(await import(pathToFileURL(entry).href), entry) };
  const source = readFileSync(entry, 'utf8');
  if (reachesGlobals(source)) installWebGlobals();
  const cache = `${entry}.cache`;
  const script = compileModule(entry, source, existsSync(cache) ? readFileSync(cache) : undefined);
  const handler = resolveHandler(runModule(entry, script), entry);
  if (source.length < CACHED_SOURCE_UNITS_MIN) return { handler };
  const { cachedDataRejected } = script;
  const use = cachedDataRejected === undefined ? 'absent' : cachedDataRejected ? 'rejected' : 'used';
  return { handler, codeCache: { use, create: () => script.createCachedData() } };
}

/** Code that names the classes as properties of the global object must find ours there. */
export function reachesGlobals(source: string): boolean {
  return /\b(?:globalThis|global|self|window)\b\s*(?:\?\.|\.|\[\s*["'`])\s*(?:Request|Response|Headers|fetch)\b/.test(
    source,
  );
}

const HEAD = '(function (exports, require, module, __filename, __dirname) { ';

export function compileModule(entry: string, source: string, cachedData?: Buffer): vm.Script {
  return new vm.Script(`${HEAD}${source}\n})`, {
    filename: entry,
    // Positions in stack traces, and so in source maps, are those of the file.
    columnOffset: -HEAD.length,
    ...(cachedData ? { cachedData } : {}),
    importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
}

/** What `require` does with the compiled code; returns the exports. */
export function runModule(entry: string, script: vm.Script): unknown {
  const module = new Module(entry);
  module.filename = entry;
  module.paths = nodeModulePaths(dirname(entry));
  const require = createRequire(entry);
  require.cache[entry] = module;
  const run = script.runInThisContext() as (...values: unknown[]) => void;
  run.call(module.exports, module.exports, require, module, entry, dirname(entry));
  module.loaded = true;
  return module.exports;
}

function nodeModulePaths(folder: string): string[] {
  const paths: string[] = [];
  for (let current = folder; ; current = dirname(current)) {
    paths.push(`${current === '/' ? '' : current}/node_modules`);
    if (current === '/') return paths;
  }
}

/** What loading a function does, with a module of ours: the first time costs more than the second. */
export function rehearseLoading(entry: string): LoadedFunction {
  shadowWebNames();
  // Our own file stands for one that can be read.
  void reachesGlobals(readFileSync(process.argv[1] as string, 'utf8'));
  void existsSync(`${entry}.cache`);
  const script = compileModule(entry, 'module.exports = { default: () => {} };');
  const handler = resolveHandler(runModule(entry, script), entry);
  delete createRequire(entry).cache[entry];
  return { handler };
}

/** Bundlers wrap a default export once or twice; a function or an object with `fetch` ends the search. */
export function resolveHandler(loaded: unknown, entry: string): Handler {
  let candidate = loaded;
  for (let depth = 0; depth < 3; depth++) {
    if (typeof candidate === 'function') return candidate as Handler;
    if (typeof candidate !== 'object' || candidate === null) break;
    const { fetch, default: inner } = candidate as { fetch?: unknown; default?: unknown };
    if (typeof fetch === 'function') {
      // (request, env, executionContext) is what Hono's and others' fetch expect; the context serves as both.
      return (request, context) => fetch.call(candidate, request, context, context) as unknown;
    }
    candidate = inner;
  }
  throw new TypeError(
    `${entry} exports no handler; write "export default async (request, ctx) => new Response(…)" or export an object with a fetch method`,
  );
}
