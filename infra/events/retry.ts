/** When an attempt that failed is repeated. Pure: the caller brings the dice. */
import { RETRY_AFTER_MS_MAX } from '../../sdk/protocol/limits.ts';
import type { EventPolicy } from './record.ts';

/** For attempts that did not run, or failed by the platform's fault. */
const AGAIN_MS_FIRST = 1_000;
const AGAIN_MS_MAX = 300_000;

/** `n` is 0 for the first retry; `random` in [0, 1). uniform(1/2, 1) * min(backoff * 2^n, max). */
export function retryDelayMs(policy: EventPolicy, n: number, random: number): number {
  return spread(Math.min(policy.backoffMs * 2 ** n, policy.backoffMsMax), random);
}

/** For attempts that are not counted. `n` is how many attempts there have been. */
export function againDelayMs(n: number, random: number): number {
  return spread(Math.min(AGAIN_MS_FIRST * 2 ** Math.min(n, 20), AGAIN_MS_MAX), random);
}

function spread(ceilingMs: number, random: number): number {
  return Math.round(ceilingMs * (0.5 + random / 2));
}

/** A function's Retry-After (RFC 9110 §10.2.3: seconds or a date), within our limit. Undefined when there is none. */
export function parseRetryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), RETRY_AFTER_MS_MAX);
}
