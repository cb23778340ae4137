/** Steps of load, memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { barePssBytes } from '../bare.ts';
import { functionPids, isFrozen, pssBytes } from '../memory.ts';
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';

const CALLERS = 20;
const SERVICE_MS = 100;

/** From 1 to 20 callers of a function that takes 100 ms: when do they get 95 % of what they can get? */
export async function stepRound(record: Record, subject: Subject, name: string, row: string): Promise<void> {
  await subject.firstByteMs(name);
  const started = performance.now();
  const deadline = started + 3_000;
  const ends: number[] = [];
  const caller = async (): Promise<void> => {
    while (performance.now() < deadline) {
      await subject.firstByteMs(name);
      ends.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const final = CALLERS / SERVICE_MS;
  const windowMs = SERVICE_MS;
  const reached = ends
    .toSorted((a, b) => a - b)
    .find(
      (end, _, all) =>
        all.filter((one) => one > end - windowMs && one <= end).length >= 0.95 * final * windowMs,
    );
  record.of(row, 'ms').add((reached ?? 3_000) - SERVICE_MS);
}

/** Well over the time after which a runner freezes an idle sandbox. */
const FREEZE_MS_MAX = 5_000;

/** Until the runner has frozen the sandbox of this process. False: it was ended. */
async function tryAwaitFrozen(pid: number): Promise<boolean> {
  const deadline = performance.now() + FREEZE_MS_MAX;
  while (performance.now() < deadline) {
    const isOver = await isFrozen(pid);
    if (isOver !== false) return isOver === true;
    await sleep(20);
  }
  return false;
}

/** Memory of sandboxes that have answered once and wait for the next call. */
export async function memoryRound(
  record: Record,
  subject: Subject,
  port: number,
  sandboxes: number,
): Promise<void> {
  record.of('B6 PSS of node hono.mjs', 'MB').add((await barePssBytes(port)) / 1024 ** 2);
  await Promise.all(Array.from({ length: sandboxes }, () => subject.firstByteMs('idle')));
  const pids = await functionPids('idle');
  for (const pid of pids) record.of('PSS of an idle sandbox', 'MB').add((await pssBytes(pid)) / 1024 ** 2);
  for (const pid of pids) {
    if (!(await tryAwaitFrozen(pid))) continue;
    record.of('PSS of a frozen sandbox', 'MB').add((await pssBytes(pid)) / 1024 ** 2);
  }
}
