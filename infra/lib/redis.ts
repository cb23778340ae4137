/**
 * Connections to the two Redis stores. Invariant: producers fail fast (no offline queue, short command time-out),
 * consumers that block retry for ever. Deliberately absent: key names (infra/contract/keys.ts).
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Redis, type RedisOptions } from 'ioredis';
import { Cells, CELLS_MAX, ONE_CELL } from '../contract/cells.ts';
import { dataPaths } from '../contract/paths.ts';
import { clientTls } from '../swarm/identity.ts';
import { isClusterUrl, openCluster, openClusterSubscriber } from './redis-cluster.ts';

export interface RedisUrls {
  /** `redis://…`, `rediss://…`, `redis+sentinel://…`, `redis+cluster://…` or `unix:/path`; `?cells=` says how it is laid out. */
  readonly durable: string;
  readonly fast: string;
}

/** The embedded default is two servers on unix sockets in the data folder. */
export function redisUrls(config: {
  readonly SKIFF_DATA_DIR: string;
  readonly SKIFF_REDIS_URL?: string | undefined;
  readonly SKIFF_REDIS_FAST_URL?: string | undefined;
  readonly SKIFF_CELLS?: number | undefined;
}): RedisUrls {
  const paths = dataPaths(config.SKIFF_DATA_DIR);
  const durable = config.SKIFF_REDIS_URL ?? `unix:${paths.redisDurableSocket}`;
  const fast = config.SKIFF_REDIS_FAST_URL ?? config.SKIFF_REDIS_URL ?? `unix:${paths.redisFastSocket}`;
  return { durable: withCells(durable, config.SKIFF_CELLS), fast: withCells(fast, config.SKIFF_CELLS) };
}

const CELLS = /([?&])cells=(\d+)(?:&|$)/;

function withCells(url: string, count = 1): string {
  return count === 1 || CELLS.test(url) ? url : `${url}${url.includes('?') ? '&' : '?'}cells=${count}`;
}

/** @throws Error when there are more than CELLS_MAX */
function takeCells(url: string): { readonly url: string; readonly cells: Cells } {
  const count = Number(CELLS.exec(url)?.[2] ?? 1);
  if (count < 1 || count > CELLS_MAX)
    throw new Error(`a store has 1 to ${CELLS_MAX} cells, "cells=${count}" says otherwise`);
  return {
    url: url.replace(CELLS, '$1').replace(/[?&]$/, ''),
    cells: count === 1 ? ONE_CELL : new Cells(count),
  };
}

const layouts = new WeakMap<Redis, Cells>();

/** How the store is laid out that this connection leads to. */
export function cellsOf(redis: Redis): Cells {
  return layouts.get(redis) ?? ONE_CELL;
}

/** Lies beside the embedded stores' sockets, in the same private folder. A store without one takes no password. */
export const REDIS_PASSWORD_FILE = 'redis.password';

