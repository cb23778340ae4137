import { expect, test } from 'vitest';
import { planTicks } from '../../../gateway/events/schedule/tick-plan.ts';
import type { Timing } from '../../../infra/schedules/instants.ts';

const MINUTE = 60_000;
const start = Date.parse('2026-01-01T00:00:00Z');
const everyMinute: Timing = { cron: '* * * * *', timezone: 'UTC', anchorMs: start };
const limits = { lateMs: 30_000, countMax: 3 };
const plan = (policy: 'skip' | 'latest' | 'all', lastMs: number, nowMs: number) =>
  planTicks(everyMinute, policy, lastMs, nowMs, limits).map(({ plannedMs, isMissed, missedBefore }) => [
    (plannedMs - start) / MINUTE,
    isMissed ? 'missed' : 'fired',
    missedBefore,
  ]);

test('a tick on time is fired, whatever the policy', () => {
  for (const policy of ['skip', 'latest', 'all'] as const) {
    expect(plan(policy, start, start + MINUTE)).toEqual([[1, 'fired', 0]]);
    expect(plan(policy, start, start + MINUTE + 29_000)).toEqual([[1, 'fired', 0]]);
    expect(plan(policy, start, start + MINUTE - 1)).toEqual([]);
  }
});

test('skip leaves out what was missed', () => {
  expect(plan('skip', start, start + 10 * MINUTE + 40_000)).toEqual([[10, 'missed', 9]]);
});

test('latest makes up for what was missed once, unless a tick on time does', () => {
  expect(plan('latest', start, start + 10 * MINUTE + 40_000)).toEqual([[10, 'fired', 9]]);
  expect(plan('latest', start, start + 10 * MINUTE + 10_000)).toEqual([
    [9, 'missed', 8],
    [10, 'fired', 0],
  ]);
});

test('all fires the newest of what was missed, in order, and counts the rest', () => {
  expect(plan('all', start, start + 5 * MINUTE + 40_000)).toEqual([
    [3, 'fired', 2],
    [4, 'fired', 0],
    [5, 'fired', 0],
  ]);
});

test('a clock that went back fires nothing again', () => {
  for (const policy of ['skip', 'latest', 'all'] as const)
    expect(plan(policy, start + 60 * MINUTE, start)).toEqual([]);
});

test('several ticks on time are all fired', () => {
  const everySecond: Timing = { everyMs: 1_000, timezone: 'UTC', anchorMs: start };
  const ticks = planTicks(everySecond, 'latest', start, start + 10_000, limits);
  expect(ticks.map(({ isMissed }) => isMissed)).toEqual(ticks.map(() => false));
  expect(ticks).toHaveLength(10);
});
