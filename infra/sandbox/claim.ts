/**
 * A file that says "this is mine" for as long as the process that made it lives: no lock to free after kill -9.
 * The content is `pid startTime`; the start time tells a process from a later one with the same pid.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Field 22 of /proc/<pid>/stat; the name in field 2 may hold blanks and parentheses. Undefined for a process that has
 * ended, also when nobody has collected it yet (field 3: zombie or dead): it holds nothing any more.
 */
function tryStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return /^[ZX]/i.test(fields[0] ?? '') ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function isHeld(content: string): boolean {
  const [pid, startTime] = content.trim().split(' ');
  return startTime !== undefined && tryStartTime(Number(pid)) === startTime;
}

function tryRead(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** True when the claim is ours now; false when a living process (this one too) holds it. */
export function tryClaim(path: string): boolean {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${process.pid} ${tryStartTime(process.pid)}`, { mode: 0o600 });
  try {
    // link() fails when the name exists and shows the file only with its content: write-then-check would race.
    while (!tryLink(draft, path)) {
      const content = tryRead(path);
      if (content === undefined) continue;
      if (isHeld(content)) return false;
      discardStale(path, content);
    }
    return true;
  } finally {
    rmSync(draft, { force: true });
  }
}

export function releaseClaim(path: string): void {
  rmSync(path, { force: true });
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Takes the dead owner's file away; puts it back when somebody else replaced it between our look and our grasp. */
function discardStale(path: string, stale: string): void {
  const grave = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, grave);
  } catch {
    return;
  }
  if (tryRead(grave) !== stale) tryLink(grave, path);
  rmSync(grave, { force: true });
}
