/**
 * Connections to the two Redis stores. Invariant: producers fail fast (no offline queue, short command time-out),
 * consumers that block retry for ever. Deliberately absent: key names (infra/contract/keys.ts).
 */
import { readFileSync } from 'node:fs';
import { Redis, type RedisOptions } from 'ioredis';
import { dataPaths } from '../contract/paths.ts';

export interface RedisUrls {
  /** `redis://…`, `rediss://…` or `unix:/path`. */
  readonly durable: string;
  readonly fast: string;
}

/** The embedded default is two servers on unix sockets in the data folder. */
export function redisUrls(config: {
  readonly SKIFF_DATA_DIR: string;
  readonly SKIFF_REDIS_URL?: string | undefined;
  readonly SKIFF_REDIS_FAST_URL?: string | undefined;
}): RedisUrls {
  const paths = dataPaths(config.SKIFF_DATA_DIR);
  const durable = config.SKIFF_REDIS_URL ?? `unix:${paths.redisDurableSocket}`;
  const fast = config.SKIFF_REDIS_FAST_URL ?? config.SKIFF_REDIS_URL ?? `unix:${paths.redisFastSocket}`;
  return { durable, fast };
}

export function parseRedisUrl(url: string): RedisOptions {
  if (url.startsWith('unix:')) return { path: url.slice(5) };
  const parsed = new URL(url);
  return {
    host: parsed.hostname,
    port: Number(parsed.port || 6379),
    ...(parsed.username ? { username: decodeURIComponent(parsed.username) } : {}),
    ...(parsed.password ? { password: decodeURIComponent(parsed.password) } : {}),
    ...(parsed.pathname.length > 1 ? { db: Number(parsed.pathname.slice(1)) } : {}),
    ...(parsed.protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

const shared: RedisOptions = {
  retryStrategy: (attempt: number) => Math.min(500, attempt * 50),
  lazyConnect: true,
};

function open(url: string, options: RedisOptions): Redis {
  const redis: Redis = new Redis({ ...shared, ...parseRedisUrl(url), ...options } as RedisOptions & {
    replyMapping?: 'legacy';
  });
  // Without a listener ioredis prints every failed reconnect; callers see the error on their command.
  redis.on('error', () => {});
  return redis;
}

/** For request paths: a command fails within two seconds when Redis is away. */
export function openRedis(url: string, options: RedisOptions = {}): Redis {
  return open(url, { enableOfflineQueue: false, commandTimeout: 2_000, maxRetriesPerRequest: 0, ...options });
}

/** For blocking reads, BullMQ workers and subscribers: waits for Redis as long as it takes. */
export function openBlockingRedis(url: string, options: RedisOptions = {}): Redis {
  return open(url, { maxRetriesPerRequest: null, ...options });
}

/**
 * Loads a Lua script from a file beside the caller and defines it as a command on this connection.
 * Values come back as Buffers from `nameBuffer`, as strings from `name` (ioredis convention).
 */
export function defineScript(redis: Redis, name: string, file: URL, numberOfKeys: number): void {
  redis.defineCommand(name, { numberOfKeys, lua: readFileSync(file, 'utf8') });
}
