/**
 * How a function is run here: its configuration as a deploy would settle it (defaults, code, request) and its
 * variables, with those of `.env` files on top, which a deploy never sends.
 */
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { parseEnv } from 'node:util';
import { parse } from 'acorn';
import { transform } from 'esbuild';
import {
  type CodeConfig,
  mayHaveCodeConfig,
  mergeConfig,
  readCodeConfig,
} from '../../protocol/source/code-config.ts';
import { SkiffError } from '../../protocol/errors.ts';
import { describeIssues, FunctionConfig } from '../../protocol/manifest.ts';
import type { DevFunction } from './project.ts';

export interface DevSettings {
  readonly config: FunctionConfig;
  readonly env: Readonly<Record<string, string>>;
}

export interface EnvSource {
  /** Absolute paths; later ones win. The function's own `.env` comes before them. */
  readonly files: readonly string[];
  readonly values: Readonly<Record<string, string>>;
}

/** The file beside the function that holds its secrets. */
export function envFileOf({ root }: DevFunction): string {
  return join(root, '.env');
}

/** @throws SkiffError INVALID_CONFIG */
export async function readSettings(fn: DevFunction, env: EnvSource): Promise<DevSettings> {
  const inCode = await readConfigInCode(join(fn.root, fn.entry), fn.entry);
  const parsed = FunctionConfig.safeParse(mergeConfig(inCode ?? {}, fn.config ?? {}));
  if (!parsed.success) throw new SkiffError('INVALID_CONFIG', describeIssues(parsed.error));
  const values: Record<string, string> = { ...parsed.data.env };
  Object.assign(values, await tryReadEnvFile(envFileOf(fn)));
  for (const file of env.files) Object.assign(values, await readEnvFile(file));
  return { config: parsed.data, env: { ...values, ...env.values } };
}

async function readConfigInCode(path: string, entry: string): Promise<CodeConfig | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  if (!mayHaveCodeConfig(text)) return undefined;
  const extension = extname(path);
  const loader = extension === '.tsx' ? 'tsx' : /^\.[cm]?ts$/.test(extension) ? 'ts' : 'jsx';
  let code: string;
  try {
    ({ code } = await transform(text, {
      loader,
      target: 'esnext',
      supported: { decorators: false },
      tsconfigRaw: {},
      logLevel: 'silent',
    }));
  } catch {
    // A syntax error: the bundler finds it again and shows the line.
    return undefined;
  }
  const tree = tryParse(code, 'module') ?? tryParse(code, 'script');
  return tree && readCodeConfig(tree, code, entry);
}

function tryParse(code: string, sourceType: 'module' | 'script') {
  try {
    return parse(code, { ecmaVersion: 'latest', sourceType, allowReturnOutsideFunction: true });
  } catch {
    return undefined;
  }
}

async function tryReadEnvFile(path: string): Promise<Record<string, string>> {
  try {
    return parseEnv(await readFile(path, 'utf8')) as Record<string, string>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new SkiffError('INVALID_CONFIG', `${path} cannot be read: ${(error as Error).message}`);
  }
}

async function readEnvFile(path: string): Promise<Record<string, string>> {
  try {
    return parseEnv(await readFile(path, 'utf8')) as Record<string, string>;
  } catch (error) {
    throw new SkiffError('INVALID_CONFIG', `${path} cannot be read: ${(error as Error).message}`);
  }
}
