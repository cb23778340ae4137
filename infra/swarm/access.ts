/**
 * What each node may do in the two Redis stores: one ACL user a node, with the least rights its role needs.
 * A worker reads what exists and writes what is its own (inbox, sign of life, replicas); the queues of functions are
 * shared by all runners by design. A manager may do everything, as it holds the CA's key anyway.
 * Where one server is both stores, the rights in the fast one are a selector of the user: no command gets a key of the other.
 * Invariant: `revokeAccess` also ends the connections that are open (Redis does so with ACL DELUSER).
 */
import type { Redis } from 'ioredis';
import type { Cells } from '../contract/cells.ts';
import { absentKey, durable, fast, swarm } from '../contract/keys.ts';
import { cellsOf } from '../lib/redis.ts';
import { serversOf } from '../lib/redis-cluster.ts';
import type { NodeRole } from '../../sdk/protocol/swarm/resources.ts';

/** `both`: one server is both stores. */
export type StoreKind = 'durable' | 'fast' | 'both';

export interface SwarmStores {
  readonly durable: Redis;
  readonly fast: Redis;
}

/** Connecting, scripts, transactions; what scripts do is checked against the same rules. */
const BASE = [
  '-@all',
  '+auth',
  '+hello',
  '+ping',
  '+info',
  '+client|setname',
  '+client|id',
  '+select',
  '+evalsha',
  '+eval',
  '+script|load',
  '+multi',
  '+exec',
  '+discard',
  '+time',
  '+subscribe',
  '+unsubscribe',
  // A Redis Cluster is asked who has what.
  '+cluster|slots',
  '+cluster|info',
  '+readonly',
  '+readwrite',
  '+asking',
];

/**
 * Redis asks for the right to write every key that a script declares, whatever the script does (EVALSHA has no other
 * form that ioredis uses). In the durable store a worker's commands only read, which is what keeps it from writing.
 */
const readOnly = (...patterns: readonly string[]): string[] => patterns.map((pattern) => `%R~${pattern}`);
const readWrite = (...patterns: readonly string[]): string[] => patterns.map((pattern) => `~${pattern}`);

const WORKER_DURABLE: readonly string[] = [
  ...BASE,
  ...['get', 'mget', 'exists', 'hget', 'hmget', 'hvals', 'hgetall', 'hexists'].map((name) => `+${name}`),
  ...['zrange', 'zrevrange', 'zscore', 'zcard'].map((name) => `+${name}`),
  ...readWrite(durable.functionRecord('*')),
  ...readOnly(
    durable.functions,
    durable.deployment('*'),
    durable.cells,
    durable.secrets,
    swarm.members,
    swarm.volumes,
  ),
  `&${durable.changes}`,
];

const workerFast = (node: string, cells: Cells): string[] => [
  ...BASE,
  ...['get', 'mget', 'set', 'del', 'expire', 'exists', 'publish'].map((name) => `+${name}`),
  ...['llen', 'lrange', 'lrem', 'lpop', 'rpop', 'lpush', 'rpush', 'blpop', 'blmpop', 'lmpop'].map(
    (name) => `+${name}`,
  ),
  ...['zadd', 'zrem', 'zscore', 'zcard', 'zrange', 'zrangebyscore', 'zremrangebyscore'].map(
    (name) => `+${name}`,
  ),
  ...['hdel', 'hget', 'hexists', 'xadd', 'xtrim', 'incr'].map((name) => `+${name}`),
  ...cells.all.flatMap(({ fast: keys }) => [
    // The queues that runners share.
    ...readWrite(keys.idle('*'), keys.wait('*'), keys.starting('*'), keys.live('*'), keys.demand),
    ...readWrite(keys.logs('*'), keys.given('*'), absentKey(keys.demand)),
    // What is this node's own. Others' signs of life and records it reads: that is how it knows them.
    ...readWrite(keys.inbox(node), keys.alive(node), keys.leases(node)),
    ...readOnly(keys.alive('*')),
  ]),
  ...readWrite(fast.startResult('*'), fast.nodes, fast.pending, fast.pulling('*')),
  ...readWrite(fast.node(node), fast.orders(node), fast.replicas(node)),
  ...readOnly(fast.node('*')),
  `&${fast.runners}`,
];

export const redisUser = (nodeId: string): string => nodeId;

/** ACL rules of a node's user, without name, state and password. */
export function accessRules(
  store: StoreKind,
  role: NodeRole,
  nodeId: string,
  cells: Cells,
): readonly string[] {
  if (role === 'manager') return ['~*', '&*', '+@all'];
  const ofDurable = [...WORKER_DURABLE, ...readOnly(swarm.nodeSettings(nodeId))];
  const ofFast = workerFast(nodeId, cells);
  if (store === 'both') return [...ofDurable, `(${ofFast.join(' ')})`];
  return store === 'fast' ? ofFast : ofDurable;
}

/** `passwordHash`: SHA-256 in hex, as Redis itself keeps it. */
export async function grantAccess(
  { durable: durableStore, fast: fastStore }: SwarmStores,
  node: { readonly id: string; readonly role: NodeRole; readonly passwordHash: string },
): Promise<void> {
  const [ofDurable, ofFast] = await Promise.all([serversById(durableStore), serversById(fastStore)]);
  const all = new Map([...ofDurable, ...ofFast]);
  await Promise.all(
    [...all].map(async ([id, server]) => {
      const store = ofDurable.has(id) && ofFast.has(id) ? 'both' : ofFast.has(id) ? 'fast' : 'durable';
      const rules = accessRules(store, node.role, node.id, cellsOf(fastStore));
      const user = ['SETUSER', redisUser(node.id), 'reset', 'on', `#${node.passwordHash}`, ...rules];
      await server.call('ACL', ...user);
      await save(server);
    }),
  );
}

/** By Redis's own id of the process: two URLs may lead to one server, and users are a server's. */
async function serversById(redis: Redis): Promise<Map<string, Redis>> {
  const found = await Promise.all(
    serversOf(redis).map(async (server) => {
      const id = /^run_id:(\w+)/m.exec(await server.info('server'))?.[1];
      return [id ?? '', server] as const;
    }),
  );
  return new Map(found);
}

export async function revokeAccess(redis: Redis, nodeId: string): Promise<void> {
  await Promise.all(
    serversOf(redis).map(async (server) => {
      await server.call('ACL', 'DELUSER', redisUser(nodeId));
      await save(server);
    }),
  );
}

/** Users that nodes have now, on every server of the store. */
export async function listUsers(redis: Redis): Promise<string[]> {
  const lists = await Promise.all(
    serversOf(redis).map(async (server) => (await server.call('ACL', 'USERS')) as string[]),
  );
  const [first = [], ...others] = lists;
  return first.filter((user) => others.every((list) => list.includes(user)));
}

async function save(redis: Redis): Promise<void> {
  try {
    await redis.call('ACL', 'SAVE');
  } catch (error) {
    // A Redis of somebody else may be configured without a file for users; then they are granted again when it
    // has lost them (gateway/swarm/upkeep.ts).
    if (!/ACL file/i.test(String(error))) throw error;
  }
}
