/**
 * How much one sandbox may log: lines and bytes in a second. What is over is dropped and counted, so that a flood costs
 * its function its own lines and nobody else anything.
 */
import { LOG_BYTES_PER_SECOND_MAX, LOG_LINES_PER_SECOND_MAX } from '../../sdk/protocol/limits.ts';

const WINDOW_MS = 1_000;

export class LogBudget {
  #windowMs = 0;
  #lines = 0;
  #bytes = 0;
  #dropped = 0;

  /** Whether a line of so many bytes may be kept. `onDropped` hears once in a window how many were not. */
  tryTake(bytes: number, now: number, onDropped: (lines: number) => void): boolean {
    if (now - this.#windowMs >= WINDOW_MS) {
      const dropped = this.#dropped;
      this.#windowMs = now;
      this.#lines = 0;
      this.#bytes = 0;
      this.#dropped = 0;
      if (dropped > 0) onDropped(dropped);
    }
    this.#lines++;
    this.#bytes += bytes;
    const isWithin = this.#lines <= LOG_LINES_PER_SECOND_MAX && this.#bytes <= LOG_BYTES_PER_SECOND_MAX;
    if (!isWithin) this.#dropped++;
    return isWithin;
  }
}
