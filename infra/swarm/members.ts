/**
 * Who belongs to the swarm, and what operators decided about its nodes: the durable store's side.
 * Invariant: a node is a member from the moment it joined until it is removed, whether it is up or not (that is what
 * heartbeats in the fast store say). Every change is published on `durable.changes`.
 */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import {
  Availability,
  Member,
  NodeSettings,
  type NodeRole,
  type NodeUpdate,
} from '../../sdk/protocol/swarm/resources.ts';
import { publishChange } from '../catalog/changes.ts';
import { parseStored } from '../catalog/stored.ts';
import { swarm } from '../contract/keys.ts';

export const SwarmRecord = z.object({
  id: z.string(),
  createdMs: z.number(),
  /** PEM. */
  ca: z.string(),
  caDigest: z.string(),
  certificateMs: z.number(),
  /** SHA-256 of the secrets of the join tokens. */
  tokenHashes: z.object({ worker: z.string(), manager: z.string() }),
  /** Where nodes reach the stores: `host:port` by TLS, or whole URLs of stores that run elsewhere. */
  backbone: z.object({ durable: z.string(), fast: z.string(), registry: z.string() }),
});
export type SwarmRecord = z.output<typeof SwarmRecord>;

export interface Members {
  getSwarm(): Promise<SwarmRecord | undefined>;
  /** @throws SkiffError CONFLICT when there is one */
  createSwarm(record: SwarmRecord): Promise<void>;
  removeSwarm(): Promise<void>;
  setTokenHash(role: NodeRole, hash: string): Promise<void>;
  list(): Promise<Member[]>;
  get(id: string): Promise<Member | undefined>;
  has(id: string): Promise<boolean>;
  put(member: Member): Promise<void>;
  /** False: there was none. */
  remove(id: string): Promise<boolean>;
  settings(id: string): Promise<NodeSettings>;
  updateSettings(id: string, update: NodeUpdate): Promise<NodeSettings>;
}

/** `host:port` of each manager's swarm port: all members use the same. */
export async function listManagers(members: Pick<Members, 'list'>, port: number): Promise<string[]> {
  return (await members.list())
    .filter(({ role }) => role === 'manager')
    .map(({ address }) => `${address.includes(':') ? `[${address}]` : address}:${port}`);
}

const LABEL = 'label:';

export function openMembers(redis: Redis): Members {
  async function getSwarm(): Promise<SwarmRecord | undefined> {
    const json = await redis.get(swarm.record);
    return json === null ? undefined : parseStored(SwarmRecord, json, swarm.record);
  }

  const settings = async (id: string) => parseSettings(await redis.hgetall(swarm.nodeSettings(id)));

  return {
    getSwarm,
    async createSwarm(record) {
      const written = await redis.set(swarm.record, JSON.stringify(SwarmRecord.parse(record)), 'NX');
      if (written === null)
        throw new SkiffError('CONFLICT', 'this server is in a swarm already; see `skiff swarm info`');
      await publishChange(redis, { kind: 'swarm', name: record.id });
    },
    async removeSwarm() {
      await redis.del(swarm.record);
      await publishChange(redis, { kind: 'swarm', name: '' });
    },
    async setTokenHash(role, hash) {
      const record = await getSwarm();
      if (!record)
        throw new SkiffError('NOT_FOUND', 'this server is in no swarm; `skiff swarm init` makes one');
      const changed = { ...record, tokenHashes: { ...record.tokenHashes, [role]: hash } };
      await redis.set(swarm.record, JSON.stringify(changed), 'XX');
    },
    async list() {
      const values = await redis.hvals(swarm.members);
      return values
        .map((json) => parseStored(Member, json, swarm.members))
        .sort((a, b) => a.joinedMs - b.joinedMs);
    },
    async get(id) {
      const json = await redis.hget(swarm.members, id);
      return json === null ? undefined : parseStored(Member, json, swarm.members);
    },
    has: async (id) => (await redis.hexists(swarm.members, id)) === 1,
    async put(member) {
      await redis.hset(swarm.members, member.id, JSON.stringify(Member.parse(member)));
      await publishChange(redis, { kind: 'node', name: member.id });
    },
    async remove(id) {
      const replies = await redis.multi().hdel(swarm.members, id).del(swarm.nodeSettings(id)).exec();
      await publishChange(redis, { kind: 'node', name: id });
      return replies?.[0]?.[1] === 1;
    },
    settings,
    async updateSettings(id, update) {
      const { availability, drainGraceMs, labelsAdd = {}, labelsRemove = [] } = update;
      const fields: Record<string, string> = {
        ...(availability === undefined ? {} : { availability }),
        ...(drainGraceMs === undefined ? {} : { drainGraceMs: String(drainGraceMs) }),
        ...Object.fromEntries(Object.entries(labelsAdd).map(([name, value]) => [LABEL + name, value])),
      };
      const key = swarm.nodeSettings(id);
      const change = redis.multi();
      if (Object.keys(fields).length > 0) change.hset(key, fields);
      if (labelsRemove.length > 0) change.hdel(key, ...labelsRemove.map((name) => LABEL + name));
      for (const [error] of (await change.exec()) ?? []) if (error) throw error;
      await publishChange(redis, { kind: 'node', name: id });
      return settings(id);
    },
  };
}

/** What somebody else wrote wrongly counts as not decided. */
function parseSettings(fields: Readonly<Record<string, string>>): NodeSettings {
  const labels = Object.entries(fields)
    .filter(([name]) => name.startsWith(LABEL))
    .map(([name, value]) => [name.slice(LABEL.length), value]);
  const graceMs = Number(fields['drainGraceMs'] ?? Number.NaN);
  return {
    availability: Availability.safeParse(fields['availability']).data ?? 'active',
    labels: Object.fromEntries(labels) as Record<string, string>,
    ...(Number.isInteger(graceMs) ? { drainGraceMs: graceMs } : {}),
  };
}
