/** Debian's static busybox, for images that need a shell and a web server in one file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { listPackages, unpackPackages } from '../../builder/base/debian-packages.ts';

/** Path of the program; it is removed when the test is over. */
export async function findBusybox(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-busybox-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const packages = await listPackages(['busybox-static'], folder, () => {});
  const root = join(folder, 'root');
  await unpackPackages(packages, { packages: [] }, folder, root, () => {});
  return join(root, 'bin/busybox');
}
