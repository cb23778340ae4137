/**
 * Generic cell rate algorithm: a key may be used `ratePerSecond` times a second on average, `burst` times at once.
 * One number for each key, and no timer. Counted by this process alone: a limit that asked Redis for every request
 * would cost more than most of the requests it is there to hold back.
 */
import { LRUCache } from 'lru-cache';

/** An attacker with more addresses than this makes us forget the oldest, which only gives that one a fresh start. */
const KEYS_MAX = 100_000;

export interface RateLimit {
  /** 0: no limit. */
  readonly ratePerSecond: number;
  readonly burst: number;
}

export class RateLimiter {
  readonly #intervalMs: number;
  readonly #toleranceMs: number;
  /** When the key's next use would be due if its uses came evenly. */
  readonly #due = new LRUCache<string, number>({ max: KEYS_MAX });

  constructor({ ratePerSecond, burst }: RateLimit) {
    this.#intervalMs = ratePerSecond > 0 ? 1_000 / ratePerSecond : 0;
    this.#toleranceMs = this.#intervalMs * (burst - 1);
  }

  /** 0: granted. Else refused, and not counted: milliseconds until it would be granted. */
  take(key: string, now: number): number {
    if (this.#intervalMs === 0) return 0;
    const waitMs = this.waitOf(key, now);
    if (waitMs === 0) this.#due.set(key, Math.max(this.#due.get(key) ?? 0, now) + this.#intervalMs);
    return waitMs;
  }

  /** What `take` would answer now. */
  waitOf(key: string, now: number): number {
    if (this.#intervalMs === 0) return 0;
    return Math.max(0, (this.#due.get(key) ?? 0) - this.#toleranceMs - now);
  }
}
