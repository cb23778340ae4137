/**
 * Connections to a Redis Cluster, by `redis+cluster://user:password@host:port,host:port`: any of its nodes, the rest is asked
 * of them. `rediss+cluster://`: TLS, against the CAs of the system (NODE_EXTRA_CA_CERTS adds one).
 * Invariant: whatever happens to the nodes, a connection finds its way back by itself until somebody closes it.
 * Deliberately absent: reading from replicas. What is read decides what is written.
 */
import { createConnection } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AbstractConnector, Cluster, Redis, type ClusterOptions, type RedisOptions } from 'ioredis';

const CLUSTER = /^(rediss?)\+cluster:\/\//;

export const isClusterUrl = (url: string): boolean => CLUSTER.test(url);

interface Seeds {
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly login: Pick<RedisOptions, 'username' | 'password' | 'tls'>;
}

/** @throws Error when it names no node, or a database: a cluster has one */
function parse(url: string): Seeds {
  const [, credentials = '', hosts = '', database = ''] =
    /^(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?/.exec(url.replace(CLUSTER, '')) ?? [];
  if (hosts === '' || (database !== '' && database !== '0'))
    throw new Error(
      `"${CLUSTER.exec(url)?.[0] ?? ''}${hosts}/${database}" names no node or a database; write redis+cluster://a:6379,b:6379,c:6379`,
    );
  const [username, password] = credentials.split(':').map(decodeURIComponent);
  return {
    nodes: hosts.split(',').map((text) => {
      const { hostname, port } = new URL(`redis://${text}`);
      return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 6379) };
    }),
    login: {
      ...(username ? { username } : {}),
      ...(password ? { password } : {}),
      ...(url.startsWith('rediss') ? { tls: {} } : {}),
    },
  };
}

/** How long a node may take to say which node has what, and how often it is asked unasked. */
const SLOTS_MS_MAX = 1_000;
const SLOTS_MS = 5_000;

/**
 * Speaks to all nodes, each command to the one that has its key. It has every command of a `Redis`, and is one for
 * whoever uses it, but that keys of one command, script or transaction must be of one cell.
 */
export function openCluster(url: string, options: RedisOptions, onNode: (redis: Redis) => void): Redis {
  const { nodes, login } = parse(url);
  const { enableOfflineQueue, enableAutoPipelining, retryStrategy, lazyConnect: _, ...each } = options;
  const clusterOptions = {
    lazyConnect: true,
    clusterRetryStrategy: (attempt: number) =>
      retryStrategy?.(attempt) === null ? null : Math.min(500, attempt * 50),
    slotsRefreshTimeout: SLOTS_MS_MAX,
    slotsRefreshInterval: SLOTS_MS,
    ...(enableOfflineQueue === undefined ? {} : { enableOfflineQueue }),
    ...(enableAutoPipelining === undefined ? {} : { enableAutoPipelining }),
    redisOptions: { ...(each as NonNullable<ClusterOptions['redisOptions']>), ...login },
  } satisfies ClusterOptions as ClusterOptions & { redisOptions: { replyMapping: 'legacy' } };
  const cluster = new Cluster(
    nodes.map((node) => ({ ...node })),
    clusterOptions,
  );
  cluster.on('error', () => {});
  cluster.on('+node', onNode);
  // Asked as a Redis is, for one like this with other options (BullMQ asks as of a Cluster).
  const { duplicate } = cluster;
  cluster.duplicate = (override, ...rest) =>
    override === undefined || Array.isArray(override)
      ? duplicate.call(cluster, override, ...rest)
      : (openCluster(url, { ...options, ...(override as RedisOptions) }, onNode) as unknown as Cluster);
  return cluster as unknown as Redis;
}

/**
 * One connection, for pub/sub alone: what is published anywhere in a cluster is heard everywhere. It goes from node to node
 * until one is there, and says `ready` each time, as messages may have been missed.
 */
export function openClusterSubscriber(url: string, options: RedisOptions): Redis {
  const { nodes, login } = parse(url);
  let turn = Math.floor(Math.random() * nodes.length);
  class AnyNode extends AbstractConnector {
    readonly #options: RedisOptions;
    constructor(own: RedisOptions) {
      super(own.disconnectTimeout ?? SLOTS_MS_MAX);
      this.#options = own;
    }
    async connect(): ReturnType<AbstractConnector['connect']> {
      this.connecting = true;
      const node = nodes[turn++ % nodes.length] as Seeds['nodes'][number];
      const { tls } = this.#options;
      this.stream = tls ? connectTls({ ...tls, ...node }) : createConnection(node);
      this.stream.once('error', (error) => (this.firstError = error));
      return this.stream;
    }
  }
  const own: RedisOptions = {
    ...options,
    ...login,
    Connector: AnyNode as NonNullable<RedisOptions['Connector']>,
  };
  return new Redis(own as RedisOptions & { replyMapping?: 'legacy' });
}

export function isCluster(redis: Redis | Cluster): boolean {
  return redis instanceof Cluster;
}

/** The servers that hold what is written through this connection. */
export function primariesOf(redis: Redis): readonly Redis[] {
  return nodesOf(redis, 'master');
}

/** All servers, with replicas as far as the connection knows them. */
export function serversOf(redis: Redis): readonly Redis[] {
  return nodesOf(redis, 'all');
}

function nodesOf(redis: Redis | Cluster, role: 'master' | 'all'): readonly Redis[] {
  return redis instanceof Cluster ? (redis.nodes(role) as Redis[]) : [redis];
}
