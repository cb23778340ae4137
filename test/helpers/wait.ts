/** Waiting for a state with a deadline: tests never sleep and hope. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves to the first value of `read` that is not undefined or false; rejects after `msMax` and says what it waited for. */
export async function waitFor<Value>(
  what: string,
  read: () => Promise<Value | undefined | false> | Value | undefined | false,
  msMax = 10_000,
): Promise<Value> {
  const deadline = performance.now() + msMax;
  for (;;) {
    const value = await read();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`not after ${msMax} ms: ${what}`);
    await sleep(10);
  }
}
