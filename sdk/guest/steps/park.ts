/**
 * Decides when an invocation is to be suspended: something sleeps or waits, no step runs, and the function has had a
 * moment to begin another one. Invariant: `suspend` is called once at most.
 */

/** For what a function does between two steps without being told to: reading its request, a file. */
const MOMENT_MS = 5;

export class Park {
  readonly #suspend: () => void;
  #running = 0;
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(suspend: () => void) {
    this.#suspend = suspend;
  }

  async during<Value>(work: () => Promise<Value>): Promise<Value> {
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
      this.#look();
    }
  }

  /** Never resolves: the function goes on in another attempt. */
  wait(): Promise<never> {
    this.#waiting++;
    this.#look();
    return new Promise<never>(() => {});
  }

  #look(): void {
    clearTimeout(this.#timer);
    if (this.#waiting === 0 || this.#running > 0) return;
    this.#timer = setTimeout(() => {
      if (this.#running === 0) this.#suspend();
    }, MOMENT_MS);
  }
}
