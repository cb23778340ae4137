/** Whether a code cache wins, judged by what loading took on this host with and without it. */

export interface LoadTimes {
  /** Milliseconds, the latest last. */
  readonly plainMs: readonly number[];
  readonly cachedMs: readonly number[];
}

/** Loading quicker than this gains nothing that can be measured. */
const HEAVY_MS = 1;
/** Of the time without it. */
const WON_SHARE = 0.9;
const SAMPLES_MIN = 3;
const SAMPLES_KEPT = 9;

export function isWorthMaking({ plainMs }: LoadTimes): boolean {
  return median(plainMs) >= HEAVY_MS;
}

/** Enough was measured, and it does not win. Of each the quickest counts: what took longer waited for a processor. */
export function hasLost({ plainMs, cachedMs }: LoadTimes): boolean {
  return cachedMs.length >= SAMPLES_MIN && Math.min(...cachedMs) > Math.min(...plainMs) * WON_SHARE;
}

export function addSample(samples: readonly number[], ms: number): number[] {
  return [...samples, ms].slice(-SAMPLES_KEPT);
}

/** 0 of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
