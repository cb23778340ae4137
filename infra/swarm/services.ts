/**
 * Services as they should be: the durable store's side. Invariant: a service is written by compare-and-set of its
 * version, so that an operator and the reconciler cannot overwrite each other's decision.
 */
import type { Redis } from 'ioredis';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { Service } from '../../sdk/protocol/swarm/resources.ts';
import { publishChange } from '../catalog/changes.ts';
import { parseStored } from '../catalog/stored.ts';
import { swarm } from '../contract/keys.ts';
import { defineScript } from '../lib/redis.ts';

export interface Services {
  /** By name. */
  list(): Promise<Service[]>;
  get(name: string): Promise<Service | undefined>;
  /** @throws SkiffError CONFLICT when there is one of this name */
  create(service: Service): Promise<void>;
  /** Writes `service` with the next version if the stored one has its version. @throws SkiffError CONFLICT, NOT_FOUND */
  update(service: Service): Promise<Service>;
  /** False: there was none. */
  remove(name: string): Promise<boolean>;
}

interface Scripts {
  skiffPutService(services: string, name: string, expected: number, json: string): Promise<number>;
}

export function openServices(redis: Redis): Services {
  defineScript(redis, 'skiffPutService', new URL('put-service.lua', import.meta.url), 1);
  const scripts = redis as unknown as Scripts;
  const published = (name: string) => publishChange(redis, { kind: 'service', name });

  return {
    async list() {
      const values = await redis.hvals(swarm.services);
      return values
        .map((json) => parseStored(Service, json, swarm.services))
        .sort((a, b) => (a.name < b.name ? -1 : 1));
    },
    async get(name) {
      const json = await redis.hget(swarm.services, name);
      return json === null ? undefined : parseStored(Service, json, swarm.services);
    },
    async create(service) {
      const json = JSON.stringify(Service.parse(service));
      if ((await redis.hsetnx(swarm.services, service.name, json)) === 0)
        throw new SkiffError('CONFLICT', `there is a service "${service.name}" already`);
      await published(service.name);
    },
    async update(service) {
      const next = { ...service, version: service.version + 1, updatedMs: Date.now() };
      const json = JSON.stringify(Service.parse(next));
      const reply = await scripts.skiffPutService(swarm.services, service.name, service.version, json);
      if (reply === -1) throw new SkiffError('NOT_FOUND', `there is no service "${service.name}"`);
      if (reply !== 1)
        throw new SkiffError('CONFLICT', `service "${service.name}" was changed meanwhile; repeat`);
      await published(service.name);
      return next;
    },
    async remove(name) {
      const removed = (await redis.hdel(swarm.services, name)) === 1;
      await published(name);
      return removed;
    },
  };
}
