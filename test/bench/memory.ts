/** Proportional set size: what a process really costs when it shares pages with others; and whether it is frozen. */
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

/** Undefined: it has ended. */
export async function isFrozen(pid: number): Promise<boolean | undefined> {
  const groups = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
  const v1 = /:freezer:(.*)/.exec(groups)?.[1];
  const v2 = /^0::(.*)/m.exec(groups)?.[1];
  const file =
    v1 === undefined ? `/sys/fs/cgroup${v2}/cgroup.events` : `/sys/fs/cgroup/freezer${v1}/freezer.state`;
  const text = await readFile(file, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : /FROZEN|frozen 1/.test(text);
}
