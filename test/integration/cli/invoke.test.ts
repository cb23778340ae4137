/** `skiff invoke` as a process, against a server that answers as functions and the platform do. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createProblem, ERRORS, type ErrorCode } from '../../../sdk/protocol/errors.ts';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { answerJson, startHttpServer, type TestServer } from '../../helpers/http-server.ts';
import { waitFor } from '../../helpers/wait.ts';

let cli: TestCli;
let server: TestServer | undefined;
beforeEach(async () => {
  cli = await createCli();
});
afterEach(async () => {
  await cli.close();
  await server?.close();
  server = undefined;
});

type Answer = Parameters<typeof startHttpServer>[0];
async function serve(answer: Answer): Promise<Record<string, string>> {
  server = await startHttpServer(answer);
  return { SKIFF_URL: server.url };
}
const echo: Answer = (request, response) => {
  response
    .writeHead(200, { 'x-reply': 'yes' })
    .end(
      `${request.method} ${request.url} ${request.headers['content-type'] ?? '-'} ${request.body.toString()}`,
    );
};

describe('the request', () => {
  test.each([
    [[], 'GET /f/hello/ - '],
    [['/a/b?c=1', '--query', 'd=x y', '-q', 'e=&'], 'GET /f/hello/a/b?c=1&d=x%20y&e=%26 - '],
    [['-d', '{"n":1}'], 'POST /f/hello/ application/json {"n":1}'],
    [['-d', 'just text'], 'POST /f/hello/ text/plain; charset=utf-8 just text'],
    [
      ['-d', 'x=1', '-H', 'content-type: application/x-www-form-urlencoded'],
      'POST /f/hello/ application/x-www-form-urlencoded x=1',
    ],
    [['-X', 'delete', '/7'], 'DELETE /f/hello/7 - '],
    [['-d', '@order.json'], 'POST /f/hello/ application/json {"from":"file"}'],
    [['-d', '-'], 'POST /f/hello/ application/octet-stream from stdin'],
  ])('%j is %s', async (args, expected) => {
    const env = await serve(echo);
    await writeFile(join(cli.home, 'order.json'), '{"from":"file"}');
    const { code, stdout } = await cli.run(['invoke', 'hello', ...args], { env, input: 'from stdin' });
    expect([code, stdout]).toEqual([0, expected]);
  });

  test('--json prints the whole answer as one line of JSON, whatever is in it', async () => {
    const env = await serve((request, response) => {
      const isBinary = request.url === '/f/hello/bytes';
      response.writeHead(isBinary ? 201 : 404, { 'x-reply': 'yes', 'skiff-deployment': 'dep-1' });
      response.end(isBinary ? Buffer.from([0, 255]) : 'é');
    });
    const text = await cli.run(['invoke', 'hello', '--json'], { env });
    expect(JSON.parse(text.stdout)).toMatchObject({ status: 404, headers: { 'x-reply': 'yes' }, body: 'é' });
    expect(text.code).toBe(4);
    const bytes = await cli.run(['invoke', 'hello', '/bytes', '--json'], { env });
    expect(JSON.parse(bytes.stdout)).toMatchObject({ status: 201, body: 'AP8=', encoding: 'base64' });
    expect(bytes.code).toBe(0);
  });

  test('--async says everything about an event that the API knows, and prints its id', async () => {
    const env = await serve((_request, response) =>
      answerJson(response, 202, { id: 'inv-1', state: 'delayed', location: '/v1/invocations/inv-1' }),
    );
    const flags = ['--delay', '10m', '--max-age', '1h', '--priority', 'low', '--ordering-key', 'k 1'];
    const { code, stdout } = await cli.run(
      ['invoke', 'hello', '--async', ...flags, '--idempotency-key', 'once'],
      { env },
    );
    expect([code, stdout]).toEqual([0, 'inv-1\n']);
    expect(server?.seen[0]?.headers).toMatchObject({
      prefer: 'respond-async',
      'skiff-delay': '10m',
      'skiff-max-age': '1h',
      'skiff-priority': 'low',
      'skiff-ordering-key': 'k 1',
      'idempotency-key': 'once',
    });
  });

  test('a header may be given several times', async () => {
    const env = await serve(echo);
    await cli.run(['invoke', 'hello', '-H', 'X-A: 1', '-H', 'x-a: 2:3'], { env });
    expect(server?.seen[0]?.headers['x-a']).toBe('1, 2:3');
  });

  test.each([
    [['invoke'], "missing required argument 'function'"],
    [['invoke', 'hello', '-H', 'nonsense'], '"nonsense" is not a header'],
    [['invoke', 'hello', '-H', 'a b: c'], 'is not a header'],
    [['invoke', 'hello', '-d', '@absent'], 'absent does not exist'],
    [['invoke', 'hello', '-q', 'x'], 'not of the form name=value'],
    [['invoke', 'hello', '--max-age', '1h'], '--max-age needs --async'],
    [['invoke', 'hello', '--ordering-key', 'k'], '--ordering-key needs --async'],
    [['invoke', 'hello', '--async', '--priority', 'urgent'], 'Allowed choices are high, normal, low'],
  ])('%j is refused with 2', async (args, reason) => {
    const { code, stderr } = await cli.run(args);
    expect([code, stderr]).toEqual([2, expect.stringContaining(reason)]);
  });
});

describe('the answer', () => {
  test('-i shows status and headers before the body', async () => {
    const { stdout } = await cli.run(['invoke', 'hello', '-i'], { env: await serve(echo) });
    expect(stdout).toMatch(/^HTTP\/1\.1 200 OK\nx-reply: yes\n[\s\S]*\n\nGET \/f\/hello\/ - $/);
  });

  test('streams to stdout before it has ended', async () => {
    let finish: (() => void) | undefined;
    const env = await serve((_request, response) => {
      response.write('data: 1\n\n');
      finish = () => response.end('data: 2\n\n');
    });
    const running = cli.start(['invoke', 'events'], { env });
    await waitFor('the first event', () => running.stdout() === 'data: 1\n\n');
    finish?.();
    expect((await running.ended).stdout).toBe('data: 1\n\ndata: 2\n\n');
  });

  test('bytes pass as they are', async () => {
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, i) => i % 128));
    const { stdout } = await cli.run(['invoke', 'bytes'], {
      env: await serve((_request, response) => void response.end(bytes)),
    });
    expect(Buffer.compare(Buffer.from(stdout), bytes)).toBe(0);
  });

  test('binary is not written to a terminal', async () => {
    const env = await serve((_request, response) => void response.end(Buffer.from([0x89, 0x50, 0, 1])));
    const { code, raw } = await cli.runInTerminal(['invoke', 'image'], { env });
    expect([code, raw]).toEqual([1, expect.stringContaining('the answer is binary')]);
  });

  test('an error status of the function ends with 4, its body on stdout', async () => {
    const env = await serve(
      (_request, response) =>
        void response.writeHead(404, { 'skiff-deployment': 'dep-1' }).end('no such item\n'),
    );
    const { code, stdout, stderr } = await cli.run(['invoke', 'hello'], { env });
    expect([code, stdout, stderr]).toEqual([4, 'no such item\n', 'the function answered with status 404\n']);
  });

  test.each(
    (Object.keys(ERRORS) as ErrorCode[])
      .filter((code) => ERRORS[code].status !== 503)
      .map((code) => [code, ERRORS[code].fault === 'function' ? 4 : 1] as const),
  )('%s of the platform ends with %i and says what happened', async (errorCode, expected) => {
    const env = await serve((_request, response) => {
      const problem = createProblem(errorCode, `detail of ${errorCode}`, { invocationId: 'inv-7' });
      answerJson(response, problem.status, problem, { 'skiff-cause': problem.cause ?? '' });
    });
    const { code, stdout, stderr } = await cli.run(['invoke', 'hello'], { env });
    expect([code, stdout]).toEqual([expected, '']);
    expect(stderr).toContain(`error: detail of ${errorCode} (inv-7)\n`);
    expect(stderr.includes('skiff logs hello --invocation inv-7')).toBe(expected === 4);
  });
});

test('Ctrl-C ends the call at both ends, with 130', async () => {
  const closed = Promise.withResolvers<void>();
  const env = await serve((_request, response) => {
    response.on('close', closed.resolve);
    response.write('working…\n');
  });
  const running = cli.start(['invoke', 'slow'], { env });
  await waitFor('the first bytes', () => running.stdout().includes('working'));
  running.process.kill('SIGINT');
  expect((await running.ended).code).toBe(130);
  await closed.promise;
});

test('a reader that has seen enough ends it without an error', async () => {
  const env = await serve((_request, response) => {
    const pump = (): void =>
      void (response.writable && response.write('y\n'.repeat(10_000))
        ? setImmediate(pump)
        : response.once('drain', pump));
    pump();
  });
  const running = cli.start(['invoke', 'yes'], { env });
  await waitFor('the first bytes', () => running.stdout().length > 0);
  running.process.stdout?.destroy();
  const { code, stderr } = await running.ended;
  expect([code, stderr]).toEqual([0, '']);
});
