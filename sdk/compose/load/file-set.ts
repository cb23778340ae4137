/** Which files an application is made of, when nobody says: compose.yaml of this folder or one above it. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { invalid } from '../document/yaml-file.ts';

const NAMES = ['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml'];
const OVERRIDES = [
  'compose.override.yaml',
  'compose.override.yml',
  'docker-compose.override.yaml',
  'docker-compose.override.yml',
];

/** Undefined when there is none up to the root folder. */
export function tryFindFiles(cwd: string): string[] | undefined {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const main = NAMES.map((name) => join(folder, name)).find((path) => existsSync(path));
    if (main !== undefined) {
      const override = OVERRIDES.map((name) => join(folder, name)).find((path) => existsSync(path));
      return override === undefined ? [main] : [main, override];
    }
    if (folder === dirname(folder)) return undefined;
  }
}

/** `-f` on the command line, else COMPOSE_FILE, else by name. @throws SkiffError INVALID_CONFIG when there is none */
export function chooseFiles(
  cwd: string,
  given: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  const fromEnv = env['COMPOSE_FILE'] ? env['COMPOSE_FILE'].split(env['COMPOSE_PATH_SEPARATOR'] || ':') : [];
  const named = given.length > 0 ? given : fromEnv;
  if (named.length > 0) {
    const files = named.map((file) => resolve(cwd, file));
    const missing = files.find((file) => !existsSync(file));
    if (missing !== undefined) throw invalid(`${missing} does not exist`);
    return files;
  }
  const found = tryFindFiles(cwd);
  if (found === undefined)
    throw invalid(`there is no compose.yaml in ${cwd} or above it; write one, or name it with -f`);
  return found;
}
