import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { type Catalog, openCatalog } from '../../../infra/catalog/catalog.ts';
import { ADMIN_TOKEN_ID, createTokenText } from '../../../infra/catalog/tokens.ts';
import { durable } from '../../helpers/keys.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { TOKENS_MAX } from '../../../sdk/protocol/limits.ts';
import { type TestRedis, startRedis } from '../../helpers/redis.ts';

let server: TestRedis;
let redis: Redis;
let catalog: Catalog;

beforeAll(async () => {
  server = await startRedis();
  redis = openRedis(server.url);
  await redis.connect();
  catalog = openCatalog(redis);
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.close();
});

it('verifies a token it made, and no other', async () => {
  const { token, record } = await catalog.createToken({ name: 'ci', scopes: ['deploy', 'deploy'] });
  expect(record.scopes).toEqual(['deploy']);
  expect(await catalog.verifyToken(token)).toEqual(record);
  expect(await catalog.verifyToken(`${token}x`)).toBeUndefined();
  expect(await catalog.verifyToken('')).toBeUndefined();
});

it('stores only the hash', async () => {
  const { token } = await catalog.createToken({ name: 'ci', scopes: ['read'] });
  const stored = JSON.stringify(await redis.hgetall(durable.tokens));
  expect(stored).not.toContain(token);
  expect(stored).not.toContain(token.slice(6));
});

it('does not verify a token after its expiry', async () => {
  const { token } = await catalog.createToken({ name: 'ci', scopes: ['read'], expiresMs: Date.now() - 1 });
  expect(await catalog.verifyToken(token)).toBeUndefined();
});

it('does not verify a revoked token', async () => {
  const { token, record } = await catalog.createToken({ name: 'ci', scopes: ['read'] });
  await catalog.revokeToken(record.id);
  expect(await catalog.verifyToken(token)).toBeUndefined();
  await expect(catalog.revokeToken(record.id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('keeps one admin token: a new file value replaces the old one', async () => {
  const [first, second] = [createTokenText(), createTokenText()];
  await catalog.ensureAdminToken(first);
  await catalog.ensureAdminToken(first);
  expect(await catalog.verifyToken(first)).toMatchObject({ id: ADMIN_TOKEN_ID, scopes: ['admin'] });
  await catalog.ensureAdminToken(second);
  expect(await catalog.verifyToken(first)).toBeUndefined();
  expect(await catalog.verifyToken(second)).toMatchObject({ id: ADMIN_TOKEN_ID });
  expect(await catalog.listTokens()).toHaveLength(1);
  await expect(catalog.revokeToken(ADMIN_TOKEN_ID)).rejects.toMatchObject({ code: 'CONFLICT' });
});

it('refuses more than TOKENS_MAX tokens and makes room by dropping expired ones', async () => {
  const fields: string[] = [];
  for (let i = 0; i < TOKENS_MAX; i++) {
    const record = { id: `tok-${i}`, name: 'x', scopes: ['read'], createdMs: i };
    fields.push(String(i), JSON.stringify(i === 0 ? { ...record, expiresMs: 1 } : record));
  }
  await redis.hset(durable.tokens, ...fields);
  await catalog.createToken({ name: 'fits', scopes: ['read'] });
  await expect(catalog.createToken({ name: 'too many', scopes: ['read'] })).rejects.toMatchObject({
    code: 'CONFLICT',
  });
});
