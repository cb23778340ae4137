/** Waiting for a state with a deadline: tests never sleep and hope. */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Looks often at first; a wait of seconds is looked at ten times a second, since asking a server a hundred times a second takes
 * a fifth of a core from what is waited for.
 */
const LOOK_MS = 10;
const LOOK_MS_MAX = 100;
const LATE_SHARE = 0.05;

/** Resolves to the first value of `read` that is not undefined or false; rejects after `msMax` and says what it waited for. */
export async function waitFor<Value>(
  what: string,
  read: () => Promise<Value | undefined | false> | Value | undefined | false,
  msMax = 10_000,
): Promise<Value> {
  const began = performance.now();
  for (;;) {
    const value = await read();
    if (value !== undefined && value !== false) return value;
    const waited = performance.now() - began;
    if (waited > msMax) throw new Error(`not after ${msMax} ms: ${what}`);
    await sleep(Math.min(LOOK_MS_MAX, Math.max(LOOK_MS, waited * LATE_SHARE)));
  }
}
