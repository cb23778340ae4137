/**
 * Where esbuild's own process may look. It runs as a long-lived child with its root changed to `root` and as an
 * unprivileged user, because it opens more files than its plugins are asked about: tsconfig `extends`, input source
 * maps, package.json fields and glob imports all read whatever path they name.
 * Paths on our side are host paths, paths on esbuild's side are seen from the jail; only this file translates.
 */
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';

/** "nobody" on every Linux; esbuild owns no file and only reads. */
const JAIL_UID = 65534;
/** Go reserves address space generously; this stops a bomb, not a large project. */
const ADDRESS_SPACE_KB_MAX = 8 * 1024 * 1024;

export interface Jail {
  /** Host folder that is "/" for esbuild, or "" when esbuild is not confined (an ordinary user runs the builder). */
  readonly root: string;
}

export const NO_JAIL: Jail = { root: '' };

export function toJailPath(jail: Jail, hostPath: string): string {
  if (jail.root === '') return hostPath;
  if (!hostPath.startsWith(`${jail.root}/`)) {
    throw new SkiffError('INTERNAL', 'a build folder is outside the bundler’s root', {
      cause: new Error(hostPath),
    });
  }
  return hostPath.slice(jail.root.length);
}

/**
 * Prepares `root` and returns a launcher to be given to esbuild as ESBUILD_BINARY_PATH before it is first imported.
 * Only root can change its root folder. @throws SkiffError UNAVAILABLE when the launcher does not run.
 */
export async function createJail(
  root: string,
  esbuildBinary: string,
): Promise<{ jail: Jail; launcher: string }> {
  // Names below are secrets to other builds: the folders can be passed through but not listed.
  for (const folder of ['', 'work', 'deps']) await mkdir(join(root, folder), { recursive: true });
  for (const folder of ['', 'work', 'deps']) await chmod(join(root, folder), 0o711);
  const binary = join(root, 'esbuild');
  await copyFile(esbuildBinary, `${binary}.new`);
  await chmod(`${binary}.new`, 0o555);
  await rename(`${binary}.new`, binary);
  const launcher = `${root}.launch`;
  const script = `#!/bin/sh
ulimit -v ${ADDRESS_SPACE_KB_MAX} 2>/dev/null
ulimit -c 0
exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin GOMEMLIMIT=1GiB chroot --userspec=${JAIL_UID}:${JAIL_UID} --groups= '${root.replaceAll("'", "'\\''")}' /esbuild "$@" 2>/dev/null
`;
  await writeFile(`${launcher}.new`, script, { mode: 0o700 });
  await rename(`${launcher}.new`, launcher);
  try {
    await promisify(execFile)(launcher, ['--version'], { timeout: 10_000 });
  } catch (error) {
    throw new SkiffError(
      'UNAVAILABLE',
      `the bundler cannot be started in ${root}; the builder needs root and an executable data folder`,
      { cause: error },
    );
  }
  return { jail: { root }, launcher };
}
