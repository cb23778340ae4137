/** Proportional set size: what a process really costs when it shares pages with others. */
import { readdir, readFile } from 'node:fs/promises';

export async function pssBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1]) * 1024;
}

/** Processes whose real uid is in the range given to sandboxes. */
export async function sandboxPids(uidMin: number): Promise<number[]> {
  const pids: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
    if (Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]) >= uidMin) pids.push(Number(name));
  }
  return pids;
}
