import { beforeAll, expect, test } from 'vitest';
import type { InvocationRecord } from '../../../sdk/protocol/events.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

const server = useServer();
const NAME = 'events-async';
let url: string;

beforeAll(async () => {
  url = await server.deploy(NAME, functionFixture('events.ts'), { async: { retries: 2, backoff: '100ms' } });
});

async function send(path: string, init: RequestInit = {}) {
  const headers = new Headers(init.headers);
  headers.set('prefer', 'respond-async');
  const response = await fetch(`${url}${path}`, { method: 'POST', ...init, headers });
  return { response, location: response.headers.get('location') ?? '' };
}

async function follow(location: string): Promise<InvocationRecord> {
  const response = await fetch(`${server.url}${location}?waitMs=20000`);
  expect(response.status).toBe(200);
  return (await response.json()) as InvocationRecord;
}

test('answers 202 with a location, runs the function once and keeps what it answered', async () => {
  const { response, location } = await send('/hello?a=1', { body: 'the body', headers: { 'x-mine': 'yes' } });
  expect(response.status).toBe(202);
  expect(response.headers.get('preference-applied')).toBe('respond-async');
  const { id } = (await response.json()) as { id: string };
  expect(location).toBe(`/v1/invocations/${id}`);
  const record = await follow(location);
  expect(record).toMatchObject({
    id,
    state: 'succeeded',
    functionName: NAME,
    attempts: [{ number: 1, outcome: 'ok' }],
  });
  const result = await fetch(`${server.url}${location}/result`);
  expect(result.status).toBe(200);
  expect(result.headers.get('x-from')).toBe('function');
  expect(await result.json()).toMatchObject({
    invocationId: id,
    attempt: 1,
    path: '/hello?a=1',
    body: 'the body',
    headers: { 'x-mine': 'yes', 'skiff-invocation-id': id, 'skiff-attempt': '1' },
  });
});

test('repeats what failed, with a larger attempt, until it succeeds', async () => {
  const { location } = await send('/fail-twice');
  const record = await follow(location);
  expect(record).toMatchObject({
    state: 'succeeded',
    counted: 2,
    attempts: [{ outcome: 'function_error', status: 500 }, { outcome: 'function_error' }, { outcome: 'ok' }],
  });
  expect(record.attempts.map(({ fence }) => fence)).toEqual([1, 2, 3]);
});

test('what fails every time is dead after its tries and waits in the dead-letter queue', async () => {
  const { location } = await send('/fail');
  const record = await follow(location);
  expect(record).toMatchObject({ state: 'dead', reason: 'retries_exhausted', counted: 3 });
  const { invocations } = (await server.client.dead({ function: NAME })) as {
    invocations: InvocationRecord[];
  };
  expect(invocations.map(({ id }) => id)).toContain(record.id);
});

test('a function that says that repeating cannot help is obeyed at once', async () => {
  const record = await follow((await send('/reject')).location);
  expect(record).toMatchObject({
    state: 'dead',
    reason: 'rejected',
    attempts: [{ outcome: 'rejected', status: 422 }],
  });
});

test("the function's Retry-After decides when it is tried again", async () => {
  const record = await follow((await send('/later')).location);
  expect(record.state).toBe('succeeded');
  const [first, second] = record.attempts;
  expect((second?.startedMs ?? 0) - (first?.endedMs ?? 0)).toBeGreaterThanOrEqual(1_000);
});

test('a function that crashes its sandbox is tried again and then dead, with the reason', async () => {
  const record = await follow((await send('/crash')).location);
  expect(record).toMatchObject({ state: 'dead', reason: 'retries_exhausted' });
  expect(record.attempts.map(({ outcome }) => outcome)).toEqual(['crashed', 'crashed', 'crashed']);
});

test('a body beyond what Redis holds goes by reference, and so does a large result', async () => {
  const { location } = await send('/size', { body: Buffer.alloc(3_000_000, 1) });
  expect(await follow(location)).toMatchObject({ state: 'succeeded', bodyBytes: 3_000_000 });
  const sized = await fetch(`${server.url}${location}/result`);
  expect(await sized.json()).toEqual({ bytes: 3_000_000 });
  const large = await send('/large?bytes=900000');
  expect(await follow(large.location)).toMatchObject({ state: 'succeeded' });
  const result = await fetch(`${server.url}${large.location}/result`);
  expect((await result.text()).length).toBe(900_000);
});

