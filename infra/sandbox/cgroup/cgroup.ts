/**
 * Control groups of sandboxes: one parent group that caps all sandboxes of this host together, one child for each.
 * Invariant: a process that wrote 0 to every one of `joinFiles` and what it starts afterwards are bound by
 * the limits, and `remove` never succeeds while one of them lives. Two implementations, v1.ts and v2.ts, behind
 * this interface; layout.ts finds out which one this host needs. The files are written by us, not by the OCI
 * runtime: crun refuses hybrid hosts, and limits must change while a sandbox runs (a stem becomes a function).
 * Deliberately absent: systemd's D-Bus API, block I/O limits, and device rules on v2 (they need a BPF program;
 * nodev mounts, the user namespace and seccomp stand in for them).
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { SandboxUsage } from '../contract.ts';

export interface CgroupLimits {
  readonly memoryBytes: number;
  /** Cores; fractions allowed. */
  readonly cpu: number;
  readonly pidsMax: number;
  /** BACKGROUND_CPU's weight instead of one that goes with `cpu`. */
  readonly isBackground?: boolean;
}

export interface Cgroup {
  readonly name: string;
  /** Writing 0 to all of them moves the writer in, which must have one thread. */
  readonly joinFiles: readonly string[];
  /** Throws SkiffError INVALID_CONFIG when the kernel refuses a limit, for example below what is in use. */
  setLimits(limits: CgroupLimits): void;
  /** Weight against its siblings, as that of so many cores. */
  setWeight(cpu: number): void;
  freeze(): Promise<void>;
  thaw(): void;
  usage(): SandboxUsage;
  /** Whether the kernel killed a process for memory. `exitCode` decides where a runtime took the counter away. */
  ranOutOfMemory(exitCode: number | undefined): boolean;
  /** Pids in the host's pid namespace. */
  pids(): number[];
  /** SIGKILL to every process, thawing first; resolves when the group is empty. */
  killAll(): Promise<void>;
  /** Resolves when the folders are gone; the group must be empty or about to be. */
  remove(): Promise<void>;
}

export interface CgroupParent {
  readonly name: string;
  /** With `isNested` the runtime makes a group of its own below ours and sets the device rules there. */
  create(name: string, limits: CgroupLimits, options?: { readonly isNested: boolean }): Cgroup;
  /** A child without limits, to find processes by. */
  createUnlimited(name: string): Cgroup;
  /** A child that exists already, whoever made it. */
  open(name: string): Cgroup;
  list(): string[];
  remove(): Promise<void>;
}

/** How shells and runtimes report SIGKILL. */
export const EXIT_SIGKILL = 137;
/** Period of the CPU quota, the kernel's default. */
export const CPU_PERIOD_US = 100_000;
/** Little, but with less a start amid busy sandboxes would not end in time, and it holds locks that others wait for. */
export const BACKGROUND_CPU = 0.1;
/** The kernel refuses quotas below 1 ms. */
export const CPU_QUOTA_US_MIN = 1_000;
const EMPTY_MS_MAX = 5_000;
const FREEZE_MS_MAX = 1_000;

export function cpuQuotaUs(cpu: number): number {
  return Math.max(CPU_QUOTA_US_MIN, Math.round(cpu * CPU_PERIOD_US));
}

/** Files of cgroupfs are control knobs: one write call, one value. */
export function writeKnob(file: string, value: string | number): void {
  try {
    writeFileSync(file, String(value));
  } catch (error) {
    throw new SkiffError('INVALID_CONFIG', `the kernel refused ${value} for ${file}: ${describe(error)}`, {
      cause: error,
    });
  }
}

export function tryReadKnob(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** A number, or undefined for an absent file and for "max". */
export function tryReadNumber(file: string): number | undefined {
  const text = tryReadKnob(file);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** `key value` lines, as in memory.stat and memory.events. */
export function readCounter(file: string, key: string): number {
  const text = tryReadKnob(file) ?? '';
  for (const line of text.split('\n')) {
    if (line.startsWith(`${key} `)) return Number(line.slice(key.length + 1));
  }
  return 0;
}

function readPids(file: string): number[] {
  const text = tryReadKnob(file);
  return text ? text.split('\n').map(Number) : [];
}

function childFolders(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name));
  } catch {
    return [];
  }
}

/** Processes of a group and of the one below it that a runtime may have made. */
export function listPids(folder: string): number[] {
  return [folder, ...childFolders(folder)].flatMap((group) => readPids(join(group, 'cgroup.procs')));
}

export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o755 });
}

/** Waits in steps that grow from 0.2 ms, so that the usual quick case costs almost nothing. */
async function waitFor(what: string, msMax: number, isDone: () => boolean): Promise<void> {
  const deadline = performance.now() + msMax;
  for (let turn = 0; !isDone(); turn++) {
    if (performance.now() > deadline)
      throw new SkiffError('INTERNAL', `${what} took longer than ${msMax} ms`);
    await (turn < 20 ? new Promise((resolve) => setImmediate(resolve)) : delay(Math.min(20, turn - 18)));
  }
}

export function waitFrozen(name: string, isFrozen: () => boolean): Promise<void> {
  return waitFor(`freezing sandbox ${name}`, FREEZE_MS_MAX, isFrozen);
}

/** Kills until nothing is left: a process may fork between our read and our kill, its child is caught next turn. */
export function killUntilEmpty(name: string, list: () => number[]): Promise<void> {
  return waitFor(`killing sandbox ${name}`, EMPTY_MS_MAX, () => {
    const pids = list();
    for (const pid of pids) tryKill(pid);
    return pids.length === 0;
  });
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Ended by itself in the meantime.
  }
}

/**
 * With the groups below it. EBUSY is passing: the kernel counts a dead process as a member until it is reaped. A
 * launcher whose owner was killed may still come in; it is killed as well.
 */
export async function removeFolder(path: string): Promise<void> {
  for (const child of childFolders(path)) await removeFolder(child);
  await waitFor(`removing cgroup ${path}`, EMPTY_MS_MAX, () => {
    try {
      rmdirSync(path);
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return true;
      if (code !== 'EBUSY') throw error;
      for (const pid of listPids(path)) tryKill(pid);
      return false;
    }
  });
}

function describe(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
