import { describe, expect, test } from 'vitest';
import { waitFor } from '../../helpers/wait.ts';
import { GuestDriver, header } from './guest-driver.ts';

const wrap = (body: string): string => `exports.default = ${body};`;

describe('shapes of a function', () => {
  test.each([
    ['a default export', wrap('async () => new Response("ok")')],
    ['module.exports itself', 'module.exports = () => new Response("ok")'],
    ['an object with fetch', wrap('{ word: "ok", fetch() { return new Response(this.word) } }')],
    ['a default inside a default', wrap('{ default: () => new Response("ok") }')],
  ])('serves %s', async (_name, source) => {
    await using guest = await GuestDriver.load({ source });
    expect((await guest.call()).text).toBe('ok');
  });

  test('serves an ES module', async () => {
    await using guest = await GuestDriver.load({
      source: 'export default () => new Response("esm")',
      isModule: true,
    });
    expect((await guest.call()).text).toBe('esm');
  });

  test('gives the context as second and third argument of fetch, as Hono expects', async () => {
    const source = wrap(
      '{ fetch: (request, env, execution) => new Response(String(env === execution && typeof execution.waitUntil)) }',
    );
    await using guest = await GuestDriver.load({ source });
    expect((await guest.call()).text).toBe('function');
  });

  test('says what is wrong when nothing can be called, and ends', async () => {
    await using guest = await GuestDriver.load({ source: 'exports.handler = 1' });
    expect(guest.loaded).toMatchObject({ ok: false, message: expect.stringContaining('exports no handler') });
    expect(await guest.exit).toBe(1);
  });

  test('reports message and stack of a module that throws, and ends', async () => {
    await using guest = await GuestDriver.load({
      source: 'function boot() { throw new Error("no database") }\nboot()',
    });
    expect(guest.loaded).toMatchObject({
      ok: false,
      message: 'Error: no database',
      stack: expect.stringContaining('index.cjs:1:'),
    });
    expect(await guest.exit).toBe(1);
  });
});

describe('what a handler sees', () => {
  test('method, url, headers, body and context', async () => {
    const source = wrap(`async (request, ctx) => Response.json({
      method: request.method, url: request.url, is: request instanceof Request,
      headers: [...request.headers], body: await request.text(), used: request.bodyUsed,
      ctx: { id: ctx.invocationId, name: ctx.functionName, deployment: ctx.deployment, attempt: ctx.attempt,
             trace: ctx.traceparent, env: ctx.env.COLOR, left: ctx.remainingMs() > 0, deadline: ctx.deadline.getTime() },
      env: process.env.COLOR, title: process.title })`);
    await using guest = await GuestDriver.load({ source, env: { COLOR: 'blue' } });
    const deadlineMs = Date.now() + 5_000;
    const answer = await guest.call({
      method: 'POST',
      url: 'http://demo.test/a/../b?q=1',
      headers: [
        ['x-a', '1'],
        ['x-a', '2'],
      ],
      body: '\ufeffgrüße',
      traceparent: '00-1-1-01',
      attempt: 2,
      deadlineMs,
    });
    expect(JSON.parse(answer.text)).toEqual({
      method: 'POST',
      url: 'http://demo.test/b?q=1',
      is: true,
      headers: [['x-a', '1, 2']],
      body: 'grüße',
      used: true,
      ctx: {
        id: 'inv-1',
        name: 'demo',
        deployment: 'dep-1',
        attempt: 2,
        trace: '00-1-1-01',
        env: 'blue',
        left: true,
        deadline: deadlineMs,
      },
      env: 'blue',
      title: 'skiff demo',
    });
    expect(header(answer.head?.headers, 'content-type')).toEqual(['application/json']);
  });

  test.each([
    ['json', 'JSON.stringify(await request.json())', '{"a":1}'],
    ['bytes', 'String((await request.bytes()).length)', '7'],
    ['arrayBuffer', 'String((await request.arrayBuffer()).byteLength)', '7'],
    ['blob', 'await (await request.blob()).text()', '{"a":1}'],
    ['clone', '(await request.clone().text()) + (await request.text())', '{"a":1}{"a":1}'],
    ['body', '(await new Response(request.body).text())', '{"a":1}'],
    ['new Request(request)', 'await new Request(request).text()', '{"a":1}'],
    ['new Request(request, init)', 'await new Request(request, { headers: { x: "y" } }).text()', '{"a":1}'],
    ['a second read', 'await request.text(), await request.text().catch((error) => error.name)', 'TypeError'],
    ['text after body', 'request.body, await request.text()', '{"a":1}'],
    ['rare properties', 'request.redirect + request.cache', 'followdefault'],
  ])('reads the body by %s', async (_name, expression, expected) => {
    await using guest = await GuestDriver.load({
      source: wrap(`async (request) => new Response((${expression}))`),
    });
    expect((await guest.call({ method: 'POST', body: '{"a":1}' })).text).toBe(expected);
  });

  test('reads forms', async () => {
    await using guest = await GuestDriver.load({
      source: wrap('async (request) => new Response((await request.formData()).get("name"))'),
    });
    const headers = [['content-type', 'application/x-www-form-urlencoded']] as const;
    expect((await guest.call({ method: 'POST', headers, body: 'name=ada' })).text).toBe('ada');
  });

  test('has no body where none was sent', async () => {
    const source = wrap(
      'async (request) => Response.json([request.body, await request.text(), request.bodyUsed])',
    );
    await using guest = await GuestDriver.load({ source });
    expect((await guest.call({ method: 'POST' })).text).toBe('[null,"",false]');
  });

  test('may set request headers', async () => {
    const source = wrap(
      '(request) => { request.headers.set("a", "b"); return new Response(request.clone().headers.get("a")) }',
    );
    await using guest = await GuestDriver.load({ source });
    expect((await guest.call()).text).toBe('b');
  });
});

