/** Calling functions: the answer is handed on, and nothing that may have run is run again. */
import { afterEach, expect, test } from 'vitest';
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
