/** Schedules as clients see them: when, what, and what happens to ticks that overlap or were missed. */
import { z } from 'zod';
import { EventRequestHead } from '../events.ts';
import * as limits from '../limits.ts';
import { FunctionName } from '../manifest.ts';
import { tryParseMs } from '../units.ts';

/** While the invocation of the tick before has not ended: run beside it, leave this tick out, or run once after it. */
export const OverlapPolicy = z.enum(['allow', 'skip', 'queue-one']);
export type OverlapPolicy = z.output<typeof OverlapPolicy>;

/** Ticks that passed while nobody could fire them: none, the newest, or all (the newest SCHEDULE_MISSED_MAX). */
export const MissedPolicy = z.enum(['skip', 'latest', 'all']);
export type MissedPolicy = z.output<typeof MissedPolicy>;

function period(min: number, max: number) {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const ms = tryParseMs(value);
    if (ms !== undefined && ms >= min && ms <= max) return ms;
    context.addIssue({
      code: 'custom',
      message: `"${value}" is not a duration from ${min} ms to ${max} ms; write 30s, 5m, 1h`,
    });
    return z.NEVER;
  });
}

/** PUT /v1/schedules/{name}: exactly one of `cron`, `every` and `at`. */
export const ScheduleInput = z.strictObject({
  function: FunctionName,
  /** Five fields, or six with seconds in front. */
  cron: z.string().min(1).max(255).optional(),
  every: period(1_000, limits.SCHEDULE_EVERY_MS_MAX).optional(),
  /** Date and time (ISO 8601) of a single run. */
  at: z.iso.datetime({ offset: true, local: false }).optional(),
  /** IANA name, in which `cron` is meant. */
  timezone: z.string().min(1).max(64).default('UTC'),
  overlap: OverlapPolicy.default('skip'),
  missed: MissedPolicy.default('latest'),
  /** Each tick is put off by a part of this, the same part for the same tick. */
  jitter: period(0, 3_600_000).default(0),
  paused: z.boolean().default(false),
  ...EventRequestHead.shape,
});
export type ScheduleInput = z.output<typeof ScheduleInput>;
export type ScheduleRequest = z.input<typeof ScheduleInput>;

export const Schedule = ScheduleInput.extend({
  name: FunctionName,
  /** Grows with every change: a tick belongs to one version. */
  version: z.number(),
  createdMs: z.number(),
  updatedMs: z.number(),
  /** Absent when it is paused or over. */
  nextMs: z.number().optional(),
  /** Planned instant of the last tick that was dealt with. */
  lastMs: z.number().optional(),
  lastInvocation: z.string().optional(),
  /** Ticks so far: accepted, left out because of an overlap, and missed without being made up for. */
  fired: z.number(),
  skipped: z.number(),
  missedCount: z.number(),
});
export type Schedule = z.output<typeof Schedule>;