describe('answers', () => {
  test('leave in one frame when they are small', async () => {
    await using guest = await GuestDriver.load({
      source: wrap('() => new Response("small", { headers: { "X-A": "1" } })'),
    });
    const answer = await guest.call();
    expect(answer.head).toEqual({
      status: 200,
      headers: [
        ['x-a', '1'],
        ['content-type', 'text/plain;charset=UTF-8'],
      ],
    });
    expect(answer.frames).toBe(2);
  });

  test('of real Response objects with a body at hand leave in one frame too', async () => {
    await using guest = await GuestDriver.load({ source: wrap('() => new Response(new Blob(["blob"]))') });
    const answer = await guest.call();
    expect([answer.text, answer.frames]).toEqual(['blob', 2]);
  });

  test('keep every Set-Cookie', async () => {
    const source = wrap(`(request) => {
      const headers = new Headers([['set-cookie', 'a=1'], ['set-cookie', 'b=2']]);
      const response = request.url.endsWith('light') ? new Response('', { headers }) : new Response(new Blob([]), { headers });
      response.headers.append('set-cookie', 'c=3');
      return response;
    }`);
    await using guest = await GuestDriver.load({ source });
    for (const url of ['http://demo.test/light', 'http://demo.test/real']) {
      expect(header((await guest.call({ url })).head?.headers, 'set-cookie')).toEqual(['a=1', 'b=2', 'c=3']);
    }
  });

  test('to HEAD have headers and no body', async () => {
    const source = wrap(
      '(request) => request.url.endsWith("s") ? new Response(new Blob(["body"]).stream(), { headers: { "content-length": "4" } }) : new Response("body")',
    );
    await using guest = await GuestDriver.load({ source });
    for (const url of ['http://demo.test/', 'http://demo.test/s']) {
      const answer = await guest.call({ method: 'HEAD', url });
      expect([answer.head?.status, answer.bytes, answer.frames]).toEqual([200, 0, 2]);
    }
  });

  test.each([204, 205, 304])('of status %i have no body', async (status) => {
    await using guest = await GuestDriver.load({
      source: wrap(`() => new Response(null, { status: ${status} })`),
    });
    const answer = await guest.call();
    expect([answer.head?.status, answer.bytes]).toEqual([status, 0]);
  });

  test.each([
    ['a number', '42', 'a value of type number'],
    ['nothing', 'undefined', 'undefined'],
    ['a string', '"hi"', 'a value of type string'],
    ['a plain object', '({ a: 1 })', 'a value of type Object'],
  ])('that are %s are a handler error', async (_name, value, described) => {
    await using guest = await GuestDriver.load({ source: wrap(`() => ${value}`) });
    const { failure } = await guest.call();
    expect(failure).toMatchObject({ cause: 'handler_error', started: true });
    expect(failure?.message).toContain(`the handler returned ${described}`);
  });

  test('with headers beyond the limit are a handler error', async () => {
    await using guest = await GuestDriver.load({
      source: wrap('() => new Response("", { headers: { a: "x".repeat(40000) } })'),
    });
    expect((await guest.call()).failure?.message).toContain('the limit is 32768');
  });

  test('redirect, and JSON with own headers', async () => {
    const source = wrap(`(request) => request.url.endsWith('r') ? Response.redirect('http://x.test/', 303)
      : Response.json({ a: 1 }, { status: 201, headers: { 'content-type': 'application/vnd.a+json' } })`);
    await using guest = await GuestDriver.load({ source });
    expect((await guest.call({ url: 'http://demo.test/r' })).head).toMatchObject({
      status: 303,
      headers: [['location', 'http://x.test/']],
    });
    expect((await guest.call()).head).toEqual({
      status: 201,
      headers: [['content-type', 'application/vnd.a+json']],
    });
  });
});

