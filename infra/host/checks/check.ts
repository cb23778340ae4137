/**
 * What a check of this host is, and how it looks at the host. Invariant: checks only look; none changes anything.
 * The host is reached through `HostView` so that a test can show a check another machine's files.
 */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type CheckStatus = 'ok' | 'warning' | 'missing';

export interface Check {
  /** Stable; for scripts. */
  readonly id: string;
  readonly status: CheckStatus;
  /** What was found. */
  readonly detail: string;
  /** What to do about it; present unless the status is ok. */
  readonly fix?: string;
}

export interface HostView {
  /** Text of a file, without the last newline; undefined when it cannot be read. */
  tryRead(path: string): string | undefined;
  /** Names in a folder; none when it cannot be read. */
  list(path: string): string[];
  /** First line of a program's output; undefined when it is not there or fails. */
  tryRun(command: string, args: readonly string[]): Promise<string | undefined>;
}

export const ok = (id: string, detail: string): Check => ({ id, status: 'ok', detail });
export const warning = (id: string, detail: string, fix: string): Check => ({
  id,
  status: 'warning',
  detail,
  fix,
});
export const missing = (id: string, detail: string, fix: string): Check => ({
  id,
  status: 'missing',
  detail,
  fix,
});

/** Debian keeps nft and others where only root's login shell looks. */
const PATH_EXTRA = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin';

/** The host as it is below `root` (`/` but in tests). */
export function createHostView(root: string, path: string): HostView {
  return {
    tryRead(file) {
      try {
        return readFileSync(join(root, file), 'utf8').trimEnd();
      } catch {
        return undefined;
      }
    },
    list(folder) {
      try {
        return readdirSync(join(root, folder));
      } catch {
        return [];
      }
    },
    tryRun: (command, args) =>
      new Promise((resolve) => {
        const options = { env: { PATH: `${path}:${PATH_EXTRA}`, LANG: 'C' }, timeout: 5_000 };
        execFile(command, [...args], options, (error, stdout, stderr) => {
          resolve(error ? undefined : (stdout || stderr).split('\n')[0]);
        });
      }),
  };
}