test('a delayed event runs when its time has come, not before', async () => {
  const sentMs = Date.now();
  const { response, location } = await send('/', { headers: { 'skiff-delay': '1500ms' } });
  expect(await response.json()).toMatchObject({ state: 'delayed' });
  const record = await follow(location);
  expect((record.attempts[0]?.startedMs ?? 0) - sentMs).toBeGreaterThanOrEqual(1_450);
});

test("with wait the answer is the function's own when it comes in time", async () => {
  const response = await fetch(`${url}/`, { headers: { prefer: 'respond-async, wait=20' } });
  expect(response.status).toBe(200);
  expect(response.headers.get('x-from')).toBe('function');
  const late = await fetch(`${url}/slow?ms=3000`, { headers: { prefer: 'respond-async, wait=1' } });
  expect(late.status).toBe(202);
});

test('cancelling stops what runs and keeps what waits from running', async () => {
  const running = await send('/slow?ms=20000');
  await expect
    .poll(
      async () =>
        ((await (await fetch(`${server.url}${running.location}`)).json()) as InvocationRecord).state,
    )
    .toBe('running');
  const waiting = await send('/', { headers: { 'skiff-delay': '1h' } });
  for (const { location } of [running, waiting]) {
    const response = await fetch(`${server.url}${location}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${server.token}` },
    });
    expect(await response.json()).toMatchObject({ state: 'cancelled' });
  }
  const result = await fetch(`${server.url}${running.location}/result`);
  expect(result.status).toBe(404);
});

test('CloudEvents are taken in all three modes, come in binary mode, and one sent twice is one event', async () => {
  const attributes = { specversion: '1.0', source: '/tests', type: 'test.sent', subject: 'a b' };
  const read = async (id: string) => {
    await server.client.waitFor(id, { waitMs: 20_000 });
    return (await (await server.client.result(id)).json()) as {
      headers: Record<string, string>;
      body: string;
    };
  };
  const structured = { 'content-type': 'application/cloudevents+json' };
  const event = JSON.stringify({ ...attributes, id: 'structured', data: { n: 1 } });
  const first = (await (await send('/', { headers: structured, body: event })).response.json()) as {
    id: string;
  };
  expect(await read(first.id)).toMatchObject({
    body: '{"n":1}',
    headers: { 'ce-id': 'structured', 'ce-subject': 'a%20b', 'content-type': 'application/json' },
  });
  const again = (await (await send('/', { headers: structured, body: event })).response.json()) as {
    id: string;
  };
  expect(again.id).toBe(first.id);
  expect(await server.client.invocation(first.id)).toMatchObject({ origin: 'cloudevent' });

  const ce = { 'ce-specversion': '1.0', 'ce-source': '/tests', 'ce-type': 't', 'ce-id': 'binary' };
  const second = await send('/', { headers: { ...ce, 'content-type': 'text/plain' }, body: 'hi' });
  const { id } = (await second.response.json()) as { id: string };
  expect(await read(id)).toMatchObject({ body: 'hi', headers: { 'ce-id': 'binary' } });

  // A batch has no other meaning, so senders that know no preferences can send one.
  const batch = await fetch(`${url}/`, {
    method: 'POST',
    headers: { 'content-type': 'application/cloudevents-batch+json' },
    body: JSON.stringify([1, 2, 3].map((n) => ({ ...attributes, id: `batch-${n}`, data: n }))),
  });
  expect(batch.status).toBe(202);
  const { events } = (await batch.json()) as { events: { id: string }[] };
  expect(await Promise.all(events.map(async (each) => (await read(each.id)).body))).toEqual(['1', '2', '3']);
  const refused = await fetch(`${url}/`, {
    method: 'POST',
    headers: { 'content-type': 'application/cloudevents-batch+json' },
    body: '[{"id":"1"}]',
  });
  expect([refused.status, await refused.text()]).toEqual([
    400,
    expect.stringContaining('event 1 of the batch'),
  ]);
});

test('a URL with a deployment is for that deployment, also when another one is live', async () => {
  const name = 'events-pinned';
  const old = await server.deploy(name, functionFixture('events.ts'));
  const { live } = await server.client.get(name);
  const pinned = `${old}@${live?.targets[0]?.deployment}`;
  await server.deploy(name, functionFixture('echo.ts'));
  const response = await fetch(`${pinned}/`, { method: 'POST', headers: { prefer: 'respond-async' } });
  expect(response.status).toBe(202);
  const record = await follow(response.headers.get('location') ?? '');
  expect(pinned).toContain(record.attempts[0]?.deployment);
  const missing = await fetch(`${old}@dep-00000000000000000000000000/`, {
    method: 'POST',
    headers: { prefer: 'respond-async' },
  });
  expect(missing.status).toBe(404);
});
