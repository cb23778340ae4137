/**
 * Counters, gauges and histograms of one process in the Prometheus text format (version 0.0.4).
 * Invariant: an increment is one map look-up and an addition, and the number of series is bounded: past
 * SERIES_MAX label sets of one metric the rest is counted under the label set `overflow="true"`.
 */
export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  add(labels?: Labels, amount?: number): void;
  /** For hot paths: the series is looked up once. */
  bind(labels: Labels): (amount?: number) => void;
}
export interface Histogram {
  /** In seconds, as Prometheus wants durations. */
  observe(seconds: number, labels?: Labels): void;
  bind(labels: Labels): (seconds: number) => void;
}

const SERIES_MAX = 2_000;
/** From a warm call on the same host to the longest patience. */
const SECONDS_BUCKETS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

export class Metrics {
  readonly #families: { header: string; lines: () => string[] }[] = [];

  #add(name: string, type: string, help: string, lines: () => string[]): void {
    this.#families.push({ header: `# HELP ${name} ${help}\n# TYPE ${name} ${type}`, lines });
  }

  /** `name` ends in `_total`. */
  counter(name: string, help: string): Counter {
    const series = new Series<{ value: number }>(() => ({ value: 0 }));
    this.#add(name, 'counter', help, () => series.map((labels, { value }) => `${name}${labels} ${value}`));
    const bind: Counter['bind'] = (labels) => {
      const state = series.get(labels);
      return (amount = 1) => {
        state.value += amount;
      };
    };
    return { bind, add: (labels = {}, amount = 1) => bind(labels)(amount) };
  }

  /** `read` is asked at every scrape; undefined means "not known now". */
  gauge(name: string, help: string, read: () => number | undefined): void {
    this.#add(name, 'gauge', help, () => {
      const value = read();
      return value === undefined ? [] : [`${name} ${value}`];
    });
  }

  /** `name` ends in `_seconds`. */
  histogram(name: string, help: string, buckets: readonly number[] = SECONDS_BUCKETS): Histogram {
    const series = new Series(() => ({ counts: new Float64Array(buckets.length + 1), sum: 0 }));
    this.#add(name, 'histogram', help, () =>
      series.map((labels, { counts, sum }) => {
        let total = 0;
        const lines = [...buckets.map(String), '+Inf'].map((bound, i) => {
          total += counts[i] as number;
          return `${name}_bucket${withLabel(labels, 'le', bound)} ${total}`;
        });
        return [...lines, `${name}_sum${labels} ${sum}`, `${name}_count${labels} ${total}`].join('\n');
      }),
    );
    const bind: Histogram['bind'] = (labels) => {
      const state = series.get(labels);
      return (seconds) => {
        const bucket = buckets.findIndex((bound) => seconds <= bound);
        const at = bucket < 0 ? buckets.length : bucket;
        state.counts[at] = (state.counts[at] as number) + 1;
        state.sum += seconds;
      };
    };
    return { bind, observe: (seconds, labels = {}) => bind(labels)(seconds) };
  }

  render(): string {
    return this.#families.map(({ header, lines }) => `${[header, ...lines()].join('\n')}\n`).join('');
  }
}

class Series<State> {
  readonly #states = new Map<string, State>();
  readonly #create: () => State;

  constructor(create: () => State) {
    this.#create = create;
  }

  get(labels: Labels): State {
    const key = formatLabels(labels);
    const known = this.#states.get(key);
    if (known) return known;
    if (this.#states.size >= SERIES_MAX && !('overflow' in labels)) return this.get({ overflow: 'true' });
    const created = this.#create();
    this.#states.set(key, created);
    return created;
  }

  map(format: (labels: string, state: State) => string): string[] {
    return [...this.#states].map(([labels, state]) => format(labels, state));
  }
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function withLabel(labels: string, name: string, value: string): string {
  return labels === '' ? `{${name}="${value}"}` : `${labels.slice(0, -1)},${name}="${value}"}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
