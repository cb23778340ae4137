/**
 * A function's log, read from its stream in the fast store (runners write it). Invariant: at most
 * LOG_LINES_KEPT_PER_FUNCTION past lines are looked at for one answer, a page at a time.
 */
import type { Redis } from 'ioredis';
import { cellsOf } from '../../infra/lib/redis.ts';
import { type StreamEntry, followStream, readStream, readStreamBackwards } from '../../infra/lib/stream.ts';
import { LogLine } from '../../sdk/protocol/api.ts';
import { LOG_LINES_KEPT_PER_FUNCTION } from '../../sdk/protocol/limits.ts';
import type { GatewayParts } from '../parts.ts';
import { functionNotFound } from './links.ts';
import type { LineStreamer } from './lines.ts';
import type { Handlers, RouteInput } from './route.ts';
import type { ROUTES } from './table.ts';

type LogQuery = RouteInput<typeof ROUTES.readLogs>['query'];

const TAIL_DEFAULT = 100;
const QUIET_MS = 10_000;
const LEVELS: readonly LogLine['level'][] = ['debug', 'info', 'warn', 'error'];

export function createLogHandlers(
  { catalog, fast: redis }: GatewayParts,
  streamLines: LineStreamer,
): Pick<Handlers, 'readLogs'> {
  return {
    async readLogs({ name, query, signal }) {
      const key = cellsOf(redis).ofFunction(name).fast.logs(name);
      // A function whose first deploy failed has no record, but its log says why.
      if (!(await catalog.getFunction(name)) && (await redis.exists(key)) === 0) throw functionNotFound(name);
      // Before the answer begins: who has its head may count on every line from then on.
      const [last] = await readStreamBackwards(redis, key, 'l', '+', 1);
      const end = last?.cursor ?? '0';
      return streamLines(signal, (open) => readLines(redis, key, { ...query, end }, open));
    },
  };
}

async function* readLines(
  redis: Redis,
  key: string,
  query: LogQuery & { readonly end: string },
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const matches = createFilter(query);
  let after = startOf(query);
  if (after === undefined) {
    // A line that comes while the tail is read is shown once, by the follower.
    after = query.end;
    yield* await readTail(redis, key, after, query.tail ?? TAIL_DEFAULT, matches);
  } else {
    const past = await readSince(redis, key, after, matches, signal);
    yield* query.tail === undefined ? past.lines : past.lines.slice(past.lines.length - query.tail);
    after = past.cursor;
  }
  if (!query.follow) return;
  for await (const entries of followStream(redis, { key, field: 'l', after, signal, quietMs: QUIET_MS })) {
    yield* toLines(entries).filter(matches);
  }
}

/** Exclusive lower end, undefined when only a tail is asked for. */
function startOf({ after, since }: LogQuery): string | undefined {
  if (after !== undefined) return after;
  // Entry ids begin with the milliseconds of Redis' clock; the last possible id before `since` excludes it.
  return since === undefined ? undefined : `${Math.max(0, since - 1)}-18446744073709551615`;
}

async function readSince(
  redis: Redis,
  key: string,
  after: string,
  matches: (line: LogLine) => boolean,
  signal: AbortSignal,
): Promise<{ lines: LogLine[]; cursor: string }> {
  const lines: LogLine[] = [];
  let cursor = after;
  for (let seen = 0; seen < LOG_LINES_KEPT_PER_FUNCTION && !signal.aborted;) {
    const entries = await readStream(redis, key, 'l', cursor);
    if (entries.length === 0) break;
    seen += entries.length;
    cursor = entries.at(-1)?.cursor ?? cursor;
    lines.push(...toLines(entries).filter(matches));
  }
  return { lines, cursor };
}

/** The last `count` matching lines up to and with the entry `last`, oldest first. */
async function readTail(
  redis: Redis,
  key: string,
  last: string,
  count: number,
  matches: (line: LogLine) => boolean,
): Promise<LogLine[]> {
  const newestFirst: LogLine[] = [];
  let before = '+';
  for (let seen = 0; newestFirst.length < count && seen < LOG_LINES_KEPT_PER_FUNCTION;) {
    const entries = await readStreamBackwards(redis, key, 'l', before);
    if (entries.length === 0) break;
    seen += entries.length;
    before = entries.at(-1)?.cursor ?? before;
    newestFirst.push(...toLines(entries.filter(({ cursor }) => !isLater(cursor, last))).filter(matches));
  }
  return newestFirst.slice(0, count).toReversed();
}

function isLater(cursor: string, other: string): boolean {
  const [ms = 0, sequence = 0] = cursor.split('-').map(Number);
  const [otherMs = 0, otherSequence = 0] = other.split('-').map(Number);
  return ms > otherMs || (ms === otherMs && sequence > otherSequence);
}

/** A line that a newer runner wrote in a way we do not know is left out: a log must not fail as a whole. */
function toLines(entries: readonly StreamEntry[]): LogLine[] {
  return entries.flatMap(({ cursor, value }) => {
    try {
      const parsed = LogLine.safeParse({ ...(JSON.parse(value) as object), cursor });
      return parsed.success ? [parsed.data] : [];
    } catch {
      return [];
    }
  });
}

function createFilter({ level, invocation, service, egress }: LogQuery): (line: LogLine) => boolean {
  const lowest = level === undefined ? 0 : LEVELS.indexOf(level);
  return (line) =>
    LEVELS.indexOf(line.level) >= lowest &&
    (invocation === undefined || line.invocation === invocation) &&
    (service === undefined || line.deployment?.endsWith(`@${service}`) === true) &&
    // A function can log a field of this name too.
    (!egress || (line.source === 'platform' && line.fields?.['egress'] !== undefined));
}
