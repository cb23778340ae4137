import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Catalog, openCatalog } from '../../../infra/catalog/catalog.ts';
import { functionRepository } from '../../../infra/contract/jobs.ts';
import { fast } from '../../helpers/keys.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import { Alias, FunctionRecord } from '../../../sdk/protocol/api.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

let gateway: TestGateway;
let catalog: Catalog;

beforeAll(async () => {
  gateway = await startGateway({ env: { SKIFF_GATEWAY_PUBLIC_URL: 'https://skiff.example.org/' } });
  catalog = openCatalog(gateway.durableRedis);
});
afterAll(() => gateway.close());
afterEach(async () => {
  for (const { name } of await catalog.listFunctions()) await catalog.removeFunction(name);
});

async function deployLive(name: string) {
  const deployment = createDeployment(name);
  await catalog.putDeployment(deployment);
  await catalog.setAlias(name, 'live', [{ deployment: deployment.id, weight: 100 }]);
  return deployment;
}

const put = (path: string, body: unknown) =>
  gateway.request(path, { method: 'PUT', body: JSON.stringify(body) });

describe('functions', () => {
  it('shows a function with its URL, live alias, runtime and sandboxes', async () => {
    const deployment = await deployLive('hello');
    await gateway.fastRedis.zadd(
      fast.live(deployment.id),
      Date.now() + 10_000,
      'r|e|sbx-1',
      Date.now() - 1,
      'r|e|sbx-0',
    );
    const record = FunctionRecord.parse(await gateway.json('/v1/functions/hello'));
    expect(record).toMatchObject({
      name: 'hello',
      url: 'https://skiff.example.org/f/hello',
      live: { version: 1, targets: [{ deployment: deployment.id, weight: 100 }] },
      deployments: [deployment.id],
      sandboxes: 1,
      runtime: 'node:26',
      access: 'public',
    });
    expect(await gateway.json('/v1/functions')).toEqual({ functions: [record] });
  });

  it('answers FUNCTION_NOT_FOUND for a name nothing was deployed under', async () => {
    for (const path of [
      '/v1/functions/nobody',
      '/v1/functions/nobody/deployments',
      '/v1/functions/nobody/logs',
    ]) {
      const response = await gateway.request(path);
      expect([path, response.status, ((await response.json()) as { code: string }).code]).toEqual([
        path,
        404,
        'FUNCTION_NOT_FOUND',
      ]);
    }
  });

  it('removes a function once; the second time there is none', async () => {
    const { id } = await deployLive('hello');
    const remove = () => gateway.request('/v1/functions/hello', { method: 'DELETE' });
    expect((await remove()).status).toBe(204);
    expect((await remove()).status).toBe(404);
    expect((await gateway.request(`/v1/deployments/${id}`)).status).toBe(404);
  });
});

it('removes the images of a removed function from the registry', async () => {
  const registry = openRegistry({ url: gateway.registry.url });
  const repository = functionRepository('pictured');
  const config = await registry.pushBlob(repository, Buffer.from('{}'));
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config.digest, size: 2 },
    layers: [],
  };
  const digest = await registry.putManifest(repository, Buffer.from(JSON.stringify(manifest)), mediaType);
  const deployment = createDeployment('pictured');
  const image = { ...deployment.image, digest, reference: `${repository}@${digest}` };
  await catalog.putDeployment({ ...deployment, image });
  await catalog.setAlias('pictured', 'live', [{ deployment: deployment.id, weight: 100 }]);
  expect(await registry.headManifest(repository, digest)).toBe(digest);
  expect((await gateway.request('/v1/functions/pictured', { method: 'DELETE' })).status).toBe(204);
  expect(await registry.headManifest(repository, digest)).toBeUndefined();
  await registry.close();
});

describe('deployments', () => {
  it('lists the newest first and shows one', async () => {
    const old = createDeployment('hello', { createdMs: 1 });
    await catalog.putDeployment(old);
    const young = await deployLive('hello');
    expect(await gateway.json('/v1/functions/hello/deployments')).toEqual({ deployments: [young, old] });
    expect(await gateway.json(`/v1/deployments/${old.id}`)).toEqual(old);
  });
});

describe('aliases', () => {
  it('moves by compare-and-set: the one who saw an old version loses', async () => {
    const one = await deployLive('hello');
    const two = createDeployment('hello');
    await catalog.putDeployment(two);
    const targets = [
      { deployment: two.id, weight: 10 },
      { deployment: one.id, weight: 90 },
    ];
    const moved = await put('/v1/functions/hello/aliases/live', { targets, version: 1 });
    expect(moved.status).toBe(200);
    expect(Alias.parse(await moved.json())).toMatchObject({ version: 2, targets });
    const late = await put('/v1/functions/hello/aliases/live', { targets, version: 1 });
    expect(late.status).toBe(409);
    expect(await late.json()).toMatchObject({ code: 'CONFLICT', details: { version: 2 } });
  });

  it.each([
    ['an unknown function', '/v1/functions/nobody/aliases/live', 'FUNCTION_NOT_FOUND', {}],
    ['a bad alias name', '/v1/functions/hello/aliases/Live', 'INVALID_NAME', {}],
    ['weights below 100', '/v1/functions/hello/aliases/live', 'BAD_REQUEST', { weight: 99 }],
    ['a weight that is no number', '/v1/functions/hello/aliases/live', 'BAD_REQUEST', { weight: 'all' }],
    ['a foreign deployment', '/v1/functions/hello/aliases/live', 'NOT_FOUND', { deployment: 'dep-x' }],
  ])('refuses %s', async (_what, path, code, change) => {
    const { id } = await deployLive('hello');
    const response = await put(path, { targets: [{ deployment: id, weight: 100, ...change }] });
    expect(await response.json()).toMatchObject({ code });
    expect((await catalog.resolveRoute('hello'))?.alias.version).toBe(1);
  });

  it('refuses a field it does not know', async () => {
    const { id } = await deployLive('hello');
    const response = await put('/v1/functions/hello/aliases/live', {
      targets: [{ deployment: id, weight: 100 }],
      expectedVersion: 1,
    });
    expect(await response.json()).toMatchObject({
      code: 'BAD_REQUEST',
      detail: expect.stringContaining('expectedVersion'),
    });
  });
});
