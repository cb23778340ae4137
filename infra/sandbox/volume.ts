/**
 * Volumes: folders that outlive a sandbox. Each is an ext4 file system in a sparse file, so that the kernel itself holds
 * its limit, whatever file system the host has and whether or not that knows quotas.
 * Invariants: it is mounted inside the stage alone, so no mount shows on the host and all go with the last process that
 * uses them (the loop device as well); its files are of the one uid that has it now. Deliberately absent: who may use
 * which volume, and that only one does at a time (runner/volume).
 */
import { existsSync, statSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Stage } from './stage.ts';

const run = promisify(execFile);

export interface VolumeOptions {
  readonly file: string;
  readonly bytesMax: number;
  readonly seed: string | undefined;
  readonly uid: number;
}

/**
 * The folder `data`, and not the root of the file system: programs such as initdb want an empty one, without lost+found.
 * What is new begins as a copy of the seed, and appears under its name when that is whole.
 */
const OPEN = `
set -e
mkdir -p "$2"
mount -t ext4 -o loop,rw,nosuid,nodev,noexec,noatime,discard,errors=remount-ro -- "$1" "$2"
trap 'umount "$2"; rmdir "$2"' EXIT
if [ -n "$5" ]; then resize2fs "$(findmnt --noheadings --output SOURCE --mountpoint "$2")" >/dev/null 2>&1; fi
if [ ! -d "$2/data" ]; then
  rm -rf "$2/new" && mkdir -m 0755 "$2/new"
  if [ -n "$4" ]; then cp -a --no-preserve=ownership -- "$4/." "$2/new"; fi
  mv "$2/new" "$2/data"
fi
if [ "$(stat -c %u "$2/data")" != "$3" ]; then chown -R -h -P "$3:$3" "$2/data"; fi
trap - EXIT
`;
const CLOSE = 'umount "$1" 2>/dev/null || umount -l "$1"; rmdir -- "$1"';

/** @throws SkiffError COLD_START_FAILED */
export async function openVolume(
  stage: Stage,
  name: string,
  { file, bytesMax, seed = '', uid }: VolumeOptions,
): Promise<{ path: string; release: () => Promise<void> }> {
  if (!existsSync(file)) await format(file, bytesMax);
  const hasGrown = await grow(file, bytesMax);
  const path = stage.pathOf(name);
  await stage.run(`mounting the volume ${file}`, OPEN, [
    file,
    path,
    String(uid),
    seed,
    hasGrown ? 'grow' : '',
  ]);
  return { path: `${path}/data`, release: () => stage.run(`unmounting ${path}`, CLOSE, [path]) };
}

async function format(file: string, bytes: number): Promise<void> {
  const unfinished = `${file}.new`;
  try {
    await rm(unfinished, { force: true });
    await resize(unfinished, bytes);
    await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'root_owner=0:0', unfinished]);
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    const { stderr, message } = error as { stderr?: string; message: string };
    throw new SkiffError(
      'COLD_START_FAILED',
      `making the volume ${file} failed: ${(stderr || message).trim()}`,
      {
        cause: error,
      },
    );
  }
}

async function grow(file: string, bytes: number): Promise<boolean> {
  if (statSync(file).size >= bytes) return false;
  await resize(file, bytes);
  return true;
}

async function resize(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'a', 0o600);
  try {
    await handle.truncate(bytes);
  } finally {
    await handle.close();
  }
}
