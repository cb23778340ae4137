/** What an attempt's answer means: its outcome, and what follows. Pure. */
import type { ErrorCode } from '../../../sdk/protocol/errors.ts';
import type { AttemptOutcome } from '../../../sdk/protocol/events.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import type { HeaderList } from '../../../sdk/protocol/invocation.ts';
import type { EventPolicy } from '../../../infra/events/record.ts';
import { againDelayMs, parseRetryAfterMs, retryDelayMs } from '../../../infra/events/retry.ts';
import { OUTCOMES } from '../../../infra/events/states.ts';

export interface Verdict {
  readonly outcome: AttemptOutcome;
  readonly follows: 'succeeded' | 'dead' | 'retry' | 'again' | 'lost' | 'wait';
  readonly counts: boolean;
  readonly reason?: string;
  readonly delayMs?: number;
}

/** Failures of the platform's or the sandbox's; what is not here is a request that cannot be run at all. */
const OUTCOME_OF_CODE: Partial<Record<ErrorCode, AttemptOutcome>> = {
  HANDLER_ERROR: 'function_error',
  TIMEOUT: 'timeout',
  OUT_OF_MEMORY: 'oom',
  CRASHED: 'crashed',
  COLD_START_FAILED: 'init_error',
  THROTTLED: 'throttled',
  OVERLOADED: 'throttled',
  QUEUE_EXPIRED: 'throttled',
  UNAVAILABLE: 'platform_error',
  INTERNAL: 'platform_error',
  OUTCOME_UNKNOWN: 'lost',
};

/** Statuses below 500 that say "later", not "never" (RFC 9110 §15.5.9, RFC 8470, RFC 6585). */
const LATER: ReadonlySet<number> = new Set([408, 425, 429]);

export function outcomeOf(
  answer: { readonly status: number; readonly headers: HeaderList },
  failure: ErrorCode | undefined,
): AttemptOutcome {
  if (failure !== undefined) return OUTCOME_OF_CODE[failure] ?? 'rejected';
  if (answer.status < 400) return 'ok';
  if (findHeader(answer.headers, Header.retry)?.toLowerCase() === 'false') return 'rejected';
  return answer.status >= 500 || LATER.has(answer.status) ? 'function_error' : 'rejected';
}

export interface Series {
  readonly policy: EventPolicy;
  /** Counted tries, and attempts that were not counted, before this one. */
  readonly counted: number;
  readonly uncounted: number;
}

export function judge(
  outcome: AttemptOutcome,
  headers: HeaderList,
  { policy, counted, uncounted }: Series,
  nowMs: number,
  random: number,
): Verdict {
  const { counts, follows } = OUTCOMES[outcome];
  switch (follows) {
    case 'end':
      return { outcome, counts, follows: 'succeeded' };
    case 'dead':
      return { outcome, counts, follows: 'dead', reason: outcome };
    case 'lost':
      return { outcome, counts, follows: 'lost' };
    case 'wait':
      return { outcome, counts, follows: 'wait' };
    case 'again':
      return { outcome, counts, follows: 'again', delayMs: againDelayMs(uncounted, random) };
    case 'retry': {
      if (counted >= policy.retries) return { outcome, counts, follows: 'dead', reason: 'retries_exhausted' };
      const asked = outcome === 'function_error' ? findHeader(headers, 'retry-after') : undefined;
      const delayMs = parseRetryAfterMs(asked, nowMs) ?? retryDelayMs(policy, counted, random);
      return { outcome, counts, follows: 'retry', delayMs };
    }
  }
}

function findHeader(headers: HeaderList, name: string): string | undefined {
  return headers.find(([known]) => known === name)?.[1];
}
