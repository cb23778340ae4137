/** Functions, aliases, tokens and health against a real gateway. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { type Client, createClient } from '../../../sdk/client/index.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { startGateway, type TestGateway } from '../../helpers/gateway.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
let client: Client;
/** Three deployments of `hello`, oldest first; the last is live. */
let ids: string[];

beforeAll(async () => {
  gateway = await startGateway();
  client = createClient({ url: gateway.url, token: gateway.adminToken, retry: { baseMs: 1 } });
});
afterAll(() => gateway?.close());

beforeEach(async () => {
  const catalog = openCatalog(gateway.durableRedis);
  await catalog.removeFunction('hello').catch(() => {});
  const nowMs = Date.now();
  const deployments = [2, 1, 0].map((age) => createDeployment('hello', { createdMs: nowMs - age }));
  for (const deployment of deployments) await catalog.putDeployment(deployment);
  ids = deployments.map(({ id }) => id);
  await catalog.setAlias('hello', 'live', [{ deployment: ids[2] as string, weight: 100 }]);
});

const traffic = async () => (await client.get('hello')).live?.targets;

test('lists, shows and removes functions', async () => {
  expect((await client.list()).map(({ name }) => name)).toEqual(['hello']);
  expect((await client.deployments('hello')).map(({ id }) => id)).toEqual(ids.toReversed());
  expect((await client.deployment(ids[0] as string)).functionName).toBe('hello');
  await client.remove('hello');
  await expect(client.get('hello')).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND', status: 404 });
});

test('rolls back one deployment at a time, and says so when there is none before', async () => {
  await client.rollback('hello');
  expect(await traffic()).toEqual([{ deployment: ids[1], weight: 100 }]);
  await client.rollback('hello');
  expect(await traffic()).toEqual([{ deployment: ids[0], weight: 100 }]);
  await expect(client.rollback('hello')).rejects.toMatchObject({
    detail: expect.stringContaining('no deployment before'),
  });
});

test('promotes the newest, shares traffic, and a rollback ends the canary', async () => {
  await client.rollback('hello', { to: ids[0] });
  await client.promote('hello', { percent: 10 });
  expect(await traffic()).toEqual([
    { deployment: ids[2], weight: 10 },
    { deployment: ids[0], weight: 90 },
  ]);
  await client.promote('hello', { percent: 50 });
  expect((await traffic())?.map(({ weight }) => weight)).toEqual([50, 50]);
  await client.rollback('hello');
  expect(await traffic()).toEqual([{ deployment: ids[0], weight: 100 }]);
  await client.promote('hello');
  expect(await traffic()).toEqual([{ deployment: ids[2], weight: 100 }]);
});

test('refuses shares that cannot be, before anything is sent', async () => {
  await expect(client.promote('hello', { percent: 0 })).rejects.toMatchObject({
    code: 'BAD_REQUEST',
    status: 0,
  });
  await expect(client.promote('hello', { percent: 50 })).rejects.toMatchObject({
    code: 'CONFLICT',
    status: 0,
  });
  expect(await traffic()).toEqual([{ deployment: ids[2], weight: 100 }]);
});

test('an alias that somebody moved meanwhile is a conflict', async () => {
  const { live } = await client.get('hello');
  const target = [{ deployment: ids[0] as string, weight: 100 }];
  await client.setAlias('hello', 'live', target, { version: live?.version });
  await expect(client.setAlias('hello', 'live', target, { version: live?.version })).rejects.toMatchObject({
    code: 'CONFLICT',
    status: 409,
  });
});

test('makes, lists and revokes tokens; a token of a narrow scope is refused what is not its own', async () => {
  const { token, record } = await client.tokens.create({ name: 'ci', scopes: ['read'] });
  const reader = createClient({ url: gateway.url, token });
  expect((await reader.list()).length).toBe(1);
  await expect(reader.remove('hello')).rejects.toMatchObject({ code: 'FORBIDDEN', status: 403 });
  expect((await client.tokens.list()).map(({ id }) => id)).toContain(record.id);
  await client.tokens.remove(record.id);
  // A gateway drops what it cached when it hears of the revocation, a moment after it is answered.
  const refusal = await waitFor('the token is void', () =>
    reader.list().then(
      () => false as const,
      (error: unknown) => error,
    ),
  );
  expect(refusal).toMatchObject({ code: 'UNAUTHENTICATED', status: 401 });
});

test('tells what stands in the way of work', async () => {
  const health = await client.health();
  expect(health.ready).toBe(false);
  expect(health.checks['runner']).toMatchObject({ ok: false });
  expect((await client.df()).length).toBeGreaterThan(0);
  expect(await client.nodes()).toEqual([]);
});

test('uploads a source and gets the digest of its bytes', async () => {
  const { packSource } = await import('../../../sdk/cli/source/pack.ts');
  const upload = await client.upload(() => packSource([]));
  expect(upload).toEqual({ digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/), bytes: 1024 });
});
