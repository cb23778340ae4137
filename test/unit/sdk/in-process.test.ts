/** Handlers in this process, on the guest of a sandbox. */
import { Hono } from 'hono';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { defineFunction } from '../../../sdk/authoring/index.ts';
import { ClientError, createTestFunction, type TestFunction } from '../../../sdk/testing/index.ts';

test('a handler gets request and context, and its answer arrives', async () => {
  const fn = createTestFunction(
    async (request, context) =>
      Response.json(
        {
          method: request.method,
          url: request.url,
          is: request instanceof Request,
          copied: (await new Request(request).text()).length,
          name: context.functionName,
          env: context.env['A'],
          attempt: context.attempt,
          left: context.remainingMs() > 1_000,
        },
        { status: 201, headers: { 'x-own': 'yes' } },
      ),
    { name: 'shop', env: { A: 'b' }, attempt: 2 },
  );
  const response = await fn.fetch('/items?x=1', { method: 'PUT', body: 'four' });
  expect([response.status, response.headers.get('x-own')]).toEqual([201, 'yes']);
  expect(response.headers.get('skiff-invocation-id')).toMatch(/^inv-/);
  expect(await response.json()).toEqual({
    method: 'PUT',
    url: 'http://shop.test/items?x=1',
    is: true,
    copied: 4,
    name: 'shop',
    env: 'b',
    attempt: 2,
    left: true,
  });
});

test('an application of Hono is a function as it is', async () => {
  const app = new Hono();
  app.get('/users/:id', (c) => c.json({ id: c.req.param('id') }));
  const fn = createTestFunction(app);
  expect(await (await fn.fetch('/users/7')).json()).toEqual({ id: '7' });
  expect((await fn.fetch('/nothing')).status).toBe(404);
});

test('what a handler throws is status 500 with a cause, and not the test\u2019s', async () => {
  const fn = createTestFunction(() => {
    throw new Error('no database');
  });
  const response = await fn.fetch('/');
  expect([response.status, response.headers.get('skiff-cause')]).toEqual([500, 'handler_error']);
  expect(await response.json()).toMatchObject({
    code: 'HANDLER_ERROR',
    detail: expect.stringContaining('no database'),
  });
});

test('the deadline aborts the signal and answers 504', async () => {
  let reason: unknown;
  const fn = createTestFunction(
    (request) =>
      new Promise((_, reject) => {
        request.signal.addEventListener('abort', () => {
          reason = request.signal.reason;
          reject(request.signal.reason as Error);
        });
      }),
    { timeoutMs: 20 },
  );
  const response = await fn.fetch('/');
  await fn.settled();
  expect([response.status, response.headers.get('skiff-cause')]).toEqual([504, 'timeout']);
  expect(String(reason)).toContain('timeout');
});

test('a caller that leaves aborts the signal, before the answer and within it', async () => {
  const told: string[] = [];
  const fn = createTestFunction((request, context) => {
    context.signal.addEventListener('abort', () => told.push(new URL(request.url).pathname));
    if (request.url.endsWith('/silent')) return new Promise(() => {});
    return new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1_000)) }),
    );
  });
  const controller = new AbortController();
  const silent = fn.fetch('/silent', { signal: controller.signal });
  controller.abort(new Error('bye'));
  await expect(silent).rejects.toThrow('bye');
  await (await fn.fetch('/endless')).body?.cancel();
  await expect.poll(() => told).toEqual(['/silent', '/endless']);
});

test('bodies stream both ways, held back by a slow reader', async () => {
  let made = 0;
  const fn = createTestFunction((request) =>
    request.method === 'POST'
      ? new Response(request.body)
      : new Response(
          new ReadableStream({
            pull(controller) {
              made++;
              controller.enqueue(new Uint8Array(64 * 1024));
            },
          }),
        ),
  );
  const large = new Uint8Array(3_000_000).fill(7);
  const echoed = new Uint8Array(await (await fn.fetch('/', { method: 'POST', body: large })).arrayBuffer());
  expect(Buffer.from(echoed).equals(large)).toBe(true);
  const reader = (await fn.fetch('/')).body?.getReader();
  await reader?.read();
  await new Promise((resolve) => setImmediate(resolve));
  expect(made).toBeLessThan(50);
  await reader?.cancel();
  await fn.settled();
});

