/** What is removed from a real registry, and what is not. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Collector, holdImage } from '../../../builder/collect/collector.ts';
import { openCatalog, type Catalog } from '../../../infra/catalog/catalog.ts';
import { SOURCE_REPOSITORY } from '../../../infra/contract/jobs.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import { keepSource, sourceTag } from '../../../infra/oci/source-manifest.ts';
import { pushTestImage } from '../../helpers/container-image.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';

let folder: string;
let server: TestRegistry;
let store: TestRedis;
let redis: Redis;
let registry: Registry;
let catalog: Catalog;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skiff-collector-'));
  [server, store] = await Promise.all([startTestRegistry(), startRedis()]);
  redis = openRedis(store.url);
  await redis.connect();
  registry = openRegistry({ url: server.url });
  catalog = openCatalog(redis);
});
afterAll(async () => {
  redis?.disconnect();
  await registry?.close();
  await Promise.all([server?.stop(), store?.stop()]);
  if (folder) await rm(folder, { recursive: true, force: true });
});

const HOUR = 3_600_000;
const open = (): Collector => new Collector({ redis, catalog, registry, log: pino({ level: 'silent' }) });
const push = (repository: string, tag: string): Promise<string> =>
  pushTestImage(registry, repository, tag, { layers: [[{ path: 'f', data: repository + tag }]], config: {} });
const has = async (repository: string, digest: string): Promise<boolean> =>
  (await registry.headManifest(repository, digest)) !== undefined;

async function upload(text: string): Promise<{ digest: string; bytes: number }> {
  const { digest, bytes } = await registry.pushBlob(SOURCE_REPOSITORY, Buffer.from(text));
  await keepSource(registry, { digest, bytes });
  return { digest, bytes };
}

test('removes what no deployment needs, after the grace time and not before', async () => {
  const [used, unused, gone] = await Promise.all([
    push('functions/shop', 'a'),
    push('functions/shop', 'b'),
    push('functions/removed', 'a'),
  ]);
  const foreign = await push('team/other', 'x');
  const [baseUsed, baseOld, baseNow] = await Promise.all([
    push('skiff/node', `26-${'1'.repeat(16)}`),
    push('skiff/node', `26-${'2'.repeat(16)}`),
    push('skiff/node', '26'),
  ]);
  const [kept, dropped] = [await upload('kept'), await upload('dropped')];
  const deployment = createDeployment('shop');
  await catalog.putDeployment({
    ...deployment,
    source: kept,
    image: {
      ...deployment.image,
      digest: used,
      base: { reference: `skiff/node@${baseUsed}`, digest: baseUsed },
    },
  });
  const collector = open();
  const now = Date.now();
  expect(await collector.run(now)).toBe(0);
  expect(await collector.run(now + HOUR - 1)).toBe(0);
  expect(await collector.run(now + HOUR)).toBe(4);
  expect(await has('functions/shop', used)).toBe(true);
  expect(await has('functions/shop', unused)).toBe(false);
  expect(await has('functions/removed', gone)).toBe(false);
  expect(await has('team/other', foreign)).toBe(true);
  expect([await has('skiff/node', baseUsed), await has('skiff/node', baseNow)]).toEqual([true, true]);
  expect(await has('skiff/node', baseOld)).toBe(false);
  expect(await registry.listTags(SOURCE_REPOSITORY)).toEqual([sourceTag(kept.digest)]);
  expect(await has(SOURCE_REPOSITORY, sourceTag(dropped.digest))).toBe(false);
});

test('an image that a build uses again in the meantime stays', async () => {
  const again = await push('functions/again', 'a');
  const collector = open();
  const now = Date.now();
  await collector.run(now);
  await holdImage(redis, again);
  expect(await collector.run(now + HOUR)).toBe(0);
  expect(await has('functions/again', again)).toBe(true);
  // Recorded now: needed, held or not.
  const deployment = createDeployment('again');
  await catalog.putDeployment({ ...deployment, image: { ...deployment.image, digest: again } });
  expect(await collector.run(now + 2 * HOUR)).toBe(0);
  expect(await has('functions/again', again)).toBe(true);
});

test('one builder collects at a time', async () => {
  const runs = await Promise.all(Array.from({ length: 4 }, () => open().run()));
  expect(runs.filter((removed) => removed !== undefined).length).toBeGreaterThanOrEqual(1);
  expect(runs.filter((removed) => removed === undefined).length).toBeGreaterThanOrEqual(1);
  expect(await open().run()).toBe(0);
});

test('needs that cannot be read remove nothing', async () => {
  const image = await push('functions/unreadable', 'a');
  const broken = { listDeployments: () => Promise.reject(new Error('no Redis')) };
  const collector = new Collector({
    redis,
    catalog: broken,
    registry,
    log: pino({ level: 'silent' }),
    graceMs: 0,
  });
  await expect(collector.run()).rejects.toThrow('no Redis');
  expect(await has('functions/unreadable', image)).toBe(true);
});
