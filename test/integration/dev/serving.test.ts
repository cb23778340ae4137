import { afterAll, beforeAll, expect, test } from 'vitest';
import { startDev, type TestDev } from '../../helpers/dev.ts';
import { waitFor } from '../../helpers/wait.ts';

let dev: TestDev;
let url: string;

const FUNCTION = `
import type { FunctionContext } from 'skiff';
export const config = { concurrency: 2, timeout: '10s' };
let count = 0;
export default async (request: Request, ctx: FunctionContext): Promise<Response> => {
  const { pathname } = new URL(request.url);
  switch (pathname) {
    case '/echo':
      return new Response(request.body, { headers: { 'x-method': request.method, connection: 'x', 'skiff-cause': 'mine' } });
    case '/stream': {
      const body = new ReadableStream({
        async start(controller) {
          for (let i = 0; i < 3; i++) {
            controller.enqueue(new TextEncoder().encode('piece ' + i + '\\n'));
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
          controller.close();
        },
      });
      return new Response(body);
    }
    case '/logs':
      console.log('printed', { a: 1 });
      ctx.log.warn('structured', { b: 2 });
      process.stdout.write('raw line\\n');
      return new Response(ctx.invocationId);
    case '/throws':
      throw new Error('thrown');
    case '/exit':
      process.exit(3);
    case '/hang':
      for (;;) count++;
    case '/wait':
      ctx.signal.addEventListener('abort', () => console.log('aborted'));
      await new Promise((resolve) => setTimeout(resolve, 9_000));
      return new Response('late');
    case '/hold':
      await new Promise((resolve) => setTimeout(resolve, 300));
      return new Response(String(process.pid));
    default:
      return Response.json({ url: request.url, name: ctx.functionName, remaining: ctx.remainingMs() > 5_000,
        forwarded: request.headers.get('x-forwarded-for'), host: process.env.SKIFF_TEST_HOST ?? null });
  }
};`;

beforeAll(async () => {
  dev = await startDev({ 'app.ts': FUNCTION }, ['app.ts', '--port', '0'], {
    env: { SKIFF_TEST_HOST: 'leak' },
  });
  url = dev.urlOf('app').replace(/\/$/, '');
});
afterAll(() => dev[Symbol.asyncDispose]());

test('says that it is not isolated', () => {
  expect(dev.running.stderr()).toContain('not isolated: functions run as you');
});

test('hands requests over as a gateway does, and nothing of the host', async () => {
  expect(await (await fetch(`${url}/a%2fb?q=1`)).json()).toEqual({
    url: `${url}/a%2fb?q=1`,
    name: 'app',
    remaining: true,
    forwarded: '127.0.0.1',
    host: null,
  });
});

test('passes large bodies both ways unchanged, and filters headers', async () => {
  const body = Buffer.alloc(3_000_000, 'abcdefghij');
  const response = await fetch(`${url}/echo`, { method: 'PUT', body });
  expect(response.headers.get('x-method')).toBe('PUT');
  expect(response.headers.get('skiff-cause')).toBeNull();
  expect(response.headers.get('skiff-invocation-id')).toMatch(/^inv-/);
  expect(response.headers.get('server-timing')).toMatch(/^exec;dur=/);
  expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
});

test('streams: the first piece is there before the last', async () => {
  const response = await fetch(`${url}/stream`);
  const seen: [string, number][] = [];
  const started = performance.now();
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>)
    seen.push([Buffer.from(chunk).toString(), performance.now() - started]);
  expect(seen.map(([text]) => text).join('')).toBe('piece 0\npiece 1\npiece 2\n');
  expect((seen.at(-1)?.[1] ?? 0) - (seen[0]?.[1] ?? 0)).toBeGreaterThan(50);
});

test('shows what is logged, with the invocation it belongs to', async () => {
  const id = await (await fetch(`${url}/logs`)).text();
  await waitFor('the lines', () => dev.eventsOf('output').some(({ line }) => line === 'raw line'));
  const logs = dev.eventsOf('log').filter(({ invocation }) => invocation === id);
  expect(logs.map(({ log: { level, message, fields } }) => [level, message, fields])).toEqual([
    ['info', 'printed { a: 1 }', undefined],
    ['warn', 'structured', { b: 2 }],
  ]);
});