test('waitUntil is waited for, and console and context.log are captured', async () => {
  const release = Promise.withResolvers<void>();
  const fn = createTestFunction((_, context) => {
    console.warn('one %d', 1, { a: [1] });
    context.log.info('two', { n: 2 });
    context.waitUntil(release.promise.then(() => context.log.debug('three')));
    context.waitUntil(Promise.reject(new Error('in the background')));
    return new Response('done');
  });
  const response = await fn.fetch('/');
  let isSettled = false;
  const settled = fn.settled().then(() => (isSettled = true));
  expect([await response.text(), isSettled]).toEqual(['done', false]);
  release.resolve();
  await settled;
  expect(fn.logs.map(({ level, message }) => [level, message.split('\n')[0]])).toEqual([
    ['warn', 'one 1 { a: [ 1 ] }'],
    ['info', 'two'],
    ['error', expect.stringContaining('in the background')],
    ['debug', 'three'],
  ]);
  expect(fn.logs[1]).toMatchObject({
    fields: { n: 2 },
    invocation: response.headers.get('skiff-invocation-id'),
  });
});

test('calls reach what the test declares, with depth and deadline, and nothing else', async () => {
  const callee = (request: Request, context: { remainingMs(): number }): Response =>
    Response.json({
      caller: request.headers.get('skiff-caller'),
      depth: request.headers.get('skiff-call-depth'),
      isShort: context.remainingMs() <= 500,
    });
  const fn = createTestFunction(
    async (request, context) => {
      if (request.url.endsWith('/undeclared')) await context.invoke('nobody');
      const one = await context.invoke('callee', { json: { a: 1 } });
      const two = await fetch('http://callee.skiff/x', { method: 'POST', body: 'x' });
      return Response.json([one instanceof Response, await one.json(), await two.json()]);
    },
    { name: 'caller', timeoutMs: 500, calls: { callee } },
  );
  const seen = { caller: 'caller', depth: '1', isShort: true };
  expect(await (await fn.fetch('/')).json()).toEqual([true, seen, seen]);
  expect(await (await fn.fetch('/undeclared')).json()).toMatchObject({
    detail: expect.stringContaining('does not declare calls of "nobody" (it declares callee)'),
  });
});

test('loops are detected', async () => {
  const calls: Record<string, TestFunction> = {};
  const fn = createTestFunction(
    async (_, context) => {
      try {
        return await context.invoke('self');
      } catch (error) {
        return new Response((error as Error).message);
      }
    },
    { calls },
  );
  calls['self'] = fn;
  expect(await (await fn.fetch('/')).text()).toContain(
    'functions called each other 17 deep; the limit is 16',
  );
});

test('a function of JSON checks its input and is invoked with its types', async () => {
  const fn = createTestFunction(
    defineFunction({
      input: z.object({ n: z.number().max(10) }),
      handle: ({ n }, context) => ({ half: n / 2, by: context.functionName }),
    }),
  );
  expect(await fn.invoke({ n: 4 })).toEqual({ half: 2, by: 'function' });
  const refused = await fn.invoke({ n: 40 }).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(ClientError);
  expect(refused).toMatchObject({ code: 'BAD_REQUEST', detail: expect.stringMatching(/^n: /) });
  const broken = await fn.fetch('/', { method: 'POST', body: '{' });
  expect([broken.status, await broken.json()]).toEqual([
    400,
    expect.objectContaining({ code: 'BAD_REQUEST' }),
  ]);
});

test('a generator is streamed line by line, and ended when its reader leaves', async () => {
  let isEnded = false;
  const fn = createTestFunction(
    defineFunction({
      async *handle() {
        try {
          for (let n = 0; ; n++) yield { n };
        } finally {
          isEnded = true;
        }
      },
    }),
  );
  const response = await fn.fetch('/', { method: 'POST' });
  expect(response.headers.get('content-type')).toBe('application/x-ndjson');
  const reader = response.body?.getReader();
  const first = await reader?.read();
  expect(new TextDecoder().decode(first?.value)).toMatch(/^\{"n":0\}\n/);
  await reader?.cancel();
  await expect.poll(() => isEnded).toBe(true);
});

test('what a function of JSON returns decides the answer', async () => {
  const answers = [{ a: 1 }, null, undefined, new Response('as it is', { status: 202 })];
  const seen = [];
  for (const value of answers) {
    const response = await createTestFunction(defineFunction({ handle: () => value })).fetch('/');
    seen.push([response.status, await response.text()]);
  }
  expect(seen).toEqual([
    [200, '{"a":1}'],
    [200, 'null'],
    [204, ''],
    [202, 'as it is'],
  ]);
});
