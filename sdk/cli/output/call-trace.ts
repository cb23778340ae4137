/** `skiff invoke --trace`: where the time of a call went, by the server's trace or, without the right to it, by its answer. */
import type { Trace } from '../../client/index.ts';
import type { HttpResponse } from '../connection/http-fetch.ts';
import type { CliClient } from '../connection/server.ts';
import type { Session } from '../session.ts';
import { formatDuration, formatWaterfall } from './waterfall.ts';

/** As this process saw it. */
export interface SeenTimes {
  readonly headMs: number;
  readonly allMs: number;
}

export async function printCallTrace(
  session: Session,
  client: CliClient,
  name: string,
  response: HttpResponse,
  seen: SeenTimes,
): Promise<void> {
  const { err } = session.output;
  const id = response.headers.get('skiff-invocation-id');
  const own = id === null ? undefined : readOwnTrace(id, name, response, seen);
  const trace = id === null ? undefined : await client.trace(id).catch(() => undefined);
  const shown = trace ?? own;
  err.line();
  if (shown) for (const line of formatWaterfall(err, shown)) err.line(line);
  err.line(
    err.style(
      'dim',
      `from here: first byte ${formatDuration(seen.headMs)}, all ${formatDuration(seen.allMs)}`,
    ),
  );
}

/** Of the header Server-Timing alone: no calls within it. */
function readOwnTrace(id: string, name: string, response: HttpResponse, seen: SeenTimes): Trace {
  const timing = parseServerTiming(response.headers.get('server-timing') ?? '');
  const deployment = response.headers.get('skiff-deployment');
  const cause = response.headers.get('skiff-cause');
  const span = {
    id,
    functionName: name,
    startMs: Date.now() - seen.allMs,
    ms: seen.allMs,
    status: response.status,
    queueMs: timing.get('queue') ?? 0,
    coldMs: timing.get('cold') ?? 0,
    execMs: timing.get('exec') ?? 0,
    ...(deployment !== null && { deployment }),
    ...(cause !== null && { cause }),
  };
  return { id, spans: [span] };
}

/** Metrics of the header Server-Timing by name; of two with one name the last, which is the platform's. */
export function parseServerTiming(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, name, ms] of text.matchAll(/([\w-]+)\s*;[^,]*?dur=([\d.]+)/g))
    found.set(name as string, Number(ms));
  return found;
}
