/** Builds and logs are followed across cut connections: nothing is lost and nothing comes twice. */
import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { type BuildEvent, createClient, type LogLine } from '../../../sdk/client/index.ts';
import { createProblem } from '../../../sdk/protocol/errors.ts';
import { answerJson, startHttpServer, type TestServer } from '../../helpers/http-server.ts';

let server: TestServer | undefined;
const connect = (url: string) => createClient({ url, retry: { baseMs: 1, waitMsMax: 50 } });

afterEach(async () => {
  await server?.close();
  server = undefined;
});

const lines = (values: readonly unknown[]): string =>
  values.map((value) => `${JSON.stringify(value)}\n`).join('');

/** The status line and some whole lines, then half a line and the end of the connection. */
function cutAfter(response: ServerResponse, text: string): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.write(`${text}{"type":"lo`, () => response.destroy());
}

describe('a deploy', () => {
  const build = {
    id: 'bld-1',
    functionName: 'hello',
    state: 'succeeded' as const,
    createdMs: 1,
    deployment: 'dep-1',
  };
  const events: BuildEvent[] = [
    { type: 'step', atMs: 1, step: 'bundle', status: 'start' },
    { type: 'log', atMs: 2, level: 'info', message: 'bundled' },
    { type: 'step', atMs: 3, step: 'bundle', status: 'done', ms: 12 },
    { type: 'end', atMs: 4, build },
  ];
  const answers: Record<string, unknown> = {
    'POST /v1/uploads': { digest: 'sha256:1', bytes: 3 },
    'POST /v1/functions/hello/deployments': { build: 'bld-1', deployment: 'dep-1' },
    'GET /v1/functions/hello': { url: 'http://x/f/hello/' },
    'GET /v1/deployments/dep-1': { image: { reference: 'functions/hello@sha256:2' } },
  };

  test('uploads, orders, follows and answers with URL, image and times', async () => {
    server = await startHttpServer(({ method, url }, response) => {
      if (url.endsWith('/events')) return void response.end(lines(events));
      answerJson(response, 200, answers[`${method} ${url}`]);
    });
    const seen: BuildEvent[] = [];
    const result = await connect(server.url).deploy('hello', {
      source: new Uint8Array([1, 2, 3]),
      entry: 'hello.ts',
      config: { memory: '128MB' },
      onEvent: (event) => seen.push(event),
    });
    expect(result).toMatchObject({
      name: 'hello',
      url: 'http://x/f/hello/',
      deployment: 'dep-1',
      image: 'functions/hello@sha256:2',
    });
    expect(result.ms).toMatchObject({ bundle: 12, total: expect.any(Number), upload: expect.any(Number) });
    expect(seen).toEqual(events);
    expect(JSON.parse(server.seen[1]?.body.toString() ?? '')).toEqual({
      source: { digest: 'sha256:1', bytes: 3 },
      entry: 'hello.ts',
      config: { memory: '128MB' },
    });
  });

  test('sees every event once when the connection is cut in the middle', async () => {
    let calls = 0;
    server = await startHttpServer((_request, response) => {
      if (++calls === 1) cutAfter(response, lines(events.slice(0, 2)));
      else response.end(lines(events));
    });
    const seen: BuildEvent[] = [];
    const ended = await connect(server.url).followBuild('bld-1', { onEvent: (event) => seen.push(event) });
    expect(ended).toEqual(build);
    expect(seen).toEqual(events);
  });

  test('a failed build throws with its code and its message, frame and all', async () => {
    const message = 'hello.ts:1:6: Expected ";"\n\n    1 │ const x y\n      ╵       ^';
    const failed = { ...build, state: 'failed', error: { code: 'BUILD_FAILED', message } };
    server = await startHttpServer(({ method, url }, response) => {
      if (url.endsWith('/events')) return void response.end(lines([{ type: 'end', atMs: 1, build: failed }]));
      answerJson(response, 200, answers[`${method} ${url}`]);
    });
    const deploy = connect(server.url).deploy('hello', { source: new Uint8Array(1) });
    await expect(deploy).rejects.toMatchObject({ code: 'BUILD_FAILED', fault: 'function', detail: message });
  });

  test('a build that is not there is an error at once', async () => {
    server = await startHttpServer((_request, response) =>
      answerJson(response, 404, createProblem('NOT_FOUND', 'no build')),
    );
    await expect(connect(server.url).followBuild('bld-9')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(server.seen.length).toBe(1);
  });
});

describe('logs', () => {
  const line = (n: number): LogLine => ({
    cursor: `${n}-0`,
    atMs: n,
    level: 'info',
    source: 'app',
    message: `line ${n}`,
  });
  const queryOf = (url: string) => Object.fromEntries(new URL(url, 'http://x').searchParams);

  test('asks for what was wanted', async () => {
    server = await startHttpServer((_request, response) => void response.end(lines([line(1)])));
    const seen = [];
    const options = { tail: 5, sinceMs: 7, level: 'warn', invocation: 'inv-1' } as const;
    for await (const entry of connect(server.url).logs('hello', options)) seen.push(entry);
    expect(seen).toEqual([line(1)]);
    expect(queryOf(server.seen[0]?.url ?? '')).toEqual({
      tail: '5',
      since: '7',
      level: 'warn',
      invocation: 'inv-1',
    });
  });

  test('following goes on after the last line when the connection is cut', async () => {
    let calls = 0;
    server = await startHttpServer((_request, response) => {
      if (++calls === 1) cutAfter(response, lines([line(1), line(2)]));
      else response.write(lines([line(3)]));
    });
    const seen: string[] = [];
    for await (const entry of connect(server.url).logs('hello', { follow: true, tail: 100 })) {
      seen.push(entry.message);
      if (seen.length === 3) break;
    }
    expect(seen).toEqual(['line 1', 'line 2', 'line 3']);
    expect(server.seen.map(({ url }) => queryOf(url))).toEqual([
      { follow: 'true', tail: '100' },
      { follow: 'true', after: '2-0' },
    ]);
  });

  test('without following, a cut is an error: the lines are not all there', async () => {
    server = await startHttpServer((_request, response) => cutAfter(response, lines([line(1)])));
    const read = async () => {
      for await (const entry of connect(server?.url ?? '').logs('hello')) expect(entry).toEqual(line(1));
    };
    await expect(read()).rejects.toThrow();
  });

  test('following ends with the signal', async () => {
    server = await startHttpServer((_request, response) => void response.write(lines([line(1)])));
    const stop = new AbortController();
    const reason = new Error('enough');
    const read = async () => {
      for await (const entry of connect(server?.url ?? '').logs('hello', {
        follow: true,
        signal: stop.signal,
      })) {
        expect(entry.message).toBe('line 1');
        stop.abort(reason);
      }
    };
    await expect(read()).rejects.toBe(reason);
  });
});

test('an order that is on its way is not interrupted, so that its build can be cancelled', async () => {
  const stop = new AbortController();
  server = await startHttpServer(({ url }, response) => {
    if (url === '/v1/uploads') return answerJson(response, 201, { digest: 'sha256:1', bytes: 1 });
    stop.abort(new Error('enough'));
    setTimeout(() => answerJson(response, 202, { build: 'bld-1', deployment: 'dep-1' }), 20);
  });
  const builds: string[] = [];
  const deploy = connect(server.url).deploy('hello', {
    source: new Uint8Array(1),
    signal: stop.signal,
    onStarted: ({ build }) => builds.push(build),
  });
  await expect(deploy).rejects.toThrow('enough');
  expect(builds).toEqual(['bld-1']);
});
