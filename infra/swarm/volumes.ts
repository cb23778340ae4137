/**
 * Which volumes there are, and which node has each: the durable store's side. Invariant: a volume's node is decided once,
 * by the first who claims it, and a name is free again only when that node has removed its data.
 */
import type { Redis } from 'ioredis';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import { Volume } from '../../sdk/protocol/swarm/resources.ts';
import { parseStored } from '../catalog/stored.ts';
import { swarm } from '../contract/keys.ts';
import { defineScript } from '../lib/redis.ts';

export interface Volumes {
  /** By name. */
  list(): Promise<Volume[]>;
  get(name: string): Promise<Volume | undefined>;
  /** The volume of this name, which from now on is on `node` if nobody claimed it before. */
  claim(name: string, node: string): Promise<Volume>;
  /** Asks its node to remove it. @throws SkiffError NOT_FOUND */
  remove(name: string): Promise<Volume>;
  /** It is gone, or was given up. Does nothing when another one has the name by now. */
  drop(volume: Pick<Volume, 'id' | 'name'>): Promise<void>;
}

interface Scripts {
  skiffDropVolume(volumes: string, name: string, id: string): Promise<number>;
}

export function openVolumes(redis: Redis): Volumes {
  defineScript(redis, 'skiffDropVolume', new URL('drop-volume.lua', import.meta.url), 1);
  const scripts = redis as unknown as Scripts;
  const key = swarm.volumes;

  async function get(name: string): Promise<Volume | undefined> {
    const json = await redis.hget(key, name);
    return json === null ? undefined : parseStored(Volume, json, key);
  }

  return {
    get,
    async list() {
      const values = await redis.hvals(key);
      return values.map((json) => parseStored(Volume, json, key)).sort((a, b) => (a.name < b.name ? -1 : 1));
    },
    async claim(name, node) {
      const now = Date.now();
      const volume: Volume = { id: createId('vol', now), name, node, createdMs: now };
      if ((await redis.hsetnx(key, name, JSON.stringify(volume))) === 1) return volume;
      return (await get(name)) ?? volume;
    },
    async remove(name) {
      const volume = await get(name);
      if (!volume)
        throw new SkiffError('NOT_FOUND', `there is no volume "${name}"; \`skiff volume ls\` lists them`);
      const removed = { ...volume, removedMs: volume.removedMs ?? Date.now() };
      await redis.hset(key, name, JSON.stringify(removed));
      return removed;
    },
    async drop({ name, id }) {
      await scripts.skiffDropVolume(key, name, id);
    },
  };
}
