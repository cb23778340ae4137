/**
 * Reads the configuration that an entry module carries (sdk/protocol/source/code-config.ts says in which forms).
 * The confined bundler makes JavaScript of it, acorn makes a tree of that. A parser in machine code would be faster
 * and would take the whole builder down with one deeply nested file, where acorn throws a RangeError.
 */
import { readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { parse, type Program } from 'acorn';
import type { Loader } from 'esbuild';
import { type CodeConfig, mayHaveCodeConfig, readCodeConfig } from '../../sdk/protocol/source/code-config.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BundlerEngine } from '../bundle/engine.ts';

/** Larger entry modules are bundles made by others; parsing one would hold the builder up for seconds. */
const ENTRY_BYTES_MAX = 8 * 1024 * 1024;
const LOADERS: Readonly<Record<string, Loader>> = { '.tsx': 'tsx', '.ts': 'ts', '.mts': 'ts', '.cts': 'ts' };

/**
 * Undefined when the module has none, or a syntax error, which the bundler reports better.
 * @param entry relative to `root`, known to be a file inside it
 * @throws SkiffError INVALID_CONFIG when the configuration is not a literal; the signal's reason
 */
export async function readConfigInCode(
  engine: BundlerEngine,
  root: string,
  entry: string,
  signal: AbortSignal,
  onWarning: (text: string) => void,
): Promise<CodeConfig | undefined> {
  const path = join(root, entry);
  if ((await stat(path)).size > ENTRY_BYTES_MAX) return undefined;
  const text = await readFile(path, 'utf8');
  if (!mayHaveCodeConfig(text)) return undefined;
  const code = await tryMakeJavaScript(engine, text, LOADERS[extname(entry)] ?? 'jsx', signal);
  if (code === undefined) return undefined;
  const tree = tryParse(code, 'module') ?? tryParse(code, 'script');
  if (tree) return readCodeConfig(tree, code, entry);
  onWarning(
    `${entry}: a config in it would not be seen, as the module could not be parsed as plain JavaScript`,
  );
  return undefined;
}

async function tryMakeJavaScript(
  engine: BundlerEngine,
  contents: string,
  loader: Loader,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const { outputFiles } = await engine.build(
      {
        stdin: { contents, loader },
        write: false,
        bundle: false,
        target: 'esnext',
        supported: { decorators: false },
        logLevel: 'silent',
        tsconfigRaw: {},
        legalComments: 'none',
      },
      signal,
    );
    return outputFiles?.[0]?.text ?? '';
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SkiffError) throw error;
    return undefined;
  }
}

function tryParse(code: string, sourceType: 'module' | 'script'): Program | undefined {
  try {
    return parse(code, {
      ecmaVersion: 'latest',
      sourceType,
      allowReturnOutsideFunction: true,
      allowHashBang: true,
    });
  } catch {
    // Sloppy CommonJS is no module, and too deep a tree overflows the stack in a way that can be caught.
    return undefined;
  }
}
