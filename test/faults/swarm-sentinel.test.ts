/**
 * A server whose stores are elsewhere: a primary, its replica, three sentinels, all of them behind TLS. Nodes keep their
 * users in the stores, whoever is primary. (What callers see meanwhile: test/e2e/swarm/failures.test.ts.)
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openRedis, withCredentials } from '../../infra/lib/redis.ts';
import { ONE_CELL } from '../../infra/contract/cells.ts';
import { accessRules, revokeAccess } from '../../infra/swarm/access.ts';
import { openMembers } from '../../infra/swarm/members.ts';
import { Upkeep } from '../../gateway/swarm/upkeep.ts';
import { functionFixture } from '../helpers/fixtures.ts';
import { startSentinelCluster, type SentinelCluster } from '../helpers/sentinel.ts';
import { startServer, type TestServer } from '../helpers/server.ts';
import { waitFor } from '../helpers/wait.ts';

/** Sentinels whose votes were split elect again after some seconds; on a busy host that happens. */
const RECOVERY_MS_MAX = 60_000;

let stores: SentinelCluster;
let server: TestServer;
let url: string;
let trusted: string[] = [];

beforeAll(async () => {
  stores = await startSentinelCluster({ isEncrypted: true });
  const caFile = stores.caFile as string;
  trusted = getCACertificates('default');
  setDefaultCACertificates([...trusted, readFileSync(caFile, 'utf8')]);
  server = await startServer({ env: { SKIFF_REDIS_URL: stores.url, NODE_EXTRA_CA_CERTS: caFile } });
  ({ url } = await server.deploy(functionFixture('echo.ts')));
});
afterAll(async () => {
  try {
    await server?.stop();
  } finally {
    await stores?.close();
    setDefaultCACertificates(trusted);
  }
});

/** The primary dies, its replica takes its place, and it comes back: a primary takes writes when it has a replica. */
async function failOver(): Promise<void> {
  const before = await stores.primaryPort();
  await stores.kill(before);
  await waitFor(
    'another primary',
    async () => ![0, before].includes(await stores.primaryPort()),
    RECOVERY_MS_MAX,
  );
  stores.start(before);
  await stores.untilReplicated();
}

it('speaks TLS to stores and sentinels, and to none whose certificate it cannot check', async () => {
  expect(stores.url).toMatch(/^rediss\+sentinel:/);
  setDefaultCACertificates(trusted);
  const doubtful = openRedis(stores.url, { sentinelRetryStrategy: () => null });
  try {
    await expect(doubtful.connect()).rejects.toThrow(/All sentinels are unreachable/);
  } finally {
    doubtful.disconnect();
    setDefaultCACertificates([...trusted, readFileSync(stores.caFile as string, 'utf8')]);
  }
  const own = openRedis(stores.url);
  await own.connect();
  expect(await own.ping()).toBe('PONG');
  expect((await fetch(url)).status).toBe(200);
  own.disconnect();
});

it('gives every node its own user with its rights again on the next primary, and to one that was removed nothing', async () => {
  const own = openRedis(stores.url);
  await own.connect();
  const members = openMembers(own);
  const password = 'correct horse battery staple';
  const id = 'node-0123456789';
  await members.createSwarm({
    id: 'swm-x',
    createdMs: 0,
    ca: '',
    caDigest: '',
    certificateMs: 1,
    tokenHashes: { worker: '', manager: '' },
    backbone: { durable: stores.url, fast: stores.url, registry: '' },
  });
  await members.put({
    id,
    role: 'worker',
    hostname: 'x',
    address: '10.0.0.1',
    joinedMs: 0,
    certificateUntilMs: 0,
    version: '0',
    redisPasswordHash: createHash('sha256').update(password).digest('hex'),
  });
  const asNode = async () => {
    const redis = openRedis(withCredentials(stores.url, id, password), { retryStrategy: () => null });
    try {
      await redis.connect();
      return await redis.call('ACL', 'WHOAMI').catch((error: Error) => error.message);
    } catch (error) {
      return String(error);
    } finally {
      redis.disconnect();
    }
  };
  try {
    await new Upkeep(members, own, own).run();
    // It may not even ask who it is: the least rights.
    expect(await asNode()).toMatch(/NOPERM/);
    expect(accessRules('fast', 'worker', id, ONE_CELL)).not.toContain('+@all');
    await failOver();
    // Users are not replicated: the next primary has never heard of it.
    await waitFor(
      'its user is back',
      async () => {
        await new Upkeep(members, own, own).run().catch(() => {});
        return String(await asNode()).includes('NOPERM');
      },
      RECOVERY_MS_MAX,
    );
    await revokeAccess(own, id);
    expect(await asNode()).toMatch(/WRONGPASS|closed/i);
  } finally {
    await members.remove(id).catch(() => {});
    await members.removeSwarm().catch(() => {});
    own.disconnect();
  }
});
