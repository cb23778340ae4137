import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { fast } from '../../helpers/keys.ts';
import type { BuildRecord, StatsSnapshot, TokenRecord } from '../../../sdk/protocol/api.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { startGateway, type TestGateway } from '../../helpers/gateway.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway();
  const catalog = openCatalog(gateway.durableRedis);
  const deployment = createDeployment('hello');
  await catalog.putDeployment(deployment);
  await catalog.setAlias('hello', 'live', [{ deployment: deployment.id, weight: 100 }]);
  await gateway.fastRedis.zadd(fast.live(deployment.id), Date.now() + 60_000, 'r|e|s');
});
afterAll(() => gateway?.close());

test('counts calls and errors of every function, with sandboxes and waiting calls', async () => {
  // Nobody answers: the call waits for a slot, and then ends.
  const controller = new AbortController();
  const call = gateway.request('/f/hello', { signal: controller.signal }).catch(() => undefined);
  const waiting = await waitFor('the call to wait', async () => {
    const { functions } = await gateway.json<StatsSnapshot>('/v1/stats');
    return functions.find(({ name, waiting: count }) => name === 'hello' && count === 1);
  });
  expect(waiting.sandboxes).toBe(1);
  await waitFor(
    'the gateway to tell',
    async () => (await gateway.json<StatsSnapshot>('/v1/stats')).inFlight === 1,
  );
  controller.abort();
  await call;
  await waitFor('its end', async () => (await gateway.json<StatsSnapshot>('/v1/stats')).inFlight === 0);
});

test('adds up what several gateways tell, and leaves out those that are silent', async () => {
  const told = (age: number, calls: number): string =>
    JSON.stringify({
      atMs: Date.now() - age,
      inFlight: 2,
      functions: { other: { calls, errors: 1, cold: 0, ms: { 50: calls } } },
    });
  await gateway.fastRedis.hset(fast.stats, {
    'gw-one': told(0, 30),
    'gw-two': told(500, 20),
    'gw-dead': told(60_000, 99),
  });
  const snapshot = await waitFor('the sum', async () => {
    const read = await gateway.json<StatsSnapshot>('/v1/stats');
    return read.functions.some(({ name, calls }) => name === 'other' && calls === 50) && read;
  });
  expect(snapshot).toMatchObject({ windowMs: 10_000, gateways: 3, inFlight: 4 });
  // The call of the test before may still be in the window.
  expect(snapshot.callsPerSecond).toBeCloseTo(5, 0);
  expect(snapshot.functions[0]).toMatchObject({ name: 'other', calls: 50, p50Ms: expect.any(Number) });
  await waitFor(
    'the dead one to be removed',
    async () => (await gateway.fastRedis.hexists(fast.stats, 'gw-dead')) === 0,
  );
});

test('tells the same every second as server-sent events', async () => {
  const response = await gateway.request('/v1/stats/events', { signal: AbortSignal.timeout(10_000) });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  let text = '';
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString();
    if (text.split('\n\n').length > 2) break;
  }
  const [first, second] = text
    .split('\n\n')
    .map((event) => JSON.parse(event.replace(/^data: /, '') || '{}') as StatsSnapshot);
  expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThan(500);
  expect((await gateway.request('/v1/stats/events', { method: 'HEAD' })).status).toBe(405);
});

test('lists builds, newest first, of one function or of all', async () => {
  const upload = await gateway.json<{ digest: string; bytes: number }>('/v1/uploads', {
    method: 'POST',
    body: 'source',
    headers: { 'content-type': 'application/x-tar' },
  });
  const order = async (name: string): Promise<string> =>
    (
      await gateway.json<{ build: string }>(`/v1/functions/${name}/deployments`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ source: upload }),
      })
    ).build;
  const ids = [await order('one'), await order('two'), await order('one')];
  const list = async (query: string): Promise<string[]> =>
    (await gateway.json<{ builds: BuildRecord[] }>(`/v1/builds${query}`)).builds.map(({ id }) => id);
  expect((await list('')).toSorted()).toEqual(ids.toSorted());
  expect((await list('?function=one')).toSorted()).toEqual([ids[0] as string, ids[2] as string].toSorted());
  expect((await list('?limit=1')).length).toBe(1);
  expect((await gateway.request('/v1/builds?limit=1000')).status).toBe(400);
});

test('says whose token a request shows', async () => {
  const me = await gateway.json<TokenRecord>('/v1/whoami');
  expect(me).toMatchObject({ name: 'admin', scopes: ['admin'] });
  expect(JSON.stringify(me)).not.toContain(gateway.adminToken);
  expect((await gateway.request('/v1/whoami', { token: null })).status).toBe(401);
});
