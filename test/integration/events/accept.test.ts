/** Accepting events at a real gateway, with nobody to run them. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { durable, events } from '../../helpers/keys.ts';
import { EventStore } from '../../../infra/events/store.ts';
import type { EventReceipt, InvocationRecord } from '../../../sdk/protocol/events.ts';
import type { FunctionConfigInput } from '../../../sdk/protocol/manifest.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { startGateway, type TestGateway } from '../../helpers/gateway.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
let store: EventStore;

beforeAll(async () => {
  gateway = await startGateway();
  store = new EventStore(gateway.durableRedis);
  await add('hello');
  await add('secret', { access: 'private' });
  await add('small', { maxBody: 10 });
});
afterAll(() => gateway?.close());
beforeEach(async () => {
  await waitFor('the store', async () => (await gateway.request('/v1/events/stats')).ok);
});

async function add(name: string, config: FunctionConfigInput = {}): Promise<void> {
  const catalog = openCatalog(gateway.durableRedis);
  const deployment = createDeployment(name, { config });
  await catalog.putDeployment(deployment);
  await catalog.setAlias(name, 'live', [{ deployment: deployment.id, weight: 100 }]);
}

const send = (path: string, init: RequestInit & { token?: string | null } = {}): Promise<Response> =>
  gateway.request(path, {
    method: 'POST',
    token: null,
    ...init,
    headers: { prefer: 'respond-async', ...(init.headers as Record<string, string>) },
  });

async function accepted(path: string, init: RequestInit = {}): Promise<string> {
  const response = await send(path, init);
  expect(response.status).toBe(202);
  return ((await response.json()) as { id: string }).id;
}

async function problem(response: Response) {
  return (await response.json()) as { code: string; detail: string; maybeAccepted?: boolean };
}

const record = (id: string, query = ''): Promise<InvocationRecord> =>
  gateway.json(`/v1/invocations/${id}${query}`);

test('answers 202 with id, state and location, and stores exactly what was sent', async () => {
  const response = await send('/f/hello/a/b?c=1', {
    body: 'text',
    headers: { 'content-type': 'text/plain', 'x-mine': '1' },
  });
  const body = (await response.json()) as { id: string };
  expect(response.status).toBe(202);
  expect(body).toEqual({ id: body.id, state: 'ready', location: `/v1/invocations/${body.id}` });
  expect(response.headers.get('skiff-invocation-id')).toBe(body.id);
  const request = await store.getRequest(body.id);
  expect(request?.body.toString()).toBe('text');
  expect(request?.head).toMatchObject({ method: 'POST', url: `${gateway.url}/a/b?c=1` });
  expect(request?.head.headers).toContainEqual(['x-mine', '1']);
  expect(request?.head.headers.map(([name]) => name)).not.toContain('prefer');
});

test('the job of an accepted event lies in a shard queue under its id', async () => {
  const id = await accepted('/f/hello');
  const job = await waitFor('the job', async () => {
    const keys = await gateway.durableRedis.keys(`${durable.bullPrefix}:events-*:${id}-*`);
    return keys[0];
  });
  expect(await gateway.durableRedis.hget(job, 'data')).toBe(JSON.stringify({ ids: [id] }));
});

test('refuses what cannot be run, before anything is written', async () => {
  const before = await store.countUnfinished();
  expect((await send('/f/nobody')).status).toBe(404);
  expect((await send('/f/secret')).status).toBe(401);
  expect((await send('/f/small', { body: 'more than ten bytes' })).status).toBe(413);
  expect((await send('/f/hello', { headers: { 'skiff-call-depth': '99' } })).status).toBe(508);
  for (const headers of [
    { 'skiff-delay': 'soon' },
    { 'skiff-priority': 'urgent' },
    { 'idempotency-key': 'with space' },
    { 'skiff-max-age': '1000d' },
  ]) {
    const response = await send('/f/hello', { headers });
    expect([response.status, await problem(response)]).toMatchObject([400, { code: 'BAD_REQUEST' }]);
  }
  expect(await store.countUnfinished()).toBe(before);
});

test('a private function takes events with a token that may invoke', async () => {
  expect((await send('/f/secret', { token: gateway.adminToken })).status).toBe(202);
});

test('one idempotency key is one invocation, also a hundred times at once', async () => {
  const headers = { 'idempotency-key': 'order-1' };
  const ids = await Promise.all(
    Array.from({ length: 100 }, () => accepted('/f/hello', { headers, body: 'a' })),
  );
  expect(new Set(ids).size).toBe(1);
  expect(await accepted('/f/hello', { headers, body: 'a' })).toBe(ids[0]);
  const other = await send('/f/hello', { headers, body: 'b' });
  expect([other.status, await problem(other)]).toMatchObject([422, { code: 'IDEMPOTENCY_MISMATCH' }]);
  await add('hello-2');
  expect(await accepted('/f/hello-2', { headers, body: 'b' })).not.toBe(ids[0]);
});

test('a batch has a receipt or an error for each event, in order', async () => {
  const response = await gateway.request('/v1/events', {
    method: 'POST',
    body: JSON.stringify([
      { function: 'hello', body: { a: 1 } },
      { function: 'nobody' },
      { function: 'hello', path: '/x?y=1', method: 'PUT', bodyBase64: 'AAEC', priority: 'high', delay: '1h' },
    ]),
  });
  expect(response.status).toBe(202);
  const { events: receipts } = (await response.json()) as { events: EventReceipt[] };
  expect(receipts).toMatchObject([
    { state: 'ready' },
    { error: { code: 'FUNCTION_NOT_FOUND' } },
    { state: 'delayed' },
  ]);
  const [first, , third] = receipts as { id: string }[];
  expect((await store.getRequest(first?.id ?? ''))?.body.toString()).toBe('{"a":1}');
  expect(await record(third?.id ?? '')).toMatchObject({ method: 'PUT', priority: 'high', bodyBytes: 3 });
});

test('a batch that is not one is refused with the place of the mistake', async () => {
  const response = await gateway.request('/v1/events', {
    method: 'POST',
    body: '[{"function":"hello","delay":"x"}]',
  });
  expect([response.status, await problem(response)]).toMatchObject([
    400,
    { detail: expect.stringContaining('0.delay') },
  ]);
});

test('the id of a public function’s event is enough to read it, a private one needs a token', async () => {
  const open = await accepted('/f/hello');
  expect((await gateway.request(`/v1/invocations/${open}`, { token: null })).status).toBe(200);
  const response = await send('/f/secret', { token: gateway.adminToken });
  const { id } = (await response.json()) as { id: string };
  expect((await gateway.request(`/v1/invocations/${id}`, { token: null })).status).toBe(401);
  expect((await gateway.request(`/v1/invocations/${id}`)).status).toBe(200);
  expect((await gateway.request(`/v1/invocations/${id}`, { method: 'DELETE', token: null })).status).toBe(
    401,
  );
});

test('what never was is 404, what was long ago is 410', async () => {
  const never = await gateway.request('/v1/invocations/inv-none');
  expect(never.status).toBe(404);
  const ancient = await gateway.request(`/v1/invocations/inv-01abcdefgh${'0'.repeat(16)}`);
  expect([ancient.status, await problem(ancient)]).toMatchObject([410, { code: 'GONE' }]);
});

test('a long poll answers when the invocation ends, and after its time if it does not', async () => {
  const id = await accepted('/f/hello');
  const startedMs = performance.now();
  expect(await record(id, '?waitMs=300')).toMatchObject({ state: 'ready' });
  expect(performance.now() - startedMs).toBeGreaterThan(280);
  const polled = record(id, '?waitMs=20000');
  await gateway.request(`/v1/invocations/${id}`, { method: 'DELETE' });
  expect(await polled).toMatchObject({ state: 'cancelled', reason: 'by_request' });
  expect(performance.now() - startedMs).toBeLessThan(5_000);
});

test('server-sent events show every change and end with the invocation', async () => {
  const id = await accepted('/f/hello');
  const response = await gateway.request(`/v1/invocations/${id}`, {
    headers: { accept: 'text/event-stream' },
  });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  const text = response.text();
  await gateway.request(`/v1/invocations/${id}`, { method: 'DELETE' });
  const states = [...(await text).matchAll(/^event: state\ndata: (.*)$/gm)].map(
    ([, json]) => (JSON.parse(json as string) as InvocationRecord).state,
  );
  expect(states.at(-1)).toBe('cancelled');
});

test('the dead-letter queue is listed by function, replayed and purged', async () => {
  const ids = [
    await accepted('/f/hello', { headers: { 'skiff-max-age': '1ms' } }),
    await accepted('/f/secret', {
      headers: { authorization: `Bearer ${gateway.adminToken}`, 'skiff-max-age': '1ms' },
    }),
  ];
  await waitFor('their age', async () => {
    await store.expire(100);
    return (await store.getState(ids[1] as string)) === 'expired';
  });
  const list = (query = '') =>
    gateway.json<{ invocations: InvocationRecord[]; total: number }>(`/v1/dlq${query}`);
  expect((await list()).invocations.map(({ id }) => id).sort()).toEqual([...ids].sort());
  expect((await list('?function=hello')).invocations).toMatchObject([{ id: ids[0], reason: 'max_age' }]);
  const post = (path: string, body: unknown) =>
    gateway.request(path, { method: 'POST', body: JSON.stringify(body) });
  expect((await post('/v1/dlq/replay', {})).status).toBe(400);
  expect(await (await post('/v1/dlq/replay', { function: 'hello' })).json()).toEqual({
    replayed: [{ id: ids[0], state: 'ready' }],
  });
  expect(await record(ids[0] as string)).toMatchObject({ state: 'ready', replays: 1 });
  expect(await (await post('/v1/dlq/purge', { all: true })).json()).toEqual({ purged: 1 });
  expect((await gateway.request(`/v1/invocations/${ids[1]}`)).status).toBe(404);
});

test('nothing is acknowledged while the store does not fsync every write', async () => {
  await gateway.durableRedis.config('SET', 'appendfsync', 'everysec');
  const refused = await waitFor('the next check', async () => {
    const response = await send('/f/hello');
    return response.status === 503 && problem(response);
  });
  expect(refused).toMatchObject({
    code: 'NOT_DURABLE',
    maybeAccepted: false,
    detail: expect.stringContaining('everysec'),
  });
  await gateway.durableRedis.config('SET', 'appendfsync', 'always');
  await waitFor('acceptance', async () => (await send('/f/hello')).status === 202);
});

test('a store that is away is said at once, and events are accepted again when it is back', async () => {
  const known = await accepted('/f/hello');
  await gateway.durable.stop();
  const startedMs = performance.now();
  const response = await send('/f/hello');
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toBe('1');
  expect(performance.now() - startedMs).toBeLessThan(2_500);
  await gateway.durable.start();
  await waitFor('acceptance', async () => (await send('/f/hello')).status === 202);
  expect(await waitFor('the test’s connection', () => store.getState(known).catch(() => undefined))).toBe(
    'ready',
  );
});

test('an emptied store is noticed: promises were made in another one', async () => {
  await waitFor('the test’s connection', () => gateway.durableRedis.flushall().catch(() => undefined));
  await add('hello');
  const response = await send('/f/hello');
  expect([response.status, await problem(response)]).toMatchObject([
    503,
    { code: 'NOT_DURABLE', maybeAccepted: false },
  ]);
  expect(await gateway.durableRedis.exists(events.expiry)).toBe(0);
  expect(gateway.output()).toContain('events are refused');
});
