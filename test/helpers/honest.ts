/** What callers are promised while hosts break. */
import { expect } from 'vitest';
import { bad, longestGap, summarize, type Outcome } from './load.ts';
import { NOTICE_MS_MAX } from './swarm-hosts.ts';

/**
 * 10 s to start in, 5 s to run, and some grace: what a call takes at most whose envelope was on its way out of a store to
 * a host that was cut off. Nobody knows whether it ran, so nobody repeats it.
 */
export const CALL_MS_MAX = 20_000;

/** Calls whose host was lost under them may fail, once, with an honest word; all others must not. */
export function expectHonest(outcomes: readonly Outcome[], lostMax: number): void {
  const failed = bad(outcomes);
  const lost = failed.filter(({ status, detail }) => status === 502 && detail.startsWith('unknown'));
  expect(summarize(failed.filter((outcome) => !lost.includes(outcome)))).toBe('');
  expect(lost.length, summarize(lost)).toBeLessThanOrEqual(lostMax);
  expect(Math.max(...outcomes.map(({ ms }) => ms))).toBeLessThan(CALL_MS_MAX);
  expect(longestGap(outcomes)).toBeLessThan(NOTICE_MS_MAX);
}
