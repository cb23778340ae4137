/**
 * Secrets of functions, in the durable Redis. Invariant: a value is in the store only encrypted (seal.ts), and leaves
 * this module decrypted only through `reveal`, which the runner alone calls. A value changes as a new version.
 * Deliberately absent: which function may have which secret; a function gets those that its configuration names.
 */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { SecretRecord } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { SECRET_BYTES_MAX, SECRETS_MAX } from '../../sdk/protocol/limits.ts';
import { resolveName } from '../../sdk/protocol/reach/namespaces.ts';
import { publishChange } from '../catalog/changes.ts';
import { parseStored } from '../catalog/stored.ts';
import { durable } from '../contract/keys.ts';
import { KeyRing } from './key-ring.ts';
import { keyIdOf, seal, unseal } from './seal.ts';

const Stored = SecretRecord.extend({ sealed: z.string() });
type Stored = z.output<typeof Stored>;

/** Everything that is encrypted with the key, whatever else is in its record. */
const SEALED_HASHES = [durable.secrets, durable.registryLogins];
const Sealed = z.looseObject({ name: z.string(), version: z.number(), sealed: z.string() });

export interface SecretStore {
  /** Without values. By name. */
  list(): Promise<SecretRecord[]>;
  /** Makes or replaces. @throws SkiffError BODY_TOO_LARGE, CONFLICT when there are SECRETS_MAX. */
  set(name: string, value: string): Promise<SecretRecord>;
  /** @throws SkiffError NOT_FOUND */
  remove(name: string): Promise<void>;
  /**
   * Values by name, as a function of this name says them: those of its own namespace.
   * @throws SkiffError COLD_START_FAILED for a name that is not there.
   */
  reveal(names: readonly string[], functionName: string): Promise<Map<string, string>>;
  /** Encrypts everything with a new key and forgets the old ones. Returns how many values that were. */
  rotate(): Promise<number>;
}

export function openSecretStore(redis: Redis, keyFile: string): SecretStore {
  const keys = new KeyRing(keyFile);

  async function read(name: string): Promise<Stored | undefined> {
    const json = await redis.hget(durable.secrets, name);
    return json === null ? undefined : parseStored(Stored, json, durable.secrets);
  }

  async function readAll(): Promise<Stored[]> {
    const all = Object.values(await redis.hgetall(durable.secrets));
    const secrets = all.map((json) => parseStored(Stored, json, durable.secrets));
    return secrets.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  return {
    async list() {
      return (await readAll()).map((stored) => SecretRecord.parse(stored));
    },

    async set(name, value) {
      const bytes = Buffer.byteLength(value);
      if (bytes > SECRET_BYTES_MAX) {
        throw new SkiffError(
          'BODY_TOO_LARGE',
          `secret "${name}" has ${bytes} bytes; the limit is ${SECRET_BYTES_MAX}`,
        );
      }
      const old = await read(name);
      if (!old && (await redis.hlen(durable.secrets)) >= SECRETS_MAX) {
        throw new SkiffError('CONFLICT', `there are ${SECRETS_MAX} secrets, which is the limit; remove some`);
      }
      const version = (old?.version ?? 0) + 1;
      const now = Date.now();
      const record = { name, version, createdMs: old?.createdMs ?? now, updatedMs: now };
      const sealed = seal(value, await keys.current(), record);
      await redis.hset(durable.secrets, name, JSON.stringify({ ...record, sealed }));
      await publishChange(redis, { kind: 'secret', name });
      return record;
    },

    async remove(name) {
      if ((await redis.hdel(durable.secrets, name)) === 0) {
        throw new SkiffError('NOT_FOUND', `there is no secret "${name}"`);
      }
      await publishChange(redis, { kind: 'secret', name });
    },

    async reveal(names, functionName) {
      const values = new Map<string, string>();
      for (const name of names) {
        const whole = resolveName(name, functionName);
        const stored = await read(whole);
        if (!stored) {
          throw new SkiffError(
            'COLD_START_FAILED',
            `the function needs the secret "${whole}", which does not exist; skiff secret set ${whole}`,
          );
        }
        values.set(name, unseal(stored.sealed, await keys.find(keyIdOf(stored.sealed)), stored));
      }
      return values;
    },

    rotate: () => reseal(redis, keys),
  };
}

async function reseal(redis: Redis, keys: KeyRing): Promise<number> {
  const key = await keys.add();
  let count = 0;
  for (const hash of SEALED_HASHES) {
    for (const [field, json] of Object.entries(await redis.hgetall(hash))) {
      const stored = parseStored(Sealed, json, hash);
      const value = unseal(stored.sealed, await keys.find(keyIdOf(stored.sealed)), stored);
      const sealed = seal(value, key, stored);
      await redis.hset(hash, field, JSON.stringify({ ...stored, sealed }));
      count++;
    }
  }
  await keys.keepOnly(key.id);
  return count;
}
