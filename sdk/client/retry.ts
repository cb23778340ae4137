/**
 * When a request may be sent again, and how long to wait before. Full jitter spreads the callers of an overloaded
 * server; the budget keeps retries below a tenth of all calls, so that a client never makes an outage worse.
 */
export interface RetryPolicy {
  /** Tries in all, the first included. 1 turns retries off. */
  readonly attemptsMax: number;
  readonly baseMs: number;
  readonly waitMsMax: number;
}

export const RETRY_DEFAULT: RetryPolicy = { attemptsMax: 4, baseMs: 100, waitMsMax: 5_000 };

const BUDGET_MAX = 10;
const BUDGET_PER_CALL = 0.1;

export class RetryBudget {
  #tokens = BUDGET_MAX;

  /** Every first try earns a tenth of a retry. */
  earn(): void {
    this.#tokens = Math.min(BUDGET_MAX, this.#tokens + BUDGET_PER_CALL);
  }

  trySpend(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

/** Wait before try number `attempt` + 1. A Retry-After is a floor, and the jitter comes on top of it. */
export function retryWaitMs(policy: RetryPolicy, attempt: number, retryAfterMs: number | undefined): number {
  const ceiling = Math.min(policy.waitMsMax, policy.baseMs * 2 ** (attempt - 1));
  return (retryAfterMs ?? 0) + Math.random() * ceiling;
}

/** Resolves after `ms`; rejects with the signal's reason as soon as it is aborted. */
export function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
