/** Warm calls: latency on one connection and the rate at which it saturates. */
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';
import { wrk } from '../wrk.ts';

export interface WarmParts {
  readonly record: Record;
  readonly barePort: number;
  /** And the next one: see ../chain.ts. */
  readonly chainPort: number;
  readonly leased: Subject;
  readonly queued: Subject;
}

export const WARM = 'hello';
export const IDLERS = 'three processes that do nothing, 1 connection';
export const QUEUED_IDLERS = 'the same with Redis between';
/** The rate at saturation is the best of these: more connections than one process needs to be busy, and many more. */
const SATURATING = [64, 128];

export async function warmRound(parts: WarmParts, seconds: number): Promise<void> {
  const { record, barePort, leased, queued } = parts;
  const targets = [
    ['B2/B3 bare', `http://127.0.0.1:${barePort}/`],
    ['leases', leased.url(WARM)],
    ['queue', queued.url(WARM)],
  ] as const;
  for (const [name, url] of targets) {
    await wrk(url, 1, 1);
    const one = await wrk(url, 1, seconds);
    record.of(`${name}, 1 connection`, 'ms').add(one.p50Ms);
    record.of(`${name}, 1 connection, p99`, 'ms').add(one.p99Ms);
    let errors = one.errors;
    let best = 0;
    for (const connections of SATURATING) {
      const many = await wrk(url, connections, seconds);
      best = Math.max(best, many.requestsPerSecond);
      errors += many.errors;
    }
    record.of(`${name}, saturated`, '/s').add(best);
    record.of(`${name}, errors`, '').add(errors);
  }
  for (const [name, port] of [
    [IDLERS, parts.chainPort],
    [QUEUED_IDLERS, parts.chainPort + 1],
  ] as const) {
    const url = `http://127.0.0.1:${port}/`;
    await wrk(url, 1, 1);
    record.of(name, 'ms').add((await wrk(url, 1, seconds)).p50Ms);
  }
}
