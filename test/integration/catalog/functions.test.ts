import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Catalog, openCatalog } from '../../../infra/catalog/catalog.ts';
import { subscribeChanges } from '../../../infra/catalog/changes.ts';
import { durable } from '../../helpers/keys.ts';
import { openBlockingRedis, openRedis } from '../../../infra/lib/redis.ts';
import { DEPLOYMENTS_KEPT_PER_FUNCTION } from '../../../sdk/protocol/limits.ts';
import { createDeployment } from '../../helpers/deployment.ts';
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

async function deploy(name: string, createdMs = Date.now()) {
  const deployment = createDeployment(name, { createdMs });
  await catalog.putDeployment(deployment);
  return deployment;
}

describe('deployments', () => {
  it('reads back what was written', async () => {
    const deployment = await deploy('hello');
    expect(await catalog.getDeployment(deployment.id)).toEqual(deployment);
    expect(await catalog.listDeployments('hello')).toEqual([deployment]);
  });

  it('accepts the same deployment again and refuses a different one under its id', async () => {
    const deployment = await deploy('hello');
    await catalog.putDeployment(deployment);
    await expect(
      catalog.putDeployment({ ...deployment, entry: '/var/task/other.cjs' }),
    ).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    expect((await catalog.getDeployment(deployment.id))?.entry).toBe(deployment.entry);
  });

  it('lists the newest first', async () => {
    const old = await deploy('hello', 1_000);
    const young = await deploy('hello', 2_000);
    expect((await catalog.listDeployments('hello')).map(({ id }) => id)).toEqual([young.id, old.id]);
  });

  it('prunes the oldest, but never one that an alias names', async () => {
    const first = await deploy('hello', 1);
    await catalog.setAlias('hello', 'live', [{ deployment: first.id, weight: 100 }]);
    const second = await deploy('hello', 2);
    for (let i = 3; i <= DEPLOYMENTS_KEPT_PER_FUNCTION; i++) await deploy('hello', i);
    expect(await catalog.getDeployment(second.id)).toBeDefined();

    const pruned = await catalog.putDeployment(createDeployment('hello', { createdMs: 1_000 }));
    expect(pruned).toEqual([second.id]);
    expect(await catalog.getDeployment(second.id)).toBeUndefined();
    expect(await catalog.getDeployment(first.id)).toBeDefined();
    expect(await catalog.listDeployments('hello')).toHaveLength(DEPLOYMENTS_KEPT_PER_FUNCTION);
  });

  it('removes one that nothing names, and refuses while an alias names it', async () => {
    const deployment = await deploy('hello');
    await catalog.setAlias('hello', 'live', [{ deployment: deployment.id, weight: 100 }]);
    await expect(catalog.removeDeployment(deployment)).rejects.toMatchObject({ code: 'CONFLICT' });
    const other = await deploy('hello');
    await catalog.removeDeployment(other);
    await catalog.removeDeployment(other);
    expect((await catalog.listDeployments('hello')).map(({ id }) => id)).toEqual([deployment.id]);
  });

  it('says INTERNAL with the key as cause when a stored record is damaged', async () => {
    await redis.set(durable.deployment('dep-x'), '{"id":1}');
    await expect(catalog.getDeployment('dep-x')).rejects.toMatchObject({
      code: 'INTERNAL',
      cause: { message: expect.stringContaining(durable.deployment('dep-x')) },
    });
  });
});

