/**
 * Servers by name, in one file of the user. Invariant: the file is 0600 and replaced as a whole, so that a crash
 * leaves the old or the new one, and never a token that others can read.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CliFailure, usage } from '../failure.ts';

export interface Context {
  readonly url: string;
  readonly token?: string;
}

export interface Contexts {
  readonly current?: string;
  readonly contexts: Readonly<Record<string, Context>>;
}

type Env = Readonly<Record<string, string | undefined>>;

export function contextsPath(env: Env): string {
  const config = env['XDG_CONFIG_HOME'] || (env['HOME'] ? join(env['HOME'], '.config') : undefined);
  if (config === undefined)
    throw new CliFailure('neither HOME nor XDG_CONFIG_HOME is set, so there is no place for contexts');
  return join(config, 'skiff', 'contexts.json');
}

export function readContexts(env: Env): Contexts {
  if (!env['XDG_CONFIG_HOME'] && !env['HOME']) return { contexts: {} };
  const path = contextsPath(env);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { contexts: {} };
    throw new CliFailure(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  try {
    const value = JSON.parse(text) as Partial<Contexts>;
    return { ...value, contexts: value.contexts ?? {} };
  } catch (error) {
    throw new CliFailure(`${path} is not JSON: ${(error as Error).message}`, {
      hint: 'repair it, or remove it and add the contexts again',
      cause: error,
    });
  }
}

export function writeContexts(env: Env, value: Contexts): void {
  const path = contextsPath(env);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
}

export function findContext(contexts: Contexts, name: string): Context {
  const found = Object.hasOwn(contexts.contexts, name) ? contexts.contexts[name] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(contexts.contexts);
  throw usage(
    `there is no context "${name}"`,
    names.length === 0 ? 'add one: skiff context add <name> <url>' : `known are: ${names.join(', ')}`,
  );
}

export function parseServerUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && (url.protocol === 'http:' || url.protocol === 'https:')) return text.replace(/\/+$/, '');
  throw usage(`"${text}" is not a server's URL`, 'write it whole, for example https://skiff.example.org');
}
