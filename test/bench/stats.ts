/** Samples and what is said of them: medians, percentiles, ranges. */

export class Samples {
  readonly name: string;
  readonly unit: string;
  readonly values: number[] = [];

  constructor(name: string, unit: string) {
    this.name = name;
    this.unit = unit;
  }

  add(value: number): void {
    this.values.push(value);
  }

  percentile(share: number): number {
    if (this.values.length === 0) return Number.NaN;
    const sorted = this.values.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
  }

  get median(): number {
    return this.percentile(0.5);
  }

  summary() {
    return {
      name: this.name,
      unit: this.unit,
      count: this.values.length,
      median: this.median,
      p99: this.percentile(0.99),
      min: this.percentile(0),
      max: this.percentile(1),
    };
  }
}

/** All samples of one run, by name. */
export class Record {
  readonly #all = new Map<string, Samples>();

  of(name: string, unit: string): Samples {
    let samples = this.#all.get(name);
    if (!samples) this.#all.set(name, (samples = new Samples(name, unit)));
    return samples;
  }

  get(name: string): Samples | undefined {
    return this.#all.get(name);
  }

  all(): Samples[] {
    return [...this.#all.values()];
  }
}
