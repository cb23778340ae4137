import { beforeAll, expect, test } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let url: string;

beforeAll(async () => {
  await server.deploy('callee', functionFixture('callee.ts'), { access: 'private' });
  url = await server.deploy('caller', functionFixture('caller.ts'), {
    calls: ['target=callee', 'other=callee', 'self=caller', 'gone'],
    timeout: '3s',
    max: 20,
  });
});

const get = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`${url}${path}`, init);

test('ctx.invoke reaches a private function that is declared, and says who calls', async () => {
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  const response = await get('/invoke', { headers: { traceparent } });
  expect(await response.json()).toEqual({ from: 'caller' });
  const header = (name: string): string | null => response.headers.get(name);
  expect(header('x-url')).toBe('http://callee.skiff/echo?q=1');
  expect([header('x-method'), header('x-caller'), header('x-depth'), header('x-own')]).toEqual([
    'POST',
    'caller',
    '1',
    'yes',
  ]);
  expect(header('x-trace')).toMatch(/^00-a{32}-/);
  expect(header('content-type')).toBe('application/json');
  // No longer than its caller has, whatever its own time-out of 30 s.
  expect(Number(header('x-remaining'))).toBeLessThanOrEqual(3_000);
  expect((await fetch(`${server.url}/f/callee`)).status).toBe(401);
});

test('fetch works with the name, streams bodies both ways, and large ones arrive unchanged', async () => {
  const body = Buffer.alloc(3_000_000, '0123456789');
  const response = await get('/fetch', { method: 'POST', body });
  expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
  expect(response.headers.get('x-method')).toBe('POST');
  expect((await get('/alias')).headers.get('x-caller')).toBe('caller');
  const streamed = await get('/stream');
  const times: number[] = [];
  const started = performance.now();
  for await (const _ of streamed.body as unknown as AsyncIterable<Uint8Array>)
    times.push(performance.now() - started);
  expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(200);
});

test('answers come back as they are, also failures', async () => {
  for (const code of [200, 204, 404, 500]) expect((await get(`/status?code=${code}`)).status).toBe(code);
});

test('nothing is reached that is not declared, and the message says what to do', async () => {
  const failures = (await (await get('/refused')).json()) as string[];
  expect(failures[0]).toMatch(
    /^TypeError FORBIDDEN: function "caller" does not declare calls of "nobody" \(it declares target, other, self, gone\)/,
  );
  expect(failures[1]).toMatch(/^TypeError FORBIDDEN: .*"caller"/);
  expect(failures[2]).toMatch(/^TypeError FUNCTION_NOT_FOUND: there is no function "gone"/);
});

test('a call ends with its caller: by time, by its own signal, and when the client leaves', async () => {
  const aborted = (await (await get('/abort')).json()) as { failure: string };
  expect(aborted.failure).toBe('TimeoutError');
  const slow = await get('/slow?late');
  expect([slow.status, slow.headers.get('skiff-cause')]).toEqual([504, 'timeout']);
  const controller = new AbortController();
  const left = get('/slow?left', { signal: controller.signal }).catch(() => 'left');
  const said = (text: string): Promise<boolean> =>
    waitFor(`"${text}"`, async () =>
      (await server.logs('callee', { tail: 100 })).some(({ message }) => message === text),
    );
  await said('told to stop ?aborted');
  await said('told to stop ?late');
  await said('waiting ?left');
  controller.abort();
  expect(await left).toBe('left');
  await said('told to stop ?left');
});

test('loops are detected', async () => {
  const response = await get('/loop');
  expect(response.status).toBe(500);
  await waitFor('the word for it', async () =>
    (await server.logs('caller', { tail: 200 })).some(({ message }) =>
      message.includes('functions called each other 17 deep; the limit is 16'),
    ),
  );
});

test('work after the answer may call as well', async () => {
  expect(await (await get('/later')).text()).toBe('answered');
  await waitFor('the mark', async () =>
    (await server.logs('callee', { tail: 100 })).some(({ message }) => message === 'marked ?later=1'),
  );
});

test('an event\u2019s invocation calls like any other', async () => {
  const accepted = await get('/invoke', { headers: { prefer: 'respond-async' } });
  expect(accepted.status).toBe(202);
  const location = accepted.headers.get('location') ?? '';
  const result = await waitFor(
    'the result',
    async () => {
      const response = await fetch(new URL(`${location}/result`, server.url), {
        headers: { authorization: `Bearer ${server.token}` },
      });
      return response.status === 200 && response;
    },
    20_000,
  );
  expect(await result.json()).toEqual({ from: 'caller' });
});

test('a caller cannot pretend to be a function', async () => {
  const public_ = await server.deploy('callee-open', functionFixture('callee.ts'));
  const response = await fetch(`${public_}/echo`, { headers: { 'skiff-caller': 'admin' } });
  expect(response.headers.get('x-caller')).toBe('none');
});
