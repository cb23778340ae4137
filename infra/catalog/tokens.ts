/**
 * API tokens. Invariant: only the SHA-256 of a token is stored. A token is 32 random bytes, so a fast hash is enough
 * and looking it up by hash tells an attacker nothing through timing.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { durable } from '../contract/keys.ts';
import { type Scope, TokenRecord } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import { TOKENS_MAX } from '../../sdk/protocol/limits.ts';
import { publishChange } from './changes.ts';
import { parseStored } from './stored.ts';

/** The record of the token in <data>/admin.token. */
export const ADMIN_TOKEN_ID = 'tok-admin';

export interface NewToken {
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Good for these functions alone. */
  readonly functions?: readonly string[] | undefined;
  /** Good for what is of this namespace alone. */
  readonly namespace?: string | undefined;
  readonly expiresMs?: number | undefined;
}

export interface TokenStore {
  /** The token itself is returned here and never again. @throws SkiffError CONFLICT when there are TOKENS_MAX. */
  createToken(token: NewToken): Promise<{ token: string; record: TokenRecord }>;
  /** Undefined when the token is unknown or has expired. */
  verifyToken(token: string): Promise<TokenRecord | undefined>;
  /** By creation, oldest first. */
  listTokens(): Promise<TokenRecord[]>;
  /** @throws SkiffError NOT_FOUND, and CONFLICT for the admin token, which is a file's. */
  revokeToken(id: string): Promise<void>;
  /** Makes `token` the one admin token: an older one stops working. */
  ensureAdminToken(token: string): Promise<void>;
}

export function createTokenText(): string {
  return `skiff_${randomBytes(32).toString('base64url')}`;
}

function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

export function openTokenStore(redis: Redis): TokenStore {
  async function readAll(): Promise<{ hash: string; record: TokenRecord }[]> {
    const all = await redis.hgetall(durable.tokens);
    return Object.entries(all)
      .map(([hash, json]) => ({ hash, record: parseStored(TokenRecord, json, durable.tokens) }))
      .sort((a, b) => a.record.createdMs - b.record.createdMs);
  }

  return {
    async createToken({ name, scopes, functions, namespace, expiresMs }) {
      if ((await redis.hlen(durable.tokens)) >= TOKENS_MAX) await removeExpired(redis, await readAll());
      if ((await redis.hlen(durable.tokens)) >= TOKENS_MAX) {
        throw new SkiffError('CONFLICT', `there are ${TOKENS_MAX} tokens, which is the limit; revoke some`);
      }
      const token = createTokenText();
      const record: TokenRecord = {
        id: createId('tok'),
        name,
        scopes: [...new Set(scopes)],
        ...(functions === undefined ? {} : { functions: [...functions] }),
        ...(namespace === undefined ? {} : { namespace }),
        createdMs: Date.now(),
        ...(expiresMs === undefined ? {} : { expiresMs }),
      };
      await redis.hset(durable.tokens, hashToken(token), JSON.stringify(TokenRecord.parse(record)));
      return { token, record };
    },

    async verifyToken(token) {
      const json = await redis.hget(durable.tokens, hashToken(token));
      if (json === null) return undefined;
      const record = parseStored(TokenRecord, json, durable.tokens);
      return isExpired(record) ? undefined : record;
    },

    async listTokens() {
      return (await readAll()).map(({ record }) => record);
    },

    async revokeToken(id) {
      if (id === ADMIN_TOKEN_ID) {
        throw new SkiffError(
          'CONFLICT',
          'the admin token is the file admin.token; replace the file and restart the gateway',
        );
      }
      const found = (await readAll()).find(({ record }) => record.id === id);
      if (!found) throw new SkiffError('NOT_FOUND', `there is no token ${id}`);
      await redis.hdel(durable.tokens, found.hash);
      await publishChange(redis, { kind: 'tokens', name: id });
    },

    async ensureAdminToken(token) {
      const wanted = hashToken(token);
      const old = (await readAll()).filter(({ record }) => record.id === ADMIN_TOKEN_ID);
      const stale = old.filter(({ hash }) => hash !== wanted).map(({ hash }) => hash);
      if (old.length === 1 && stale.length === 0) return;
      const record: TokenRecord = {
        id: ADMIN_TOKEN_ID,
        name: 'admin',
        scopes: ['admin'],
        createdMs: Date.now(),
      };
      await redis.hset(durable.tokens, wanted, JSON.stringify(record));
      if (stale.length > 0) await redis.hdel(durable.tokens, ...stale);
      await publishChange(redis, { kind: 'tokens', name: ADMIN_TOKEN_ID });
    },
  };
}

function isExpired(record: TokenRecord): boolean {
  return record.expiresMs !== undefined && record.expiresMs <= Date.now();
}

async function removeExpired(
  redis: Redis,
  all: readonly { hash: string; record: TokenRecord }[],
): Promise<void> {
  const expired = all.filter(({ record }) => isExpired(record)).map(({ hash }) => hash);
  if (expired.length > 0) await redis.hdel(durable.tokens, ...expired);
}