describe('failures', () => {
  test('of a handler name its error and the line in the bundle', async () => {
    await using guest = await GuestDriver.load({
      source: wrap('async () => {\n  throw new TypeError("broken")\n}'),
    });
    const { failure, isEnded } = await guest.call();
    expect(isEnded).toBe(true);
    expect(failure).toMatchObject({ cause: 'handler_error', message: 'TypeError: broken', started: true });
    expect(failure?.stack).toMatch(/index\.cjs:2:9/);
    expect((await guest.call()).failure?.message).toBe('TypeError: broken');
  });

  test('of every kind of thrown value are reported', async () => {
    const source = wrap(
      'async (request) => { throw { a: 1, b: null, c: Symbol("x"), d: "text" }[request.url.at(-1)] }',
    );
    await using guest = await GuestDriver.load({ source });
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      expect((await guest.call({ url: `http://demo.test/${name}` })).failure?.message).toMatch(/^thrown: /);
    }
  });

  test('of a waitUntil promise are logged and do not end the process', async () => {
    const source = wrap(
      '(request, ctx) => { ctx.waitUntil(Promise.reject(new Error("later"))); return new Response("ok") }',
    );
    await using guest = await GuestDriver.load({ source });
    const answer = await guest.call();
    expect(answer.text).toBe('ok');
    expect(answer.logs).toMatchObject([{ level: 'error', message: expect.stringContaining('later') }]);
    expect((await guest.call()).text).toBe('ok');
  });

  test.each([
    ['an uncaught error', 'setTimeout(() => { throw new Error("stray") })', 'uncaught error: Error: stray'],
    ['an unhandled rejection', 'Promise.reject(new Error("stray"))', 'unhandled rejection: Error: stray'],
  ])(
    'outside of handlers, %s, are logged with their invocation and end the process with 1',
    async (_name, code, message) => {
      await using guest = await GuestDriver.load({
        source: wrap(`async () => { ${code}; await new Promise(() => {}) }`),
      });
      const { answer } = guest.open();
      expect(await guest.exit).toBe(1);
      expect(answer.logs).toMatchObject([{ level: 'error', message: expect.stringContaining(message) }]);
    },
  );

  test('go to the function when it listens for them itself', async () => {
    const source = `process.on('uncaughtException', () => {});\n${wrap('async () => { setTimeout(() => { throw new Error("stray") }); return new Response("ok") }')}`;
    await using guest = await GuestDriver.load({ source });
    const { answer } = guest.open();
    await waitFor('the log line', () => answer.logs.length === 1 || guest.logs.length === 1);
    expect((await guest.call()).text).toBe('ok');
  });
});
