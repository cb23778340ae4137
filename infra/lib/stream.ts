/**
 * Reading Redis streams of one field: a page at a time, backwards, or following what is added.
 * Invariant: a follower has a connection of its own (a blocking read would stop everybody else's commands) and gives
 * it back when its signal fires or its consumer stops. It survives a restart of Redis.
 */
import type { Redis } from 'ioredis';

export interface StreamEntry {
  /** Entry id: pass it as `after` to continue behind it. */
  readonly cursor: string;
  readonly value: string;
}

const PAGE = 500;

type RawEntry = [id: string, fields: string[]];

function toEntries(raw: readonly RawEntry[], field: string): StreamEntry[] {
  return raw.flatMap(([cursor, fields]) => {
    const at = fields.indexOf(field);
    return at < 0 ? [] : [{ cursor, value: fields[at + 1] as string }];
  });
}

/** Entries strictly after `after`, oldest first, at most `count`. */
export async function readStream(
  redis: Redis,
  key: string,
  field: string,
  after: string,
  count = PAGE,
): Promise<StreamEntry[]> {
  return toEntries((await redis.xrange(key, `(${after}`, '+', 'COUNT', count)) as RawEntry[], field);
}

/** Entries strictly before `before` ('+' for the end), newest first, at most `count`. */
export async function readStreamBackwards(
  redis: Redis,
  key: string,
  field: string,
  before: string,
  count = PAGE,
): Promise<StreamEntry[]> {
  const from = before === '+' ? '+' : `(${before}`;
  return toEntries((await redis.xrevrange(key, from, '-', 'COUNT', count)) as RawEntry[], field);
}

export interface FollowOptions {
  readonly key: string;
  readonly field: string;
  /** '0' for all. */
  readonly after: string;
  readonly signal: AbortSignal;
  /** After this much silence an empty batch is yielded, so that the consumer can look around. */
  readonly quietMs: number;
}

/** Yields batches for ever; ends when `signal` fires. `redis` is only the pattern for the follower's connection. */
export async function* followStream(redis: Redis, options: FollowOptions): AsyncGenerator<StreamEntry[]> {
  const { key, field, signal, quietMs } = options;
  let after = options.after;
  // The time limit notices a connection that is open but dead; without it a follower could hang for ever.
  const reader = redis.duplicate({ enableOfflineQueue: true, commandTimeout: quietMs + 2_000 });
  reader.on('error', () => {});
  const stop = () => reader.disconnect();
  signal.addEventListener('abort', stop, { once: true });
  try {
    while (!signal.aborted) {
      const batch = await tryReadBlocking(reader, key, after, quietMs);
      if (signal.aborted) return;
      if (batch === undefined) {
        await pause(200, signal);
        continue;
      }
      after = batch.at(-1)?.[0] ?? after;
      yield toEntries(batch, field);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    reader.disconnect();
  }
}

/** Undefined when Redis could not be asked. */
async function tryReadBlocking(
  reader: Redis,
  key: string,
  after: string,
  blockMs: number,
): Promise<RawEntry[] | undefined> {
  try {
    const reply = await reader.xread('COUNT', PAGE, 'BLOCK', blockMs, 'STREAMS', key, after);
    return (reply?.[0]?.[1] ?? []) as RawEntry[];
  } catch {
    return undefined;
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
