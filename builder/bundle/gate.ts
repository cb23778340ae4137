/** Many at once, or one alone: an exclusive run waits for those under way and holds back those that come after. */
export class Gate {
  #active = 0;
  #lastExclusive: Promise<unknown> = Promise.resolve();
  #onIdle: (() => void) | undefined;

  async runShared<Result>(run: () => Promise<Result>): Promise<Result> {
    // Another exclusive run may have been ordered while this one waited.
    for (let last; last !== this.#lastExclusive;) {
      last = this.#lastExclusive;
      await last;
    }
    this.#active++;
    try {
      return await run();
    } finally {
      this.#active--;
      if (this.#active === 0) this.#onIdle?.();
    }
  }

  async runExclusive<Result>(run: () => Promise<Result>): Promise<Result> {
    const result = this.#lastExclusive.then(async () => {
      if (this.#active > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
      this.#onIdle = undefined;
      return run();
    });
    this.#lastExclusive = result.catch(() => {});
    return result;
  }
}
