/** Hosts: those that give signs of life, and members that do not, with what operators decided about them. */
import type { Redis } from 'ioredis';
import { fast } from '../../infra/contract/keys.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import type { Members } from '../../infra/swarm/members.ts';
import { NodeRecord } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { isFit, type Member, type NodeTask } from '../../sdk/protocol/swarm/resources.ts';

/** Whose runner lives now. By id; a record of a newer version that does not fit is left out. */
export async function readLiveNodes(redis: Redis): Promise<NodeRecord[]> {
  const ids = await redis.zrange(fast.nodes, 0, '-1');
  if (ids.length === 0) return [];
  const [records, epochs] = await Promise.all([
    redis.mget(ids.map((id) => fast.node(id))),
    redis.mget(ids.map((id) => cellsOf(redis).first.fast.alive(id))),
  ]);
  return records
    .flatMap((json, i) => {
      const parsed = json === null ? undefined : NodeRecord.safeParse(JSON.parse(json)).data;
      const epoch = epochs[i];
      if (!parsed || typeof epoch !== 'string') return [];
      return [{ ...parsed, epoch, status: isFit(parsed) ? ('ready' as const) : ('unready' as const) }];
    })
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Those that live and, behind them, members that are down; with what operators have decided by now. */
export async function listNodes(redis: Redis, members: Members): Promise<NodeRecord[]> {
  const [live, known] = await Promise.all([readLiveNodes(redis), members.list()]);
  const ids = new Set(live.map(({ id }) => id));
  const roles = new Map(known.map(({ id, role }) => [id, role]));
  const up = await Promise.all(
    live.map(async (node) => {
      const { availability, labels } = await members.settings(node.id);
      // One that stops drains by itself.
      const shown = availability === 'active' ? node.availability : availability;
      const role = roles.get(node.id) ?? node.role;
      return { ...node, availability: shown, labels: { ...node.labels, ...labels }, ...(role && { role }) };
    }),
  );
  const down = known.filter(({ id }) => !ids.has(id)).map((member) => describeDown(member, members));
  return [...up, ...(await Promise.all(down))];
}

async function describeDown(member: Member, members: Members): Promise<NodeRecord> {
  const { availability, labels } = await members.settings(member.id);
  const { id, hostname, role, version, address, joinedMs } = member;
  return {
    id,
    hostname,
    role,
    epoch: '',
    startedMs: joinedMs,
    heartbeatMs: 0,
    availability,
    labels,
    version,
    link: '',
    address,
    status: 'down',
    capacity: { memoryBytes: 0, cpus: 0 },
    used: { memoryBytes: 0, sandboxes: 0, busySlots: 0, stems: 0 },
  };
}

/** By id, or by host name where that is clear. @throws SkiffError NOT_FOUND, CONFLICT */
export function findNode(nodes: readonly NodeRecord[], name: string): NodeRecord {
  const byId = nodes.find(({ id }) => id === name);
  if (byId) return byId;
  const [only, ...more] = nodes.filter(({ hostname }) => hostname === name);
  if (only && more.length === 0) return only;
  if (only) throw new SkiffError('CONFLICT', `${more.length + 1} nodes are called "${name}"; use the id`);
  throw new SkiffError('NOT_FOUND', `there is no node "${name}"; \`skiff node ls\` lists them`);
}

/** Sandboxes that are on a node now, of functions and of services. */
export async function listTasks(
  redis: Redis,
  catalog: Pick<Catalog, 'listFunctions'>,
  { id, epoch }: Pick<NodeRecord, 'id' | 'epoch'>,
): Promise<NodeTask[]> {
  const entries = await catalog.listFunctions();
  const owners = entries.flatMap(({ name, deployments }) =>
    deployments.map((deployment) => ({ name, deployment })),
  );
  const cells = cellsOf(redis);
  const replies = await Promise.all(
    owners.map(({ deployment }) =>
      redis.zrangebyscore(cells.ofId(deployment).fast.live(deployment), Date.now(), '+inf'),
    ),
  );
  return replies.flatMap((members, i) => {
    const { name, deployment } = owners[i] as (typeof owners)[number];
    return members.flatMap((member) => {
      const [runner, lived, sandbox = ''] = member.split('|');
      return runner === id && lived === epoch
        ? [{ functionName: name, deployment, sandbox, state: 'running' }]
        : [];
    });
  });
}
