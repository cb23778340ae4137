/** G5: when an attempt that failed is repeated, and which are not. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { judge, outcomeOf } from '../../../gateway/events/consume/verdict.ts';
import { againDelayMs, parseRetryAfterMs, retryDelayMs } from '../../../infra/events/retry.ts';
import type { EventPolicy } from '../../../infra/events/record.ts';

const POLICY: EventPolicy = { retries: 2, backoffMs: 30_000, backoffMsMax: 900_000, resultMs: 1 };
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test('G5: a retry waits between half and all of backoff · 2ⁿ, at most its ceiling', () => {
  fc.assert(
    fc.property(fc.nat(30), random, (n, dice) => {
      const ceiling = Math.min(POLICY.backoffMs * 2 ** n, POLICY.backoffMsMax);
      const delay = retryDelayMs(POLICY, n, dice);
      expect(delay).toBeGreaterThanOrEqual(ceiling / 2);
      expect(delay).toBeLessThanOrEqual(ceiling);
    }),
  );
  expect([0, 1, 2, 9].map((n) => retryDelayMs(POLICY, n, 0))).toEqual([15_000, 30_000, 60_000, 450_000]);
});

test('G5: what did not run waits from a second to five minutes', () => {
  fc.assert(
    fc.property(fc.nat(1_000), random, (n, dice) => {
      const delay = againDelayMs(n, dice);
      expect(delay).toBeGreaterThanOrEqual(500);
      expect(delay).toBeLessThanOrEqual(300_000);
    }),
  );
});

test('G5: Retry-After in seconds or as a date, within an hour; nonsense is none', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  expect(parseRetryAfterMs('7', nowMs)).toBe(7_000);
  expect(parseRetryAfterMs('Thu, 01 Jan 2026 00:00:30 GMT', nowMs)).toBe(30_000);
  expect(parseRetryAfterMs('Wed, 31 Dec 2025 00:00:00 GMT', nowMs)).toBe(0);
  expect(parseRetryAfterMs('999999', nowMs)).toBe(3_600_000);
  for (const text of [undefined, '', 'soon', '-3']) expect(parseRetryAfterMs(text, nowMs) ?? 0).toBe(0);
  expect(parseRetryAfterMs('soon', nowMs)).toBeUndefined();
});

describe('what an answer means', () => {
  test.each([
    [{ status: 200, headers: [] }, undefined, 'ok'],
    [{ status: 302, headers: [] }, undefined, 'ok'],
    [{ status: 404, headers: [] }, undefined, 'rejected'],
    [{ status: 408, headers: [] }, undefined, 'function_error'],
    [{ status: 429, headers: [] }, undefined, 'function_error'],
    [{ status: 500, headers: [] }, undefined, 'function_error'],
    [{ status: 500, headers: [['skiff-retry', 'false']] as const }, undefined, 'rejected'],
    [{ status: 502, headers: [] }, 'OUT_OF_MEMORY', 'oom'],
    [{ status: 504, headers: [] }, 'TIMEOUT', 'timeout'],
    [{ status: 502, headers: [] }, 'OUTCOME_UNKNOWN', 'lost'],
    [{ status: 503, headers: [] }, 'OVERLOADED', 'throttled'],
    [{ status: 413, headers: [] }, 'BODY_TOO_LARGE', 'rejected'],
  ] as const)('%j with %s is %s', (answer, failure, outcome) => {
    expect(outcomeOf(answer, failure)).toBe(outcome);
  });

  test('G5: exactly `retries` tries follow the first, and none a refusal', () => {
    const follows = (counted: number) =>
      judge('function_error', [], { policy: POLICY, counted, uncounted: 0 }, 0, 0.5).follows;
    expect([0, 1, 2].map(follows)).toEqual(['retry', 'retry', 'dead']);
    expect(judge('rejected', [], { policy: POLICY, counted: 0, uncounted: 0 }, 0, 0)).toMatchObject({
      follows: 'dead',
      reason: 'rejected',
    });
    const uncounted = judge('throttled', [], { policy: POLICY, counted: 2, uncounted: 9 }, 0, 0);
    expect(uncounted).toMatchObject({ follows: 'again', counts: false });
  });

  test('G5: the function’s Retry-After wins over the backoff, for its own failures only', () => {
    const headers = [['retry-after', '1']] as const;
    const series = { policy: POLICY, counted: 0, uncounted: 0 };
    expect(judge('function_error', headers, series, 0, 0)).toMatchObject({ delayMs: 1_000 });
    expect(judge('timeout', headers, series, 0, 0)).toMatchObject({ delayMs: 15_000 });
  });
});
