/**
 * This gateway's calls of the last seconds, by function. Invariant: a call costs one look-up and three additions, and
 * what is kept is bounded: WINDOW_S seconds of at most FUNCTIONS_MAX functions.
 */
import type { FailureCause } from '../../sdk/protocol/errors.ts';
import type { Call } from '../invoke/call.ts';
import { addCounts, bucketOf, type Counts } from './latencies.ts';

export const WINDOW_S = 10;
const FUNCTIONS_MAX = 2_000;

export interface CallCounts {
  calls: number;
  errors: number;
  cold: number;
  /** Latencies, see latencies.ts. */
  ms: Counts;
}

type Second = Map<string, CallCounts>;

export class CallWindow {
  /** The newest last. */
  readonly #seconds: { readonly at: number; readonly counts: Second }[] = [];

  report(
    {
      deployment: { functionName },
      receivedMs,
      timing,
    }: Pick<Call, 'receivedMs' | 'timing'> & {
      readonly deployment: { readonly functionName: string };
    },
    cause: FailureCause | undefined,
  ): void {
    const counts = this.#countsOf(functionName);
    if (!counts) return;
    counts.calls++;
    if (cause !== undefined) counts.errors++;
    if (timing && timing.coldMs > 0) counts.cold++;
    const bucket = bucketOf(Date.now() - receivedMs);
    counts.ms[bucket] = (counts.ms[bucket] ?? 0) + 1;
  }

  /** Sums of the whole seconds of the window. */
  read(nowMs: number): Record<string, CallCounts> {
    const now = Math.floor(nowMs / 1000);
    const sums = new Map<string, CallCounts>();
    for (const { at, counts } of this.#seconds) {
      if (at < now - WINDOW_S || at >= now) continue;
      for (const [name, one] of counts) {
        const sum = sums.get(name) ?? createCounts();
        sum.calls += one.calls;
        sum.errors += one.errors;
        sum.cold += one.cold;
        addCounts(sum.ms, one.ms);
        sums.set(name, sum);
      }
    }
    return Object.fromEntries(sums);
  }

  #countsOf(name: string): CallCounts | undefined {
    const at = Math.floor(Date.now() / 1000);
    let second = this.#seconds.at(-1);
    if (second?.at !== at) {
      second = { at, counts: new Map() };
      this.#seconds.push(second);
      if (this.#seconds.length > WINDOW_S + 1) this.#seconds.shift();
    }
    const known = second.counts.get(name);
    if (known || second.counts.size >= FUNCTIONS_MAX) return known;
    const created = createCounts();
    second.counts.set(name, created);
    return created;
  }
}

function createCounts(): CallCounts {
  return { calls: 0, errors: 0, cold: 0, ms: {} };
}
