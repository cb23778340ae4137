/**
 * When a schedule's ticks are. Pure: no clock is read.
 *
 * Cron expressions are read by cron-parser (BullMQ's own). What it leaves open of daylight saving is decided here:
 * a wall-clock time that a change leaves out fires at the first instant after the gap; one that comes twice fires the
 * first time. Both only where the hour is fixed: an expression for every hour goes on by the hour, as cron does.
 */
import { CronExpressionParser, type CronExpression } from 'cron-parser';
import { SkiffError } from '../../sdk/protocol/errors.ts';

export interface Timing {
  readonly cron?: string | undefined;
  readonly everyMs?: number | undefined;
  readonly atMs?: number | undefined;
  readonly timezone: string;
  /** Where `everyMs` counts from. */
  readonly anchorMs: number;
}

const HOURS_A_DAY = 24;

/** @throws SkiffError BAD_REQUEST that says what is wrong with the timing */
export function assertTiming(timing: Timing): void {
  const { cron, everyMs, atMs, timezone } = timing;
  if ([cron, everyMs, atMs].filter((each) => each !== undefined).length !== 1) {
    throw new SkiffError('BAD_REQUEST', 'a schedule has exactly one of cron, every and at');
  }
  try {
    new Intl.DateTimeFormat('en', { timeZone: timezone });
  } catch {
    throw new SkiffError(
      'BAD_REQUEST',
      `"${timezone}" is not a time zone; write a name such as Europe/Berlin`,
    );
  }
  if (cron === undefined) return;
  const fields = cron.trim().split(/\s+/).length;
  if (!cron.startsWith('@') && fields !== 5 && fields !== 6) {
    throw new SkiffError(
      'BAD_REQUEST',
      `cron "${cron}" has ${fields} fields; it needs minute, hour, day, month and weekday, with seconds in front if wanted`,
    );
  }
  try {
    parseCron(cron, timezone, timing.anchorMs).next();
  } catch (error) {
    throw new SkiffError('BAD_REQUEST', `cron "${cron}": ${(error as Error).message}`);
  }
}

/** The first planned instant after `afterMs`; undefined when there is none. */
export function nextInstant(timing: Timing, afterMs: number): number | undefined {
  const { cron, everyMs, atMs, anchorMs, timezone } = timing;
  if (atMs !== undefined) return atMs > afterMs ? atMs : undefined;
  if (everyMs !== undefined) {
    const passed = Math.max(0, Math.floor((afterMs - anchorMs) / everyMs));
    const next = anchorMs + passed * everyMs;
    return next > afterMs ? next : next + everyMs;
  }
  return cron === undefined ? undefined : nextCron(cron, timezone, afterMs);
}

/** Instants that are only counted: past this many "at least so many" is said. */
const COUNTED_MAX = 2_000;
/** How far back is looked first for the newest instants; four times as far when that was not enough. */
const LOOK_BACK_MS = 60_000;

/** The newest planned instants after `afterMs` and up to `untilMs`, at most `countMax`; how many more were seen before. */
export function instantsBetween(
  timing: Timing,
  afterMs: number,
  untilMs: number,
  countMax: number,
): { readonly instants: number[]; readonly before: number } {
  // From the end backwards: after a year's outage a schedule of every second is not counted through from its start.
  for (let lookBackMs = LOOK_BACK_MS; ; lookBackMs *= 4) {
    const startMs = Math.max(afterMs, untilMs - lookBackMs);
    const instants: number[] = [];
    for (
      let at = nextInstant(timing, startMs);
      at !== undefined && at <= untilMs;
      at = nextInstant(timing, at)
    ) {
      instants.push(at);
    }
    if (instants.length <= countMax && startMs > afterMs) continue;
    const kept = instants.slice(-countMax);
    const before = instants.length - kept.length;
    return { instants: kept, before: before + countInstants(timing, afterMs, startMs) };
  }
}

/** After `afterMs` and up to `untilMs`. */
function countInstants(timing: Timing, afterMs: number, untilMs: number): number {
  if (timing.everyMs !== undefined) {
    const passed = (ms: number): number => Math.floor((ms - timing.anchorMs) / (timing.everyMs as number));
    return Math.max(0, passed(untilMs) - passed(afterMs));
  }
  let count = 0;
  for (
    let at = nextInstant(timing, afterMs);
    at !== undefined && at <= untilMs;
    at = nextInstant(timing, at)
  ) {
    if (++count >= COUNTED_MAX) break;
  }
  return count;
}

function parseCron(cron: string, timezone: string, afterMs: number): CronExpression {
  return CronExpressionParser.parse(cron, { currentDate: new Date(afterMs), tz: timezone });
}

function nextCron(cron: string, timezone: string, afterMs: number): number | undefined {
  const expression = parseCron(cron, timezone, afterMs);
  const hasFixedHour = expression.fields.hour.values.length < HOURS_A_DAY;
  for (;;) {
    let candidate: number;
    try {
      candidate = expression.next().getTime();
    } catch {
      // No such date (within the years that cron-parser looks ahead).
      return undefined;
    }
    if (!hasFixedHour) return candidate;
    const gapEnd = findMatchedGap(cron, timezone, afterMs, candidate);
    if (gapEnd !== undefined) return gapEnd;
    if (isOnWallClock(expression, timezone, candidate)) return candidate;
  }
}

function zonedAt(ms: number, timezone: string): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timezone);
}

/** cron-parser moves a time in a gap behind it; such a candidate is not what the expression says. */
function isOnWallClock(expression: CronExpression, timezone: string, ms: number): boolean {
  const { hour, minute } = zonedAt(ms, timezone);
  const { fields } = expression;
  return (
    (fields.hour.values as readonly number[]).includes(hour) &&
    (fields.minute.values as readonly number[]).includes(minute)
  );
}

/** The end of the first gap after `afterMs` and up to `untilMs` that swallowed a time of the expression. */
function findMatchedGap(
  cron: string,
  timezone: string,
  afterMs: number,
  untilMs: number,
): number | undefined {
  for (let from = zonedAt(afterMs, timezone); ;) {
    const transition = from.getTimeZoneTransition('next');
    if (!transition || transition.epochMilliseconds > untilMs) return undefined;
    const endMs = transition.epochMilliseconds;
    const before = zonedAt(endMs - 1, timezone);
    const gapMs = (transition.offsetNanoseconds - before.offsetNanoseconds) / 1e6;
    // Wall-clock times as if there were no zones: from where the clock stood to where it was put.
    const gapStart = endMs + before.offsetNanoseconds / 1e6;
    if (gapMs > 0) {
      const inGap = parseCron(cron, 'UTC', gapStart - 1)
        .next()
        .getTime();
      if (inGap < gapStart + gapMs) return endMs;
    }
    from = transition;
  }
}
