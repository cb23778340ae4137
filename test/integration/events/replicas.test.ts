/** Class `replicated` on a store with two replicas: it counts only when whoever takes over has what was acknowledged. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Durability } from '../../../infra/events/durability.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { freePorts } from '../../helpers/ports.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { waitFor } from '../../helpers/wait.ts';

let servers: TestRedis[];
let primary: Redis;
let last: Redis;
let folder: string;
let durability: Durability;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'skiff-replicas-'));
  servers = await Promise.all([1, 2, 3].map(() => startRedis({ persistent: true })));
  const [first, second, third] = await Promise.all(
    servers.map(async ({ url }) => {
      const redis = openRedis(url);
      await redis.connect();
      return redis;
    }),
  );
  [primary, last] = [first as Redis, third as Redis];
  const [port = 0] = await freePorts(1);
  await primary.config('SET', 'repl-diskless-sync-delay', '0', 'bind', '127.0.0.1', 'port', String(port));
  for (const replica of [second, third]) await replica?.replicaof('127.0.0.1', port);
  second?.disconnect();
  await waitFor(
    'both replicas',
    async () => (await primary.info('replication')).match(/state=online/g)?.length === 2,
    20_000,
  );
  const epochFile = join(folder, 'epoch');
  const log = pino({ level: 'silent' });
  durability = new Durability({ redis: primary, class: 'replicated', epochFile, log });
});
afterAll(async () => {
  durability?.close();
  for (const redis of [primary, last]) redis?.disconnect();
  await Promise.all((servers ?? []).map((server) => server.close()));
  rmSync(folder, { recursive: true, force: true });
});

test('is refused while one of them could take over without a write that the other one has', async () => {
  await primary.config('SET', 'min-replicas-to-write', '1');
  await expect(durability.assertDurable()).rejects.toThrow(
    /it has 2 replicas and its min-replicas-to-write is 1: .* set it to 2/,
  );
});

test('acknowledges when all of them have the write, and not when one of them has not', async () => {
  await primary.config('SET', 'min-replicas-to-write', '2');
  await durability.check();
  expect(durability.problem).toBeUndefined();
  const isReplicated = async () => {
    await primary.set('a', '1');
    return await durability.assertReplicated().then(
      () => true,
      () => false,
    );
  };
  // A busy disk may take its time, once.
  await waitFor('all have a write', isReplicated);
  await last.call('CLIENT', 'PAUSE', '10000', 'ALL');
  await primary.set('a', '2');
  await expect(durability.assertReplicated()).rejects.toThrow(/1 of 2 replicas had the event/);
});