describe('aliases', () => {
  it('creates the function with its first alias and counts versions', async () => {
    const one = await deploy('hello');
    const two = await deploy('hello');
    expect(await catalog.getFunction('hello')).toBeUndefined();
    const created = await catalog.setAlias('hello', 'live', [{ deployment: one.id, weight: 100 }], 0);
    expect(created).toMatchObject({
      name: 'live',
      version: 1,
      targets: [{ deployment: one.id, weight: 100 }],
    });
    const moved = await catalog.setAlias('hello', 'live', [{ deployment: two.id, weight: 100 }], 1);
    expect(moved.version).toBe(2);
    const entry = await catalog.getFunction('hello');
    expect(entry).toMatchObject({ name: 'hello', aliases: [moved], createdMs: created.updatedMs });
    expect(await catalog.listFunctions()).toEqual([entry]);
  });

  it('answers CONFLICT with the present version and changes nothing when the version is another', async () => {
    const one = await deploy('hello');
    const target = [{ deployment: one.id, weight: 100 }];
    await catalog.setAlias('hello', 'live', target);
    await expect(catalog.setAlias('hello', 'live', target, 0)).rejects.toMatchObject({
      code: 'CONFLICT',
      details: { version: 1 },
    });
    await expect(catalog.setAlias('hello', 'live', target, 7)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect((await catalog.resolveRoute('hello'))?.alias.version).toBe(1);
  });

  it('lets exactly one of many concurrent movers win each version', async () => {
    const one = await deploy('hello');
    const target = [{ deployment: one.id, weight: 100 }];
    const tries = await Promise.allSettled(
      Array.from({ length: 20 }, () => catalog.setAlias('hello', 'live', target, 0)),
    );
    expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('refuses deployments of other functions, weights that do not sum to 100, doubles and bad names', async () => {
    const mine = await deploy('hello');
    const foreign = await deploy('other');
    const set = (name: string, alias: string, ...targets: [string, number][]) =>
      catalog.setAlias(
        name,
        alias,
        targets.map(([deployment, weight]) => ({ deployment, weight })),
      );
    await expect(set('hello', 'live', [foreign.id, 100])).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(set('hello', 'live', [mine.id, 90])).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    await expect(set('hello', 'live')).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    await expect(set('hello', 'live', [mine.id, 50], [mine.id, 50])).rejects.toMatchObject({
      code: 'BAD_REQUEST',
    });
    await expect(set('hello', 'Live!', [mine.id, 100])).rejects.toMatchObject({ code: 'INVALID_NAME' });
    expect(await catalog.listFunctions()).toEqual([]);
  });

  it('resolves a route with both deployments of a weighted alias', async () => {
    const one = await deploy('hello');
    const two = await deploy('hello');
    await catalog.setAlias('hello', 'canary', [
      { deployment: one.id, weight: 95 },
      { deployment: two.id, weight: 5 },
    ]);
    expect(await catalog.resolveRoute('hello')).toBeUndefined();
    expect(await catalog.resolveRoute('hello', 'canary')).toMatchObject({
      name: 'hello',
      targets: [
        { weight: 95, deployment: one },
        { weight: 5, deployment: two },
      ],
    });
    expect(await catalog.resolveRoute('nobody')).toBeUndefined();
  });
});

describe('removal', () => {
  it('removes aliases and deployments and leaves no key behind', async () => {
    const one = await deploy('hello');
    const two = await deploy('hello');
    await catalog.setAlias('hello', 'live', [{ deployment: one.id, weight: 100 }]);
    expect((await catalog.removeFunction('hello')).toSorted()).toEqual([one.id, two.id].toSorted());
    expect(await redis.keys('*')).toEqual([]);
    await expect(catalog.removeFunction('hello')).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
  });

  it('removes deployments of a function that never went live', async () => {
    const one = await deploy('hello');
    expect(await catalog.removeFunction('hello')).toEqual([one.id]);
    expect(await redis.keys('*')).toEqual([]);
  });
});

describe('changes', () => {
  it('publishes alias moves and removals, and reports a gap after Redis was away', async () => {
    const seen: string[] = [];
    let gaps = 0;
    const stop = await subscribeChanges(
      openBlockingRedis(server.url),
      (change) => seen.push(`${change.kind} ${change.name}`),
      () => gaps++,
    );
    try {
      const one = await deploy('hello');
      await catalog.setAlias('hello', 'live', [{ deployment: one.id, weight: 100 }]);
      await catalog.removeFunction('hello');
      await expect.poll(() => seen).toEqual(['alias hello', 'function hello']);
      const before = gaps;
      expect(before).toBeGreaterThan(0);
      await server.stop();
      await server.start();
      await expect.poll(() => gaps, { timeout: 5_000 }).toBeGreaterThan(before);
      await expect
        .poll(() => redis.publish(durable.changes, '{"kind":"function","name":"late"}').catch(() => 0))
        .toBe(1);
      await expect.poll(() => seen).toContain('function late');
    } finally {
      stop();
    }
  });
});
