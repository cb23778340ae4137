/** `--env` and `--env-file`, with docker's rules: a name alone takes the caller's value, and options win over files. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { CliFailure, usage } from '../failure.ts';
import type { Session } from '../session.ts';

/** Undefined when nothing is given, so that the function's own settings are left alone. */
export function readEnvOptions(
  session: Session,
  assignments: readonly string[],
  files: readonly string[],
): Record<string, string> | undefined {
  if (assignments.length === 0 && files.length === 0) return undefined;
  const env: Record<string, string> = {};
  for (const file of files) Object.assign(env, readEnvFile(resolve(session.cwd, file)));
  for (const text of assignments) {
    const at = text.indexOf('=');
    const name = at < 0 ? text : text.slice(0, at);
    const value = at < 0 ? session.env[name] : text.slice(at + 1);
    if (value === undefined)
      throw usage(
        `--env ${name}: there is no such variable in your environment`,
        `write --env ${name}=value`,
      );
    env[name] = value;
  }
  return env;
}

function readEnvFile(path: string): Record<string, string> {
  try {
    return parseEnv(readFileSync(path, 'utf8')) as Record<string, string>;
  } catch (error) {
    throw new CliFailure(`--env-file ${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
