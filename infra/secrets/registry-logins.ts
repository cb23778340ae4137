/**
 * Logins to registries of images, in the durable Redis. Invariant: a password is in the store only encrypted
 * (seal.ts), bound to its host, and leaves this module decrypted only through `tryFind`, for the builder's requests.
 */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { RegistryLogin } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { REGISTRY_LOGINS_MAX } from '../../sdk/protocol/limits.ts';
import { parseStored } from '../catalog/stored.ts';
import { durable } from '../contract/keys.ts';
import { KeyRing } from './key-ring.ts';
import { keyIdOf, seal, unseal } from './seal.ts';

/** `name` and `version` are what it is sealed for. */
const Stored = RegistryLogin.extend({ name: z.string(), version: z.number().int(), sealed: z.string() });

export interface RegistryLoginStore {
  /** By host. */
  list(): Promise<RegistryLogin[]>;
  /** Makes or replaces. @throws SkiffError CONFLICT when there are REGISTRY_LOGINS_MAX */
  set(host: string, user: string, password: string): Promise<RegistryLogin>;
  /** @throws SkiffError NOT_FOUND */
  remove(host: string): Promise<void>;
  tryFind(host: string): Promise<{ user: string; password: string } | undefined>;
}

export function openRegistryLogins(redis: Redis, keyFile: string): RegistryLoginStore {
  return {
    async list() {
      const all = Object.values(await redis.hgetall(durable.registryLogins));
      const logins = all.map((json) =>
        RegistryLogin.parse(parseStored(Stored, json, durable.registryLogins)),
      );
      return logins.sort((a, b) => (a.host < b.host ? -1 : 1));
    },

    async set(host, user, password) {
      const isNew = (await redis.hexists(durable.registryLogins, host)) === 0;
      if (isNew && (await redis.hlen(durable.registryLogins)) >= REGISTRY_LOGINS_MAX) {
        throw new SkiffError(
          'CONFLICT',
          `there are ${REGISTRY_LOGINS_MAX} logins to registries, which is the limit; remove some`,
        );
      }
      const record = { host, user, updatedMs: Date.now(), name: `registry ${host}`, version: 1 };
      // A ring of its own: the key may have been changed by another process since.
      const sealed = seal(password, await new KeyRing(keyFile).current(), record);
      await redis.hset(durable.registryLogins, host, JSON.stringify({ ...record, sealed }));
      return RegistryLogin.parse(record);
    },

    async remove(host) {
      if ((await redis.hdel(durable.registryLogins, host)) === 0)
        throw new SkiffError('NOT_FOUND', `there is no login to registry "${host}"`);
    },

    async tryFind(host) {
      const json = await redis.hget(durable.registryLogins, host);
      if (json === null) return undefined;
      const stored = parseStored(Stored, json, durable.registryLogins);
      const key = await new KeyRing(keyFile).find(keyIdOf(stored.sealed));
      return { user: stored.user, password: unseal(stored.sealed, key, stored) };
    },
  };
}
