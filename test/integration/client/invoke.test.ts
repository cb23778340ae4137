/** Calling functions: the answer is handed on, and nothing that may have run is run again. */
import { afterEach, expect, test } from 'vitest';
import { defineFunction } from '../../../sdk/authoring/index.ts';
import { ClientError, createClient } from '../../../sdk/client/index.ts';
import { createProblem } from '../../../sdk/protocol/errors.ts';
import { answerJson, startHttpServer, type TestServer } from '../../helpers/http-server.ts';

let server: TestServer | undefined;
const connect = (url: string) => createClient({ url, token: 'secret', retry: { baseMs: 1, waitMsMax: 50 } });

afterEach(async () => {
  await server?.close();
  server = undefined;
});

test('sends method, path, query, headers and body, and returns the answer with any status', async () => {
  server = await startHttpServer((_request, response) => {
    response.writeHead(418, { 'x-kind': 'teapot' }).end('short and stout');
  });
  const response = await connect(server.url).fetch('tea', {
    path: 'pot/1?sugar=2',
    method: 'PUT',
    headers: { 'x-a': '1' },
    body: 'water',
  });
  expect([response.status, response.headers.get('x-kind'), await response.text()]).toEqual([
    418,
    'teapot',
    'short and stout',
  ]);
  const [seen] = server.seen;
  expect([seen?.method, seen?.url, seen?.headers['x-a'], seen?.body.toString()]).toEqual([
    'PUT',
    '/f/tea/pot/1?sugar=2',
    '1',
    'water',
  ]);
});

test('a redirect is the answer of the function', async () => {
  server = await startHttpServer(
    (_request, response) => void response.writeHead(302, { location: '/elsewhere' }).end(),
  );
  expect((await connect(server.url).fetch('move')).headers.get('location')).toBe('/elsewhere');
});

test('repeats what the platform says it did not run', async () => {
  let calls = 0;
  server = await startHttpServer((_request, response) => {
    if (++calls > 1) return void response.end('ran');
    answerJson(response, 503, createProblem('QUEUE_EXPIRED', 'full'), {
      'retry-after': '0',
      'skiff-cause': 'queue_expired',
    });
  });
  expect(await (await connect(server.url).fetch('busy', { body: 'x' })).text()).toBe('ran');
  expect(server.seen.map(({ body }) => body.toString())).toEqual(['x', 'x']);
});

test.each([
  ['a 503 of the function itself', { 'retry-after': '0' }],
  ['a crash', { 'retry-after': '0', 'skiff-cause': 'crash' }],
  ['an unknown outcome', { 'retry-after': '0', 'skiff-cause': 'platform' }],
])('does not repeat %s', async (_, headers) => {
  server = await startHttpServer((_request, response) => void response.writeHead(503, headers).end('no'));
  expect((await connect(server.url).fetch('once')).status).toBe(503);
  expect(server.seen.length).toBe(1);
});

test('does not repeat a GET whose connection was cut: the function may have run', async () => {
  server = await startHttpServer((_request, response) => void response.destroy());
  await expect(connect(server.url).fetch('once')).rejects.toMatchObject({ code: 'UNREACHABLE' });
  expect(server.seen.length).toBe(1);
});

test('streams the answer piece by piece, before it has ended', async () => {
  let finish: (() => void) | undefined;
  server = await startHttpServer((_request, response) => {
    response.write('one');
    finish = () => response.end('two');
  });
  const pieces: string[] = [];
  for await (const chunk of connect(server.url).fetchStream('events')) {
    pieces.push(new TextDecoder().decode(chunk));
    finish?.();
  }
  expect(pieces).toEqual(['one', 'two']);
});

test('a stream that is left early frees its connection', async () => {
  const closed = Promise.withResolvers<void>();
  server = await startHttpServer((_request, response) => {
    response.on('close', closed.resolve);
    response.write('first');
  });
  for await (const chunk of connect(server.url).fetchStream('events')) {
    expect(chunk.length).toBe(5);
    break;
  }
  await closed.promise;
});

test('streaming throws a failed invocation with cause and id', async () => {
  server = await startHttpServer((_request, response) =>
    answerJson(response, 504, createProblem('TIMEOUT', 'took longer than 30 s', { invocationId: 'inv-1' }), {
      'skiff-cause': 'timeout',
    }),
  );
  const first = connect(server.url).fetchStream('slow').next();
  await expect(first).rejects.toBeInstanceOf(ClientError);
  await expect(first).rejects.toMatchObject({
    code: 'TIMEOUT',
    failure: 'timeout',
    fault: 'function',
    invocationId: 'inv-1',
  });
});

const greet = defineFunction({
  handle: (input: { readonly name: string }) => ({ text: `Hello, ${input.name}!` }),
});

test('a function of JSON is invoked with a value and returns one', async () => {
  server = await startHttpServer(({ body }, response) => {
    const { name } = JSON.parse(body.toString()) as { name: string };
    answerJson(response, 200, { text: `Hello, ${name}!` });
  });
  const { text } = await connect(server.url).invoke<typeof greet>('greet', { name: 'Ada' });
  expect(text).toBe('Hello, Ada!');
  expect([server.seen[0]?.method, server.seen[0]?.headers['content-type']]).toEqual([
    'POST',
    'application/json',
  ]);
});

test('what it refuses or fails with is a ClientError with the function\u2019s words', async () => {
  server = await startHttpServer(({ url }, response) => {
    if (url.startsWith('/f/refuses'))
      return answerJson(response, 400, {
        status: 400,
        code: 'BAD_REQUEST',
        detail: 'name: missing',
        issues: [1],
      });
    if (url.startsWith('/f/page')) return void response.end('<html>');
    answerJson(response, 500, createProblem('HANDLER_ERROR', 'it threw'), { 'skiff-cause': 'handler_error' });
  });
  const skiff = connect(server.url);
  await expect(skiff.invoke('refuses')).rejects.toMatchObject({
    code: 'BAD_REQUEST',
    detail: 'name: missing',
    problem: { issues: [1] },
  });
  await expect(skiff.invoke('fails')).rejects.toMatchObject({ code: 'HANDLER_ERROR', fault: 'function' });
  await expect(skiff.invoke('page')).rejects.toMatchObject({ code: 'BAD_RESPONSE' });
});

test('with an idempotency key a call whose answer was lost is made again, and one that still runs is waited for', async () => {
  let calls = 0;
  server = await startHttpServer((_request, response) => {
    calls++;
    if (calls === 1) return void response.destroy();
    if (calls === 2)
      return answerJson(response, 409, createProblem('IDEMPOTENCY_IN_PROGRESS', 'runs'), {
        'retry-after': '0',
      });
    answerJson(response, 200, 'done');
  });
  expect(await connect(server.url).invoke('once', 1, { idempotencyKey: 'k1' })).toBe('done');
  expect(server.seen.map(({ headers }) => headers['idempotency-key'])).toEqual(['k1', 'k1', 'k1']);
});

test('retries stop when the budget is spent', async () => {
  server = await startHttpServer((_request, response) =>
    answerJson(response, 503, createProblem('QUEUE_EXPIRED', 'full'), {
      'retry-after': '0',
      'skiff-cause': 'queue_expired',
    }),
  );
  const skiff = createClient({ url: server.url, retry: { baseMs: 0, waitMsMax: 1, attemptsMax: 100 } });
  for (let call = 0; call < 20; call++) expect((await skiff.fetch('busy')).status).toBe(503);
  // Ten at first and a tenth for each call, however many each would make.
  expect(server.seen.length).toBe(20 + 11);
});