test('answers a thrown error with its stack in terms of the source', async () => {
  const response = await fetch(`${url}/throws`);
  expect(response.status).toBe(500);
  const problem = (await response.json()) as { cause: string; stack: string };
  expect(problem.cause).toBe('handler_error');
  expect(problem.stack).toMatch(/^Error: thrown\n\s+at .*app\.ts:\d+:\d+/);
  expect(problem.stack).not.toContain('guest.cjs');
});

test('a crash is an answer, and the next request gets a new process', async () => {
  const crashed = await fetch(`${url}/exit`);
  expect([crashed.status, crashed.headers.get('skiff-cause')]).toEqual([502, 'crash']);
  expect(await crashed.text()).toContain('exit code 3');
  expect((await fetch(`${url}/`)).status).toBe(200);
  expect(dev.eventsOf('warning').some(({ message }) => message.includes('exit code 3'))).toBe(true);
});

test('a client that leaves aborts the signal', async () => {
  const controller = new AbortController();
  const call = fetch(`${url}/wait`, { signal: controller.signal }).catch((error: Error) => error.name);
  await waitFor('the request to arrive', async () => (await fetch(`${url}/`)).status === 200);
  controller.abort();
  expect(await call).toBe('AbortError');
  await waitFor('the handler to be told', () =>
    dev.eventsOf('log').some(({ log }) => log.message === 'aborted'),
  );
  await waitFor('the line', () => dev.eventsOf('request').some(({ status }) => status === undefined));
});

test('code that never ends is stopped with its process, and others go on', async () => {
  const controller = new AbortController();
  const call = fetch(`${url}/hang`, { signal: controller.signal }).catch(() => 'left');
  const isBlocked = async (): Promise<boolean> =>
    fetch(`${url}/`, { signal: AbortSignal.timeout(500) }).then(
      () => false,
      () => true,
    );
  await waitFor('the process to be busy', isBlocked);
  controller.abort();
  expect(await call).toBe('left');
  await waitFor('another process to answer', async () => !(await isBlocked()));
});

test('more calls than the concurrency of one process get another process', async () => {
  const pids = await Promise.all(Array.from({ length: 4 }, async () => (await fetch(`${url}/hold`)).text()));
  expect(new Set(pids).size).toBe(2);
});

test('--inspect attaches a debugger that sees the sources and survives a reload', async () => {
  const port = 9_300 + Math.floor(Math.random() * 600);
  const source = 'export default (): Response => new Response(String((globalThis as any).answer ?? 1));\n';
  await using inspected = await startDev({ 'fn.ts': source }, [
    'fn.ts',
    '--port',
    '0',
    '--inspect',
    String(port),
  ]);
  expect(inspected.running.stderr()).toContain(`127.0.0.1:${port}`);
  const evaluate = async (expression: string): Promise<unknown> => {
    const [target] = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as [
      { webSocketDebuggerUrl: string },
    ];
    const socket = new WebSocket(target.webSocketDebuggerUrl);
    await new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }));
    const scripts: { url: string; sourceMapURL: string }[] = [];
    const result = await new Promise((resolve) => {
      socket.addEventListener('message', ({ data }) => {
        const message = JSON.parse(String(data)) as {
          id?: number;
          method?: string;
          params?: { url: string; sourceMapURL: string };
          result?: { result?: { value: unknown } };
        };
        if (message.method === 'Debugger.scriptParsed' && message.params) scripts.push(message.params);
        if (message.id === 2) resolve(message.result?.result?.value);
      });
      socket.send('{"id":1,"method":"Debugger.enable"}');
      socket.send(JSON.stringify({ id: 2, method: 'Runtime.evaluate', params: { expression } }));
    });
    socket.close();
    expect(scripts.some(({ url, sourceMapURL }) => url.endsWith('/index.cjs') && sourceMapURL !== '')).toBe(
      true,
    );
    return result;
  };
  expect(await evaluate('globalThis.answer = 42')).toBe(42);
  expect(await (await fetch(inspected.urlOf('fn'))).text()).toBe('42');
  await inspected.write('fn.ts', source.replace('1)', '2)'));
  await waitFor('the reload', () => inspected.eventsOf('live').length === 2);
  expect(await evaluate('6 * 7')).toBe(42);
  expect(await (await fetch(inspected.urlOf('fn'))).text()).toBe('2');
});
