/**
 * Removes a folder that may hold very many entries. Node's own recursive `rm` starts on all of them at once: for
 * 50,000 folders it takes 140 MB and four seconds here, `rm -rf` takes next to nothing and half a second.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Follows no links; an absent folder is fine. */
export async function removeTree(folder: string): Promise<void> {
  await run('rm', ['-rf', '--one-file-system', '--', folder]);
}
