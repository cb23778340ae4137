/**
 * What a server could leave on a host: processes, mounts, cgroups, network namespaces and links, nft tables.
 * Processes and mounts are found by the data folder, so that other servers on this host do not count; the rest by
 * comparison with a snapshot from before.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Snapshot {
  /** `kind name`, for example `cgroup memory/skiff-1234`. */
  readonly things: ReadonlySet<string>;
}

function tryList(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function tryRead(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

function tryReadLink(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}

function linesOf(command: string, args: readonly string[]): string[] {
  return execFileSync(command, [...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    .split('\n')
    .filter(Boolean);
}

function cgroups(): string[] {
  const root = '/sys/fs/cgroup';
  const inside = (folder: string) =>
    tryList(join(root, folder))
      .filter((name) => name.startsWith('skiff'))
      .map((name) => `cgroup ${join(folder, name)}`);
  return [...inside(''), ...tryList(root).flatMap(inside)];
}

export function takeSnapshot(): Snapshot {
  const links = linesOf('ip', ['-o', 'link', 'show']).map(
    (line) => `link ${line.split(': ')[1]?.split('@')[0]}`,
  );
  const tables = linesOf('nft', ['list', 'tables']).map((line) => `nft ${line}`);
  const namespaces = tryList('/run/netns').map((name) => `netns ${name}`);
  return { things: new Set([...cgroups(), ...links, ...tables, ...namespaces]) };
}

/** How the names of the cgroups end below which this data folder's sandboxes are. */
const cgroupMark = (dataDir: string): string =>
  `-${createHash('sha256').update(dataDir).digest('hex').slice(0, 8)}`;

/** Processes that work in, were started for, or are contained by the server of this data folder. */
export function processesOf(dataDir: string): string[] {
  const cgroup = cgroupMark(dataDir);
  return tryList('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const commandLine = tryRead(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
      const isOurs =
        commandLine.includes(dataDir) ||
        tryRead(`/proc/${pid}/environ`).includes(`SKIFF_DATA_DIR=${dataDir}\0`) ||
        tryReadLink(`/proc/${pid}/cwd`).startsWith(dataDir) ||
        tryRead(`/proc/${pid}/cgroup`).includes(cgroup);
      return isOurs ? [`process ${pid} ${commandLine.slice(0, 120)}`] : [];
    });
}

/** Everything the server of `dataDir` left since `before`; empty when it cleaned up. */
export function findLeftovers(before: Snapshot, dataDir: string): string[] {
  const mounts = tryRead('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => line.includes(dataDir));
  // Other servers and tests may begin while this one runs. All that ours makes has its data folder's mark in its name.
  const marks = [dataDir, `builder of ${dataDir}`].map((text) => cgroupMark(text).slice(1));
  const isForeign = (thing: string) => !marks.some((mark) => thing.includes(mark));
  const added = [...takeSnapshot().things].filter((thing) => !before.things.has(thing) && !isForeign(thing));
  return [...processesOf(dataDir), ...mounts.map((line) => `mount ${line}`), ...added];
}
