/** Proportional set size: what a process really costs when it shares pages with others. */
import { readdir, readFile } from 'node:fs/promises';

export async function pssBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1]) * 1024;
}

/** Sandboxes' processes of one function: the guest takes its function's name as its title. */
export async function functionPids(functionName: string): Promise<number[]> {
  const pids: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const title = await readFile(`/proc/${name}/cmdline`, 'latin1').catch(() => '');
    if (title.split('\0')[0]?.trim() === `skiff ${functionName}`) pids.push(Number(name));
  }
  return pids;
}
