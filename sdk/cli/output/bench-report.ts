/** What `skiff bench` measured, in percentiles, and where the time went. */
import type { Channel } from './channel.ts';
import { plural } from './quantities.ts';
import { formatTable } from './table.ts';
import { formatDuration } from './waterfall.ts';

/** One call, in milliseconds as the caller saw it, and what the server said of it. */
export interface Sample {
  readonly allMs: number;
  readonly headMs: number;
  readonly queueMs: number;
  readonly coldMs: number;
  readonly execMs: number;
  /** Cause or status, of a call that failed. */
  readonly failure?: string;
}

export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

interface Bin {
  /** Upper bound, milliseconds. */
  readonly toMs: number;
  readonly count: number;
}

export interface Group {
  readonly calls: number;
  readonly all: Percentiles;
  readonly queue: Percentiles;
  readonly cold: Percentiles;
  readonly exec: Percentiles;
  /** Everything else: this computer, the network, the gateway. */
  readonly way: Percentiles;
  readonly histogram: readonly Bin[];
}

export interface BenchReport {
  readonly callsPerSecond: number;
  readonly concurrency: number;
  /** By cause or status. */
  readonly failures: Readonly<Record<string, number>>;
  readonly warm?: Group;
  readonly cold?: Group;
}

export function summarize(
  samples: readonly Sample[],
  run: { readonly ms: number; readonly warmCalls: number; readonly concurrency: number },
): BenchReport {
  const failures: Record<string, number> = {};
  for (const { failure } of samples)
    if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1;
  const good = samples.filter(({ failure }) => failure === undefined);
  const warm = good.filter(({ coldMs }) => coldMs === 0);
  const cold = good.filter(({ coldMs }) => coldMs > 0);
  return {
    callsPerSecond: run.ms === 0 ? 0 : Math.round((run.warmCalls / run.ms) * 1000),
    concurrency: run.concurrency,
    failures,
    ...(warm.length > 0 && { warm: createGroup(warm) }),
    ...(cold.length > 0 && { cold: createGroup(cold) }),
  };
}

function createGroup(samples: readonly Sample[]): Group {
  const of = (read: (sample: Sample) => number): Percentiles => percentilesOf(samples.map(read));
  return {
    calls: samples.length,
    all: of(({ allMs }) => allMs),
    queue: of(({ queueMs }) => queueMs),
    cold: of(({ coldMs }) => coldMs),
    exec: of(({ execMs }) => execMs),
    way: of(({ headMs, queueMs, coldMs, execMs }) => Math.max(0, headMs - queueMs - coldMs - execMs)),
    histogram: createHistogram(samples.map(({ allMs }) => allMs)),
  };
}

/** Nearest rank. */
export function percentilesOf(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

/** Bounds of 1, 1.5, 2, 3, 5, 7 of each power of ten: as wide as people tell durations apart. */
const STEPS = [1, 1.5, 2, 3, 5, 7] as const;

export function createHistogram(values: readonly number[]): Bin[] {
  const bins = new Map<number, number>();
  for (const value of values) {
    const toMs = boundOf(value);
    bins.set(toMs, (bins.get(toMs) ?? 0) + 1);
  }
  const [least = 0, ...more] = [...bins.keys()].toSorted((a, b) => a - b);
  const last = more.at(-1) ?? least;
  const filled: Bin[] = [];
  for (let toMs = least; toMs <= last; toMs = boundOf(toMs * 1.01))
    filled.push({ toMs, count: bins.get(toMs) ?? 0 });
  return filled;
}

function boundOf(ms: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(ms, 0.01)));
  const step = STEPS.find((one) => Number((one * power).toPrecision(2)) >= ms);
  return Number(((step ?? 10) * power).toPrecision(2));
}

export function formatReport(channel: Channel, report: BenchReport): string[] {
  const { warm, cold, failures, callsPerSecond, concurrency } = report;
  const lines: string[] = [];
  if (cold) lines.push(...formatGroup(channel, 'cold', `each started a sandbox`, cold));
  if (warm) {
    if (cold) lines.push('');
    lines.push(...formatGroup(channel, 'warm', `${concurrency} at a time, ${callsPerSecond} a second`, warm));
    lines.push('', ...formatHistogram(channel, warm.histogram));
  }
  const failed = Object.entries(failures).map(([cause, count]) => `${plural(count, 'call')}: ${cause}`);
  if (failed.length > 0) lines.push('', channel.style('red', `failed  ${failed.join(', ')}`));
  return lines;
}

function formatGroup(channel: Channel, name: string, what: string, group: Group): string[] {
  const rows = (['all', 'queue', 'cold', 'exec', 'way'] as const)
    .filter((part) => part !== 'cold' || name === 'cold')
    .map((part) => ({ part, ...group[part] }));
  const column = (title: string, read: (row: (typeof rows)[number]) => number) => ({
    title,
    align: 'right' as const,
    value: (row: (typeof rows)[number]) => formatDuration(read(row)),
  });
  const table = formatTable(
    channel,
    [
      { title: '', value: (row: (typeof rows)[number]) => row.part },
      column('P50', ({ p50 }) => p50),
      column('P90', ({ p90 }) => p90),
      column('P99', ({ p99 }) => p99),
      column('MAX', ({ max }) => max),
    ],
    rows,
  );
  return [`${channel.style('bold', name)}  ${plural(group.calls, 'call')}, ${what}`, ...table];
}

const BAR_CHARS = 40;

function formatHistogram(channel: Channel, bins: readonly Bin[]): string[] {
  const most = Math.max(1, ...bins.map(({ count }) => count));
  return bins.map(({ toMs, count }) => {
    const bar = count === 0 ? '' : '█'.repeat(Math.max(1, Math.round((count / most) * BAR_CHARS)));
    return `${`≤ ${formatDuration(toMs)}`.padStart(10)}  ${channel.style('cyan', bar)} ${count}`;
  });
}
