import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

const server = useServer();
let url: string;

beforeAll(async () => {
  // One sandbox, so that its memory counts all calls.
  url = await server.deploy('events-keys', functionFixture('events.ts'), { max: 1, timeout: '5s' });
});

const call = (path: string, key: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`${url}${path}`, {
    method: 'POST',
    ...init,
    headers: { ...(init.headers as Record<string, string>), 'idempotency-key': key },
  });

async function countOf(key: string): Promise<number> {
  const response = await fetch(`${url}/count?key=${key}`);
  return ((await response.json()) as { calls: number }).calls - 1;
}

test('the same key and request gives the first answer again, without a second run', async () => {
  const key = randomUUID();
  const first = await call(`/count?key=${key}`, key, { body: 'a' });
  const second = await call(`/count?key=${key}`, key, { body: 'a' });
  expect(await first.json()).toEqual({ key, calls: 1 });
  expect(await second.json()).toEqual({ key, calls: 1 });
  expect(first.headers.get('idempotent-replayed')).toBeNull();
  expect(second.headers.get('idempotent-replayed')).toBe('true');
  expect(second.headers.get('skiff-invocation-id')).toBe(first.headers.get('skiff-invocation-id'));
  expect(await countOf(key)).toBe(1);
});

test('the same key with another body, path or method is 422', async () => {
  const key = randomUUID();
  await call(`/count?key=${key}`, key, { body: 'a' });
  for (const request of [
    call(`/count?key=${key}`, key, { body: 'b' }),
    call(`/count?key=${key}&x=1`, key, { body: 'a' }),
    call(`/count?key=${key}`, key, { body: 'a', method: 'PUT' }),
    call(`/count?key=${key}`, key, { body: 'a', headers: { prefer: 'respond-async' } }),
  ]) {
    const response = await request;
    expect([response.status, await response.json()]).toMatchObject([422, { code: 'IDEMPOTENCY_MISMATCH' }]);
  }
  expect(await countOf(key)).toBe(1);
});

test('fifty at once run once and all get the answer', async () => {
  const key = randomUUID();
  const responses = await Promise.all(
    Array.from({ length: 50 }, () => call(`/count?key=${key}&ms=300`, key, { body: 'a' })),
  );
  const answers = await Promise.all(responses.map((response) => response.json()));
  expect(responses.map(({ status }) => status)).toEqual(responses.map(() => 200));
  expect(answers).toEqual(answers.map(() => ({ key, calls: 1 })));
  expect(await countOf(key)).toBe(1);
});

test('a client that leaves may come back for the answer', async () => {
  const key = randomUUID();
  const path = `/count?key=${key}&ms=700`;
  await expect(call(path, key, { signal: AbortSignal.timeout(200) })).rejects.toThrow();
  const response = await call(path, key);
  expect(await response.json()).toEqual({ key, calls: 1 });
  expect(await countOf(key)).toBe(1);
});

test('failures of the function are answers, too: they are not run again', async () => {
  const key = randomUUID();
  const path = `/count?key=${key}&status=418`;
  expect((await call(path, key)).status).toBe(418);
  expect((await call(path, key)).status).toBe(418);
  const thrown = randomUUID();
  const [first, second] = [await call('/throw', thrown), await call('/throw', thrown)];
  expect([first.status, second.status]).toEqual([500, 500]);
  expect(second.headers.get('skiff-cause')).toBe('handler_error');
  expect(second.headers.get('skiff-invocation-id')).toBe(first.headers.get('skiff-invocation-id'));
});

test('bodies of more than one frame, large answers and empty ones pass whole', async () => {
  const key = randomUUID();
  const sized = await call('/size', key, { body: Buffer.alloc(700_000, 1) });
  expect(await sized.json()).toEqual({ bytes: 700_000 });
  const large = randomUUID();
  for (let i = 0; i < 2; i++)
    expect((await (await call('/large?bytes=300000', large)).text()).length).toBe(300_000);
  const tooLarge = await call('/size', randomUUID(), { body: Buffer.alloc(2_000_000) });
  expect(tooLarge.status).toBe(413);
});

test('a key that is no key is 400, without a run', async () => {
  const response = await call('/count?key=x', 'a b');
  expect([response.status, await response.json()]).toMatchObject([400, { code: 'BAD_REQUEST' }]);
});
