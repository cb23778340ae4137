/** The client against real HTTP servers: what it sends, what it sends again, what it throws. */
import { afterEach, describe, expect, test } from 'vitest';
import { ClientError, createClient } from '../../../sdk/client/index.ts';
import { createProblem, ERRORS, type ErrorCode } from '../../../sdk/protocol/errors.ts';
import { httpFetch } from '../../../sdk/cli/connection/http-fetch.ts';
import { freePorts } from '../../helpers/ports.ts';
import { answerJson, startHttpServer, type TestServer } from '../../helpers/http-server.ts';

const QUICK = { baseMs: 1, waitMsMax: 50 };
let server: TestServer | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function failure(promise: Promise<unknown>): Promise<ClientError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ClientError);
  return error as ClientError;
}

describe.each([
  ['the global fetch', undefined],
  ['node:http', httpFetch],
])('over %s', (_, fetch) => {
  const connect = (url: string, token?: string) =>
    createClient({ url, token, retry: QUICK, ...(fetch && { fetch: fetch as never }) });

  test('sends the token and reads the list', async () => {
    const records = [{ name: 'hello' }];
    server = await startHttpServer((_request, response) => answerJson(response, 200, { functions: records }));
    expect(await connect(server.url, 'secret').list()).toEqual(records);
    expect(server.seen[0]?.headers.authorization).toBe('Bearer secret');
    expect(server.seen[0]?.url).toBe('/v1/functions');
  });

  test('makes an error of every row of the table, with code, status, detail and id', async () => {
    let code: ErrorCode = 'INTERNAL';
    server = await startHttpServer((_request, response) => {
      const problem = createProblem(code, `detail of ${code}`, { requestId: 'req-1' });
      answerJson(response, problem.status, problem);
    });
    const client = connect(server.url);
    for (code of Object.keys(ERRORS) as ErrorCode[]) {
      const error = await failure(client.get('hello'));
      expect(error).toMatchObject({
        code,
        status: ERRORS[code].status,
        detail: `detail of ${code}`,
        requestId: 'req-1',
      });
    }
  });

  test('repeats a 503 with Retry-After, for a write as well', async () => {
    let calls = 0;
    server = await startHttpServer((_request, response) => {
      if (++calls < 3)
        answerJson(response, 503, createProblem('UNAVAILABLE', 'soon'), { 'retry-after': '0' });
      else answerJson(response, 200, { name: 'live', targets: [], version: 2, updatedMs: 0 });
    });
    await connect(server.url).setAlias('hello', 'live', [{ deployment: 'dep-1', weight: 100 }]);
    expect(server.seen.map((request) => request.body.toString())).toEqual(
      Array.from({ length: 3 }, () => '{"targets":[{"deployment":"dep-1","weight":100}]}'),
    );
  });

  test('does not repeat a write that failed without Retry-After, nor a wait longer than its limit', async () => {
    server = await startHttpServer((request, response) => {
      const headers: Record<string, string> = request.method === 'GET' ? { 'retry-after': '3600' } : {};
      answerJson(response, 503, createProblem('UNAVAILABLE', 'away'), headers);
    });
    const client = connect(server.url);
    expect((await failure(client.setAlias('a', 'live', []))).code).toBe('UNAVAILABLE');
    expect((await failure(client.list())).retryAfterMs).toBe(3_600_000);
    expect(server.seen.length).toBe(2);
  });

  test('gives up after four tries and says what the server said', async () => {
    server = await startHttpServer((_request, response) =>
      answerJson(response, 503, createProblem('OVERLOADED', 'busy'), { 'retry-after': '0' }),
    );
    expect((await failure(connect(server.url).list())).detail).toBe('busy');
    expect(server.seen.length).toBe(4);
  });

  test('stops repeating when its budget is spent', async () => {
    server = await startHttpServer((_request, response) =>
      answerJson(response, 503, createProblem('OVERLOADED', 'busy'), { 'retry-after': '0' }),
    );
    const client = connect(server.url);
    for (let i = 0; i < 20; i++) await failure(client.list());
    // 20 first tries, 10 repeats in the budget and two that the first tries earned.
    expect(server.seen.length).toBeLessThanOrEqual(32);
  });

  test('says UNREACHABLE when nobody listens', async () => {
    const url = `http://127.0.0.1:${(await freePorts(1))[0]}`;
    const error = await failure(connect(url).list());
    expect(error).toMatchObject({ code: 'UNREACHABLE', status: 0 });
    expect(error.detail).toMatch(
      /list functions: http:\/\/127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/,
    );
  });

  test('says UNREACHABLE when no answer comes in time', async () => {
    server = await startHttpServer(() => {});
    const client = createClient({
      url: server.url,
      timeoutMs: 50,
      retry: { attemptsMax: 1 },
      ...(fetch && { fetch: fetch as never }),
    });
    expect((await failure(client.list())).detail).toMatch(/no answer within 50 ms$/);
  });

  test('says BAD_RESPONSE for what is not Skiff', async () => {
    server = await startHttpServer((request, response) => {
      response
        .writeHead(request.url === '/v1/nodes' ? 200 : 502, { 'content-type': 'text/html' })
        .end('<h1>Bad  Gateway</h1>');
    });
    const client = connect(server.url);
    expect(await failure(client.list())).toMatchObject({
      code: 'BAD_RESPONSE',
      status: 502,
      detail: expect.stringContaining('<h1>Bad Gateway</h1>'),
    });
    expect((await failure(client.nodes())).detail).toContain('is not JSON');
  });

  test('ends with the reason of the signal, also while it waits to repeat', async () => {
    server = await startHttpServer((_request, response) =>
      answerJson(response, 503, createProblem('OVERLOADED', 'busy'), { 'retry-after': '30' }),
    );
    const client = createClient({
      url: server.url,
      retry: { waitMsMax: 60_000 },
      ...(fetch && { fetch: fetch as never }),
    });
    const stop = new AbortController();
    const reason = new Error('enough');
    const call = client.list({ signal: stop.signal });
    const check = expect(call).rejects.toBe(reason);
    setTimeout(() => stop.abort(reason), 30);
    await check;
  });

  test('uploads a stream as it is, and anew when asked to come again', async () => {
    let calls = 0;
    server = await startHttpServer((_request, response) => {
      if (++calls === 1)
        answerJson(response, 503, createProblem('UNAVAILABLE', 'soon'), { 'retry-after': '0' });
      else answerJson(response, 201, { digest: 'sha256:0', bytes: 600_000 });
    });
    const piece = new Uint8Array(200_000).fill(7);
    const open = () => new Response(new Blob([piece, piece, piece])).body as ReadableStream<Uint8Array>;
    expect(await connect(server.url).upload(open)).toEqual({ digest: 'sha256:0', bytes: 600_000 });
    expect(server.seen.map(({ body }) => body.length)).toEqual([600_000, 600_000]);
  });
});
