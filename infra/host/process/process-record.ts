/**
 * A file beside each running process that says which one it is, so that the next start can end what a killed
 * predecessor left. Invariant: a process is ended only when pid, start tick and boot id all match the record: a
 * pid that was reused, or one from before a reboot, is somebody else.
 */
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessRecord {
  readonly pid: number;
  /** Kernel's start time of the process, in clock ticks since boot. */
  readonly startTicks: number;
  readonly bootId: string;
}

/**
 * Undefined when there is no such process, or only its zombie. A dead main thread whose other threads still run is
 * no zombie yet: the process holds its files, locks and mounts until the last of them has gone.
 */
export function tryReadProcess(pid: number): ProcessRecord | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name (field 2) may hold spaces and brackets: fields are counted after its last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const isLeaderDead = fields[0] === 'Z' || fields[0] === 'X';
    if (isLeaderDead && readdirSync(`/proc/${pid}/task`).length <= 1) return undefined;
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return { pid, startTicks: Number(fields[19]), bootId };
  } catch {
    return undefined;
  }
}

export function writeProcessRecord(file: string, pid: number): void {
  const record = tryReadProcess(pid);
  if (record) writeFileSync(file, JSON.stringify(record), { mode: 0o600 });
}

function tryReadRecord(file: string): ProcessRecord | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ProcessRecord;
  } catch {
    return undefined;
  }
}

export function isSameProcess(record: ProcessRecord): boolean {
  const now = tryReadProcess(record.pid);
  return now !== undefined && now.startTicks === record.startTicks && now.bootId === record.bootId;
}

async function waitForEnd(record: ProcessRecord, msMax: number): Promise<boolean> {
  const deadline = performance.now() + msMax;
  while (isSameProcess(record)) {
    if (performance.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

/**
 * Ends the recorded process if it still runs: SIGTERM, then SIGKILL to its group after `graceMs`. Returns its pid
 * when there was one.
 */
export async function endRecordedProcess(file: string, graceMs: number): Promise<number | undefined> {
  const record = tryReadRecord(file);
  if (!record || !isSameProcess(record)) {
    rmSync(file, { force: true });
    return undefined;
  }
  process.kill(record.pid, 'SIGTERM');
  if (!(await waitForEnd(record, graceMs))) {
    killGroup(record.pid);
    await waitForEnd(record, graceMs);
  }
  rmSync(file, { force: true });
  return record.pid;
}

/** SIGKILL to a process group that we made; it is no error when it is gone. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Already gone.
  }
}