function tryReadPassword(socketPath: string): string | undefined {
  try {
    return readFileSync(join(dirname(socketPath), REDIS_PASSWORD_FILE), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * `rediss://user:password@host:port?identity=<folder>`: with the certificate of this swarm node, to whoever has the
 * backbone's (infra/swarm/identity.ts). Without `identity`: TLS as any other, against the CAs of the system.
 */
export function parseRedisUrl(url: string): RedisOptions {
  if (url.startsWith('unix:')) {
    const path = url.slice(5);
    const password = tryReadPassword(path);
    return { path, ...(password === undefined ? {} : { password }) };
  }
  if (SENTINEL.test(url)) return parseSentinelUrl(url);
  const parsed = new URL(url);
  const identity = parsed.searchParams.get('identity');
  return {
    host: parsed.hostname,
    port: Number(parsed.port || 6379),
    ...(parsed.username ? { username: decodeURIComponent(parsed.username) } : {}),
    ...(parsed.password ? { password: decodeURIComponent(parsed.password) } : {}),
    ...(parsed.pathname.length > 1 ? { db: Number(parsed.pathname.slice(1)) } : {}),
    ...(parsed.protocol === 'rediss:' ? { tls: identity === null ? {} : clientTls(identity) } : {}),
  };
}

const SENTINEL = /^(rediss?)\+sentinel:\/\//;
/** A sentinel that is away must not hold up those that are there. */
const SENTINEL_MS_MAX = 1_000;

/**
 * `redis+sentinel://user:password@host:port,host:port/<name of the primary>/<db>?sentinelPassword=…`. The sentinels say who the
 * primary is, now and after every fail-over; a connection to one that was replaced is ended at once.
 * `rediss+sentinel://`: TLS to sentinels and stores, against the CAs of the system (NODE_EXTRA_CA_CERTS adds one).
 * @throws Error when it names no primary
 */
function parseSentinelUrl(url: string): RedisOptions {
  const [, credentials = '', hosts = '', rest = ''] =
    /^(?:([^@/]*)@)?([^/]*)(\/.*)?$/.exec(url.replace(SENTINEL, '')) ?? [];
  const scheme = /^[^/]*\/\//.exec(url)?.[0] ?? '';
  const { pathname, searchParams } = new URL(rest, 'redis://sentinel');
  const [name = '', db] = pathname.slice(1).split('/');
  if (hosts === '' || name === '')
    throw new Error(
      `"${scheme}${hosts}/${name}" names no sentinels or no primary; write ${scheme}a:26379,b:26379/name`,
    );
  const [username, password] = credentials.split(':').map(decodeURIComponent);
  const sentinelPassword = searchParams.get('sentinelPassword');
  return {
    sentinels: hosts.split(',').map((host) => {
      const { hostname, port } = new URL(`redis://${host}`);
      return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 26_379) };
    }),
    name: decodeURIComponent(name),
    role: 'master',
    failoverDetector: true,
    sentinelRetryStrategy: (attempt) => Math.min(500, attempt * 50),
    sentinelCommandTimeout: SENTINEL_MS_MAX,
    ...(scheme.startsWith('rediss') ? { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true } : {}),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(sentinelPassword === null ? {} : { sentinelPassword }),
    ...(db ? { db: Number(db) } : {}),
  };
}

/** The same store as somebody else. */
export function withCredentials(url: string, user: string, password: string): string {
  const credentials = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
  return url.replace(/^([a-z+]+:\/\/)(?:[^@/]*@)?/, (_, scheme: string) => `${scheme}${credentials}@`);
}

const shared: RedisOptions = {
  retryStrategy: (attempt: number) => Math.min(500, attempt * 50),
  lazyConnect: true,
};

/** Over a network: a host that vanished says nothing, so connections are asked for a sign of life. */
const NETWORK: RedisOptions = { connectTimeout: 2_000 };
const PROBE_MS = 1_000;
/** Longer than any command that blocks on these connections (BLPOP and BLMPOP: one second). */
const PROBE_ANSWER_MS = 3_000;

function keepProbing(redis: Redis): void {
  let isWaiting = false;
  const timer = setInterval(() => {
    if (isWaiting || redis.status !== 'ready') return;
    isWaiting = true;
    const { stream } = redis as unknown as { stream: { destroy(error: Error): void } };
    const giveUp = () => stream.destroy(new Error(`no answer to PING within ${PROBE_ANSWER_MS} ms`));
    const limit = setTimeout(giveUp, PROBE_ANSWER_MS);
    redis
      .ping()
      // It has a time limit of its own on connections that fail fast.
      .catch(giveUp)
      .finally(() => {
        clearTimeout(limit);
        isWaiting = false;
      });
  }, PROBE_MS);
  timer.unref();
  redis.on('end', () => clearInterval(timer));
}

function open(address: string, options: RedisOptions): Redis {
  const { url, cells } = takeCells(address);
  const redis = openAt(url, options);
  layouts.set(redis, cells);
  return redis;
}

function openAt(url: string, options: RedisOptions): Redis {
  const isLocal = url.startsWith('unix:');
  const network = isLocal ? {} : NETWORK;
  if (isClusterUrl(url)) return openCluster(url, { ...shared, ...network, ...options }, watchNode);
  const redis: Redis = new Redis({
    ...shared,
    ...network,
    ...parseRedisUrl(url),
    ...options,
  } as RedisOptions & {
    replyMapping?: 'legacy';
  });
  // Without a listener ioredis prints every failed reconnect; callers see the error on their command.
  redis.on('error', () => {});
  if (!isLocal) keepProbing(redis);
  return SENTINEL.test(url) ? keepOpen(redis) : redis;
}

function watchNode(redis: Redis): void {
  redis.on('error', () => {});
  keepProbing(redis);
}

const REOPEN_MS = 100;

/**
 * When sentinels tell of a fail-over while ioredis is looking for the primary, it gives the connection up for good
 * (FailoverDetector ends the connector, whose `connect` then rejects). Here it is opened again, until somebody closes it.
 */
function keepOpen(redis: Redis): Redis {
  let isWanted = true;
  const { disconnect, quit, duplicate } = redis;
  redis.disconnect = (reconnect = false) => {
    isWanted &&= reconnect;
    disconnect.call(redis, reconnect);
  };
  redis.quit = ((...args: []) => {
    isWanted = false;
    return quit.apply(redis, args);
  }) as typeof quit;
  // BullMQ makes connections of its own like this one.
  redis.duplicate = (override) => {
    const other = duplicate.call(redis, override);
    other.on('error', () => {});
    return keepOpen(other);
  };
  redis.on('end', () => {
    const timer = setTimeout(() => {
      if (isWanted) redis.connect().catch(() => {});
    }, REOPEN_MS);
    timer.unref();
  });
  return redis;
}

/** For request paths: a command fails within two seconds when Redis is away. */
export function openRedis(url: string, options: RedisOptions = {}): Redis {
  return open(url, { enableOfflineQueue: false, commandTimeout: 2_000, maxRetriesPerRequest: 0, ...options });
}

/** For blocking reads and BullMQ workers: waits for Redis as long as it takes. */
export function openBlockingRedis(url: string, options: RedisOptions = {}): Redis {
  return open(url, { maxRetriesPerRequest: null, ...options });
}

/** For pub/sub, and nothing else: as `openBlockingRedis`, and says `ready` whenever messages may have been missed. */
export function openSubscriber(url: string): Redis {
  const { url: address } = takeCells(url);
  if (!isClusterUrl(address)) return openBlockingRedis(url);
  const redis = openClusterSubscriber(address, { ...shared, ...NETWORK, maxRetriesPerRequest: null });
  watchNode(redis);
  return redis;
}

/**
 * Loads a Lua script from a file beside the caller and defines it as a command on this connection.
 * Values come back as Buffers from `nameBuffer`, as strings from `name` (ioredis convention).
 */
export function defineScript(redis: Redis, name: string, file: URL, numberOfKeys: number): void {
  redis.defineCommand(name, { numberOfKeys, lua: readFileSync(file, 'utf8') });
}
