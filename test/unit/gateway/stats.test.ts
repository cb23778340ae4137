import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CallWindow, WINDOW_S } from '../../../gateway/stats/call-window.ts';
import { addCounts, bucketOf, type Counts, tryPercentile } from '../../../gateway/stats/latencies.ts';

beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }));
afterEach(() => void vi.useRealTimers());

test('percentiles are upper bounds within ten percent, over counts of several sources', () => {
  const counts: Counts = {};
  const other: Counts = {};
  for (let ms = 1; ms <= 1_000; ms++) {
    const into = ms % 2 ? counts : other;
    into[bucketOf(ms)] = (into[bucketOf(ms)] ?? 0) + 1;
  }
  addCounts(counts, other);
  for (const [share, exact] of [
    [0.5, 500],
    [0.95, 950],
    [0.99, 990],
  ] as const) {
    const found = tryPercentile(counts, share) as number;
    expect(found).toBeGreaterThanOrEqual(exact);
    expect(found).toBeLessThanOrEqual(exact * 1.11);
  }
  expect(tryPercentile({}, 0.5)).toBeUndefined();
  expect(bucketOf(0)).toBe(0);
  expect(bucketOf(1e12)).toBe(bucketOf(1e9));
});

test('counts calls of whole seconds by function, and forgets those before the window', () => {
  const window = new CallWindow();
  const call = (functionName: string, cause?: 'timeout', isCold = false): void =>
    window.report(
      {
        deployment: { functionName },
        receivedMs: Date.now() - 5,
        timing: { queueMs: 0, coldMs: isCold ? 9 : 0, execMs: 1 },
      },
      cause,
    );
  call('a');
  call('a', 'timeout', true);
  call('b');
  expect(window.read(Date.now())).toEqual({});
  vi.advanceTimersByTime(1_000);
  call('a');
  expect(window.read(Date.now())).toMatchObject({ a: { calls: 2, errors: 1, cold: 1 }, b: { calls: 1 } });
  vi.advanceTimersByTime(WINDOW_S * 1_000);
  expect(window.read(Date.now())).toEqual({ a: expect.objectContaining({ calls: 1 }) });
  vi.advanceTimersByTime(1_000);
  expect(window.read(Date.now())).toEqual({});
});

test('does not grow without end: of very many functions in one second some are not counted', () => {
  const window = new CallWindow();
  for (let i = 0; i < 3_000; i++)
    window.report(
      { deployment: { functionName: `f${i}` }, receivedMs: Date.now(), timing: undefined },
      undefined,
    );
  vi.advanceTimersByTime(1_000);
  expect(Object.keys(window.read(Date.now())).length).toBe(2_000);
});
