/**
 * Ends a wait that is not worth it: no first byte in time, or too few in the last seconds. What a slow or silent peer costs
 * is bounded by this, whatever it sends.
 */

export interface Limits {
  /** Until the first byte; of a document until the last. */
  readonly firstMs: number;
  /** In each window of `windowMs` at least `windowBytes` must come. */
  readonly windowMs: number;
  readonly windowBytes: number;
}

export interface Watch {
  readonly signal: AbortSignal;
  onBytes(bytes: number): void;
  close(): void;
}

const TICK_MS = 100;

/** `isUp`: whether who is waited for still gives signs of life. */
export function startWatch({ firstMs, windowMs, windowBytes }: Limits, isUp: () => boolean): Watch {
  const controller = new AbortController();
  let sinceMs = performance.now();
  let window = 0;
  let isFlowing = false;
  const timer = setInterval(() => {
    if (!isUp()) controller.abort(new Error('it gives no sign of life'));
    const ms = performance.now() - sinceMs;
    if (ms < (isFlowing ? windowMs : firstMs)) return;
    if (!isFlowing || window < windowBytes) {
      controller.abort(
        new Error(isFlowing ? `only ${window} bytes in ${windowMs} ms` : `no answer in ${firstMs} ms`),
      );
      return;
    }
    sinceMs = performance.now();
    window = 0;
  }, TICK_MS);
  return {
    signal: controller.signal,
    onBytes(bytes) {
      if (!isFlowing) sinceMs = performance.now();
      isFlowing = true;
      window += bytes;
    },
    close: () => clearInterval(timer),
  };
}
