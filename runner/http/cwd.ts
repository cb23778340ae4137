/** The working folder that an image asks for, if it is one: the container runtime enters it as root of the host. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';

/** Mounted over by the sandbox; entering one of them early has let containers out (CVE-2024-21626). */
const REFUSED = /^\/(?:proc|dev|sys|tmp|run)(?:\/|$)/;

/** `wanted` when every part of it is a real folder of the root file system, else "/". */
export async function chooseCwd(root: string, wanted: string): Promise<string> {
  const parts = wanted.split('/').filter(Boolean);
  if (REFUSED.test(wanted) || parts.includes('..') || parts.includes('.')) return '/';
  let path = root;
  for (const part of parts) {
    path = join(path, part);
    const isFolder = await lstat(path).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder) return '/';
  }
  return `/${parts.join('/')}`;
}
