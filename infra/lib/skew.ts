/**
 * Clocks of hosts differ. What is said in wall-clock time between them is put right by how far two clocks are apart.
 * Invariant: hosts whose clocks agree within SKEW_MS_MIN, as NTP keeps them, pay nothing: their difference counts as 0.
 */
import type { Redis } from 'ioredis';

/** Below it a difference is mostly the way of the message that told of it. */
const SKEW_MS_MIN = 500;
const LOOK_MS = 5_000;

/** How far a clock that says `nowMs` is behind ours (negative: ahead), 0 when that is next to nothing. */
export function skewOf(nowMs: unknown, ownMs = Date.now()): number {
  if (typeof nowMs !== 'number' || !Number.isFinite(nowMs)) return 0;
  const skew = Math.round(ownMs - nowMs);
  return Math.abs(skew) < SKEW_MS_MIN ? 0 : skew;
}

/** How far the clock of a store is ahead of ours. */
export async function readStoreSkew(redis: Redis): Promise<number> {
  const askedMs = Date.now();
  const [seconds, micros] = (await redis.time()).map(Number) as [number, number];
  const skew = skewOf(seconds * 1_000 + micros / 1_000, (askedMs + Date.now()) / 2);
  return skew === 0 ? 0 : -skew;
}

/** The one clock that all hosts share: their store's. What they compare of each other's times is said in it. */
export class StoreClock {
  readonly #redis: Redis;
  /** How far it is ahead of ours. */
  skewMs = 0;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Unix time in ms. */
  now(): number {
    return Date.now() + this.skewMs;
  }

  /** Compares this process's clock with it, now and every few seconds, until the returned function is called. */
  follow(): () => void {
    const read = () =>
      readStoreSkew(this.#redis).then(
        (skewMs) => (this.skewMs = skewMs),
        // The store is away; then there is nothing to compare either.
        () => {},
      );
    void read();
    const timer = setInterval(() => void read(), LOOK_MS);
    timer.unref();
    return () => clearInterval(timer);
  }
}
