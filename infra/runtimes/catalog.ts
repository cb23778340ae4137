/** The runtimes there are: one folder beside this file for each family. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Language, Runtime } from './contract.ts';

/** Unpacked by name: `node:26`. */
const runtimes = new Map<string, Runtime>();

for (const entry of readdirSync(import.meta.dirname, { withFileTypes: true })) {
  const file = join(import.meta.dirname, entry.name, 'runtime.ts');
  if (!entry.isDirectory() || !existsSync(file)) continue;
  const module = (await import(pathToFileURL(file).href)) as { default: readonly Runtime[] };
  for (const runtime of module.default) runtimes.set(runtime.name, runtime);
}

/** What a source gets whose author named no runtime, or one of another language. */
const DEFAULTS: Readonly<Record<Language, string>> = { javascript: 'node:26', python: 'python:3.11' };

/** Every sandbox's own, whatever its runtime. */
const COMMON_ENV: Readonly<Record<string, string>> = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/tmp',
  TMPDIR: '/tmp',
  LANG: 'C.UTF-8',
};

export function tryFindRuntime(name: string): Runtime | undefined {
  return runtimes.get(name);
}

/** @throws SkiffError INVALID_CONFIG with the names there are */
export function findRuntime(name: string): Runtime {
  const runtime = runtimes.get(name);
  if (runtime) return runtime;
  const known = [...runtimes.keys()].sort().join(', ');
  throw new SkiffError('INVALID_CONFIG', `config.runtime: there is no runtime "${name}"; known are ${known}`);
}

export function defaultRuntime(language: Language): Runtime {
  return findRuntime(DEFAULTS[language]);
}

export function runtimeEnv(runtime: Runtime): Record<string, string> {
  return { ...COMMON_ENV, ...runtime.env };
}
