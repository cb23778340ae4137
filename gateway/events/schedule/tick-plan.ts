/** Which ticks are fired now and which are missed: the policy for missed ticks. Pure. */
import type { MissedPolicy } from '../../../sdk/protocol/workflow/schedules.ts';
import { instantsBetween, type Timing } from '../../../infra/schedules/instants.ts';

export interface TickDecision {
  readonly plannedMs: number;
  readonly isMissed: boolean;
  /** How many ticks before this one are not made up for. */
  readonly missedBefore: number;
}

export interface PlanLimits {
  /** A tick that is later than this was missed. */
  readonly lateMs: number;
  /** Missed ticks that policy `all` makes up for. */
  readonly countMax: number;
}

/** What is due after `lastMs` and up to `nowMs`, oldest first. */
export function planTicks(
  timing: Timing,
  policy: MissedPolicy,
  lastMs: number,
  nowMs: number,
  { lateMs, countMax }: PlanLimits,
): TickDecision[] {
  const lateUntilMs = Math.max(lastMs, nowMs - lateMs - 1);
  const missed = instantsBetween(timing, lastMs, lateUntilMs, countMax);
  // On time or nearly: none of these is left out, however many there are.
  const fresh = instantsBetween(timing, lateUntilMs, nowMs, Number.MAX_SAFE_INTEGER).instants;
  const fire = (plannedMs: number, missedBefore = 0): TickDecision => ({
    plannedMs,
    isMissed: false,
    missedBefore,
  });
  const newest = missed.instants.at(-1);
  if (newest === undefined) return fresh.map((at) => fire(at));
  const others = missed.before + missed.instants.length - 1;
  if (policy === 'all') {
    const [first, ...rest] = missed.instants as [number, ...number[]];
    return [fire(first, missed.before), ...[...rest, ...fresh].map((at) => fire(at))];
  }
  // A tick that is on time makes up for those before it.
  if (policy === 'latest' && fresh.length === 0) return [fire(newest, others)];
  return [{ plannedMs: newest, isMissed: true, missedBefore: others }, ...fresh.map((at) => fire(at))];
}
