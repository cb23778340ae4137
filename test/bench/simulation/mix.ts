/**
 * Calls as in what Microsoft published of Azure Functions in 2019: rates over many orders of magnitude (most functions
 * are called once a minute or less, a few make nearly all calls), half of them by timers, durations and memory
 * log-normal. The numbers are of that shape, not its traces.
 */
export interface SimulatedFunction {
  readonly id: string;
  /** Calls a second on average. */
  readonly rate: number;
  readonly isTimer: boolean;
  readonly memoryBytes: number;
  /** Median run time. */
  readonly runMs: number;
}

const MB = 1024 ** 2;

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** mulberry32: the same seed, the same run. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  exponential(mean: number): number {
    return -Math.log(1 - this.next()) * mean;
  }

  logNormal(median: number, sigma: number): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
    return median * Math.exp(sigma * normal);
  }
}

const RATE_EXPONENTS = { least: -4.5, most: 0.7 } as const;

export function createMix(count: number, random: Random): SimulatedFunction[] {
  return Array.from({ length: count }, (_, i) => {
    const exponent =
      RATE_EXPONENTS.least + random.next() ** 1.5 * (RATE_EXPONENTS.most - RATE_EXPONENTS.least);
    const memoryMb = Math.min(1_024, Math.max(64, Math.round(random.logNormal(170, 0.6) / 64) * 64));
    return {
      id: `dep-${i}`,
      rate: 10 ** exponent,
      isTimer: random.next() < 0.45,
      memoryBytes: memoryMb * MB,
      runMs: Math.min(60_000, random.logNormal(600, 1.4)),
    };
  });
}

/** Until the next call. */
export function gapMs({ rate, isTimer }: SimulatedFunction, random: Random): number {
  const meanMs = 1_000 / rate;
  return isTimer ? meanMs : random.exponential(meanMs);
}
