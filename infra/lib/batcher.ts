/**
 * Many single requests as few large ones: what comes in while requests are under way goes out together in the next one,
 * as in a database's group commit. Invariant: an item is in one batch, in order, and settles with it; nothing waits while
 * fewer than `inFlightMax` batches are under way.
 */
export interface BatcherOptions<Item, Result> {
  /** One result for each item, in order; when it rejects all its items do. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>;
  readonly countMax: number;
  readonly inFlightMax: number;
}

interface Pending<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

export class Batcher<Item, Result> {
  readonly #options: BatcherOptions<Item, Result>;
  #waiting: Pending<Item, Result>[] = [];
  #inFlight = 0;
  #isPlanned = false;
  readonly #begin = (): void => {
    this.#isPlanned = false;
    this.#flush();
  };

  constructor(options: BatcherOptions<Item, Result>) {
    this.#options = options;
  }

  add(item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    this.#waiting.push({ item, resolve, reject });
    if (!this.#isPlanned) {
      this.#isPlanned = true;
      // At the end of this turn: what comes in one turn belongs together. The first of a quiet time waits for nobody.
      if (this.#inFlight === 0) process.nextTick(this.#begin);
      else setImmediate(this.#begin);
    }
    return promise;
  }

  #flush(): void {
    const { countMax, inFlightMax } = this.#options;
    while (this.#waiting.length > 0 && this.#inFlight < inFlightMax) {
      const batch = this.#waiting.splice(0, countMax);
      this.#inFlight += 1;
      void this.#run(batch).finally(() => {
        this.#inFlight -= 1;
        this.#flush();
      });
    }
  }

  async #run(batch: readonly Pending<Item, Result>[]): Promise<void> {
    try {
      const results = await this.#options.run(batch.map(({ item }) => item));
      for (const [i, { resolve }] of batch.entries()) resolve(results[i] as Result);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
