/** The table people read, and the JSON that goes with it. */
import { IDLERS, QUEUED_IDLERS } from './sections/warm.ts';
import type { Record } from './stats.ts';

interface Row {
  readonly what: string;
  readonly subject: string;
  readonly baseline: string;
  /** Median of the subject over median of the baseline, or p99 over p99. */
  readonly at?: 'median' | 'p99';
  readonly must: string;
  readonly isMet: (ratio: number) => boolean;
}

const atMost = (limit: number) => ({ must: `≤ ${limit}`, isMet: (ratio: number) => ratio <= limit });
const atLeast = (limit: number) => ({ must: `≥ ${limit}`, isMet: (ratio: number) => ratio >= limit });

/** Nothing of ours: what the machine allows. */
const BOUND = { must: '', isMet: () => true };

const B0 = 'B0 spawn of node hono.mjs';
const ROWS: readonly Row[] = [
  {
    what: 'cold first byte with a stem, p50 ÷ B0',
    subject: 'cold with a stem',
    baseline: B0,
    ...atMost(0.15),
  },
  {
    what: 'cold first byte with a stem, p99 ÷ B0 p99',
    subject: 'cold with a stem',
    baseline: B0,
    at: 'p99',
    ...atMost(0.4),
  },
  {
    what: 'cold first byte with a stem ÷ B1',
    subject: 'cold with a stem',
    baseline: 'B1 docker run',
    ...atMost(0.0286),
  },
  {
    what: 'cold with the pool empty ÷ B0',
    subject: 'cold with the pool empty',
    baseline: B0,
    ...atMost(1.5),
  },
  {
    what: 'cold of an arbitrary image on the host ÷ its entrypoint run bare',
    subject: 'cold start of the image',
    baseline: 'bare entrypoint of the image',
    ...atMost(1.5),
  },
  {
    what: 'cold start of a heavy function, with a code cache ÷ without',
    subject: 'cold start of a heavy function, code cache',
    baseline: 'cold start of a heavy function, none',
    ...atMost(0.8),
  },
  {
    what: 'warm p50, one connection, queue ÷ B2',
    subject: 'queue, 1 connection',
    baseline: 'B2/B3 bare, 1 connection',
    ...atMost(4),
  },
  {
    what: 'warm p50, one connection, leases ÷ B2',
    subject: 'leases, 1 connection',
    baseline: 'B2/B3 bare, 1 connection',
    ...atMost(2),
  },
  {
    what: 'three processes that do nothing, one connection ÷ B2',
    subject: IDLERS,
    baseline: 'B2/B3 bare, 1 connection',
    ...BOUND,
  },
  {
    what: 'three processes that do nothing and Redis, one connection ÷ B2',
    subject: QUEUED_IDLERS,
    baseline: 'B2/B3 bare, 1 connection',
    ...BOUND,
  },
  {
    what: 'saturation, queue ÷ B3',
    subject: 'queue, saturated',
    baseline: 'B2/B3 bare, saturated',
    ...atLeast(0.3),
  },
  {
    what: 'saturation, leases ÷ B3',
    subject: 'leases, saturated',
    baseline: 'B2/B3 bare, saturated',
    ...atLeast(0.45),
  },
  {
    what: 'sustained cold starts ÷ B5',
    subject: 'sustained cold starts',
    baseline: 'B5 node -e 0 on all cores',
    ...atLeast(0.5),
  },
  {
    what: 'PSS of an idle sandbox ÷ B6',
    subject: 'PSS of an idle sandbox',
    baseline: 'B6 PSS of node hono.mjs',
    ...atMost(0.6),
  },
  {
    what: 'PSS of a frozen sandbox ÷ B6',
    subject: 'PSS of a frozen sandbox',
    baseline: 'B6 PSS of node hono.mjs',
    ...atMost(0.6),
  },
  {
    what: 'deploy of a one-line change to first 200 ÷ B0',
    subject: 'deploy of a one-line change to first 200',
    baseline: B0,
    ...atMost(4),
  },
  {
    what: 'events accepted to executed ÷ raw BullMQ',
    subject: 'events, accepted to executed',
    baseline: 'raw BullMQ, accepted to executed',
    ...atLeast(0.6),
  },
  {
    what: 'goodput at twice the load ÷ saturation',
    subject: 'overload: served at twice that',
    baseline: 'overload: served at saturation',
    ...atLeast(0.9),
  },
];

/** Limits on a figure itself. */
const FIGURES = [
  { what: 'step 1 to 20 callers, 95 % reached', must: '≤ 500 ms', isMet: (value: number) => value <= 500 },
];

export function formatReport(record: Record): string {
  const lines = ['| measured | n | median | p99 | range |', '|---|---|---|---|---|'];
  for (const samples of record.all()) {
    const { name, unit, count, median, p99, min, max } = samples.summary();
    lines.push(
      `| ${name} | ${count} | ${round(median)} ${unit} | ${round(p99)} | ${round(min)} to ${round(max)} |`,
    );
  }
  lines.push('', '| ratio | measured | must | |', '|---|---|---|---|');
  for (const { what, ratio, must, isMet } of ratios(record)) {
    const verdict = must === '' ? '' : isMet ? 'met' : 'NOT met';
    lines.push(`| ${what} | ${round(ratio)} | ${must} | ${verdict} |`);
  }
  for (const figure of FIGURES) {
    const median = record.get(figure.what)?.median;
    if (median === undefined) continue;
    lines.push(
      `| ${figure.what} | ${round(median)} ms | ${figure.must} | ${figure.isMet(median) ? 'met' : 'NOT met'} |`,
    );
  }
  return lines.join('\n');
}

export function ratios(record: Record) {
  return ROWS.flatMap((row) => {
    const subject = record.get(row.subject);
    const baseline = record.get(row.baseline);
    if (!subject || !baseline) return [];
    const ratio =
      row.at === 'p99'
        ? subject.percentile(0.99) / baseline.percentile(0.99)
        : subject.median / baseline.median;
    return [{ what: row.what, ratio, must: row.must, isMet: row.isMet(ratio) }];
  });
}

function round(value: number): string {
  if (!Number.isFinite(value)) return '-';
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}
