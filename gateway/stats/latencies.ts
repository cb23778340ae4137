/** Latencies as counts of buckets 10 % apart, so that those of several gateways and seconds can be added up. */
const RATIO = 1.1;
const LEAST_MS = 0.1;
/** Up to an hour: what is longer counts as that. */
const BUCKETS = 184;

export type Counts = Record<number, number>;

export function bucketOf(ms: number): number {
  if (ms <= LEAST_MS) return 0;
  return Math.min(BUCKETS - 1, Math.ceil(Math.log(ms / LEAST_MS) / Math.log(RATIO)));
}

export function addCounts(into: Counts, counts: Readonly<Counts>): void {
  for (const [bucket, count] of Object.entries(counts))
    into[Number(bucket)] = (into[Number(bucket)] ?? 0) + count;
}

/** Upper bound of the bucket that the share falls into; undefined without counts. `share` from 0 to 1. */
export function tryPercentile(counts: Readonly<Counts>, share: number): number | undefined {
  // Integer keys are listed in ascending order.
  const entries = Object.entries(counts);
  const total = entries.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [bucket, count] of entries) {
    seen += count;
    if (seen >= total * share) return Math.round(LEAST_MS * RATIO ** Number(bucket) * 100) / 100;
  }
  return undefined;
}
