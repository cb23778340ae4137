/** Where this copy of Skiff is on disk, and how its own programs are started. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CliFailure } from './failure.ts';
import type { Session } from './session.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export function readVersion(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  return version;
}

/**
 * This process becomes the server's own program (sdk does not import infra): signals, exit code and pid are that
 * program's, and nothing stands in between. Returns only by throwing, when the program is not installed.
 */
export function becomeHostProgram(session: Session, args: readonly string[]): never {
  const file = join(ROOT, 'infra', 'host', 'main.ts');
  if (!existsSync(file) || process.execve === undefined) {
    throw new CliFailure(`${file} cannot be started here`, {
      hint: 'the server runs on Linux, from a whole installation of Skiff; elsewhere use a remote one: skiff login <url>',
    });
  }
  const env = Object.fromEntries(
    Object.entries(session.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
  return process.execve(process.execPath, [process.execPath, file, ...args], env);
}
