/** Callers that keep calling while something happens, and what became of every call: nothing is averaged away. */
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from './wait.ts';

const MORE_MS_MAX = 30_000;

export interface Outcome {
  readonly status: number;
  /** `skiff-outcome` of an answer that is not the function's; the error of a connection that broke. */
  readonly detail: string;
  readonly ms: number;
  /** Since the load began. */
  readonly atMs: number;
}

export interface Load {
  /** Ends the load and gives every outcome, in the order in which calls ended. */
  stop(): Promise<Outcome[]>;
  /** So far. */
  readonly outcomes: readonly Outcome[];
}

/** Between two calls of one caller: calls that are refused at once would otherwise take the processors from all else. */
const PAUSE_MS = 20;

/** `callers` loops, each one call after the other. */
export function startLoad(urls: readonly string[], callers: number, timeoutMs = 30_000): Load {
  const outcomes: Outcome[] = [];
  const started = performance.now();
  let isStopped = false;
  async function call(url: string): Promise<void> {
    const began = performance.now();
    const end = (status: number, detail: string) =>
      outcomes.push({ status, detail, ms: performance.now() - began, atMs: performance.now() - started });
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) });
      const text = await response.text();
      end(response.status, response.status === 200 ? '' : `${response.headers.get('skiff-outcome')} ${text}`);
    } catch (error) {
      end(0, String((error as Error).cause ?? error));
    }
  }
  const loops = Array.from({ length: callers }, async (_, i) => {
    const url = urls[i % urls.length] as string;
    while (!isStopped) {
      await call(url);
      await sleep(PAUSE_MS);
    }
  });
  return {
    outcomes,
    async stop() {
      isStopped = true;
      await Promise.all(loops);
      return outcomes;
    },
  };
}

export const bad = (outcomes: readonly Outcome[]): Outcome[] =>
  outcomes.filter(({ status }) => status !== 200);

/** Resolves when `count` more calls of the load have succeeded. */
export async function more(load: Load, count: number): Promise<void> {
  const from = load.outcomes.length;
  await waitFor(
    `${count} good calls`,
    () => load.outcomes.slice(from).filter(({ status }) => status === 200).length >= count,
    MORE_MS_MAX,
  );
}

/** `200: 831, 502 unknown …: 2`. */
export function summarize(outcomes: readonly Outcome[]): string {
  const counts = new Map<string, number>();
  for (const { status, detail } of outcomes) {
    const key = `${status} ${detail.slice(0, 200)}`.trim();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([key, count]) => `${key}: ${count}`).join('\n');
}

/** The longest time in which no call succeeded, with the load's own end left out. */
export function longestGap(outcomes: readonly Outcome[]): number {
  const times = outcomes.filter(({ status }) => status === 200).map(({ atMs }) => atMs);
  return Math.max(...times.map((at, i) => at - (times[i - 1] ?? 0)));
}
