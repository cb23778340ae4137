import { request as httpRequest } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { useServer } from '../../helpers/shared-server.ts';
import { functionFixture } from '../../helpers/fixtures.ts';

describe('HTTP through the whole way', () => {
  const server = useServer();
  let echo: string;
  let behaviour: string;

  beforeAll(async () => {
    [echo, behaviour] = await Promise.all([
      server.deploy('http-echo', functionFixture('echo.ts'), { env: { GREETING: 'ahoy' } }),
      server.deploy('http-behaviour', functionFixture('behaviour.ts')),
    ]);
  });

  async function echoed(path: string, init?: RequestInit): Promise<Record<string, unknown>> {
    const response = await fetch(echo + path, init);
    expect(response.status).toBe(200);
    return (await response.json()) as Record<string, unknown>;
  }

  it('the function sees method, path after its name, query and environment', async () => {
    const seen = await echoed('/a/b%20c/../d?x=1&y=%2F', { method: 'PATCH', body: 'hi' });
    expect(seen).toMatchObject({ method: 'PATCH', query: '?x=1&y=%2F', bodyBytes: 2, greeting: 'ahoy' });
    expect(seen['path']).toBe('/a/d');
    expect(await echoed('')).toMatchObject({ path: '/', query: '' });
    expect(await echoed('?only=query')).toMatchObject({ path: '/', query: '?only=query' });
  });

  it.each(['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])('%s arrives as it is', async (method) => {
    expect(await echoed('/m', { method })).toMatchObject({ method });
  });

  it('the function sees the client address and no hop-by-hop header', async () => {
    const seen = await echoed('/', {
      headers: { 'x-custom': 'kept', 'x-forwarded-for': '6.6.6.6', forwarded: 'for=6.6.6.6' },
    });
    const headers = Object.fromEntries(seen['headers'] as [string, string][]);
    expect(headers).toMatchObject({
      'x-custom': 'kept',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
    });
    expect(headers['forwarded']).toMatch(/^for=127\.0\.0\.1;host=".+";proto=http$/);
    expect(headers).not.toHaveProperty('connection');
    expect(headers['skiff-invocation-id']).toBe(seen['invocationId']);
  });

  it('bodies of every size arrive whole', async () => {
    for (const bytes of [0, 1, 65_535, 65_536, 65_537, 1_000_000]) {
      expect(await echoed('/', { method: 'POST', body: Buffer.alloc(bytes, 7) })).toMatchObject({
        bodyBytes: bytes,
      });
    }
  });

  it('a chunked body without a length streams in', async () => {
    const body = new ReadableStream({
      async start(controller) {
        for (let i = 0; i < 5; i++) {
          controller.enqueue(new TextEncoder().encode(`piece ${i};`));
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        controller.close();
      },
    });
    const seen = await echoed('/', { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(Buffer.from(seen['body'] as string, 'base64').toString()).toBe(
      'piece 0;piece 1;piece 2;piece 3;piece 4;',
    );
  });

  it('keeps several Set-Cookie headers and drops platform and hop-by-hop headers', async () => {
    const cookies = await fetch(`${behaviour}/cookies`);
    expect(cookies.headers.getSetCookie()).toEqual(['a=1; Path=/', 'b=2; HttpOnly']);
    const forged = await fetch(`${behaviour}/platform-headers`);
    expect(forged.headers.get('skiff-invocation-id')).toMatch(/^inv-/);
    expect(forged.headers.get('x-kept')).toBe('yes');
    expect(forged.headers.get('keep-alive')).not.toBe('timeout=1');
  });

  it('every answer has its invocation id, deployment and Server-Timing', async () => {
    const response = await fetch(`${behaviour}/`);
    expect(response.headers.get('skiff-invocation-id')).toMatch(/^inv-[0-9a-z]{26}$/);
    expect(response.headers.get('skiff-deployment')).toMatch(/^dep-/);
    expect(response.headers.get('server-timing')).toMatch(
      /queue;dur=[\d.]+, cold;dur=[\d.]+, exec;dur=[\d.]+/,
    );
  });

  it('redirects, statuses, empty and binary bodies come back as they are', async () => {
    const redirect = await fetch(`${behaviour}/redirect`, { redirect: 'manual' });
    expect([redirect.status, redirect.headers.get('location')]).toEqual([
      302,
      'http://example.test/elsewhere',
    ]);
    const empty = await fetch(`${behaviour}/empty`);
    expect([empty.status, await empty.text()]).toEqual([204, '']);
    expect((await fetch(`${behaviour}/teapot`)).status).toBe(418);
    const binary = new Uint8Array(await (await fetch(`${behaviour}/binary`)).arrayBuffer());
    expect([...binary]).toEqual(Array.from({ length: 256 }, (_, i) => i));
  });

  it('HEAD has the headers and no body, and the connection stays usable', async () => {
    const head = await fetch(`${behaviour}/teapot`, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([418, '']);
    expect(await (await fetch(`${behaviour}/teapot`)).text()).toBe('short and stout');
  });

  it('an SSE response is seen event by event', async () => {
    const response = await fetch(`${behaviour}/sse`);
    const seen: { text: string; atMs: number }[] = [];
    const started = performance.now();
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      seen.push({ text: Buffer.from(chunk).toString(), atMs: performance.now() - started });
    }
    expect(seen.map((one) => one.text).join('')).toBe('data: 1\n\ndata: 2\n\ndata: 3\n\n');
    expect(seen.length).toBeGreaterThanOrEqual(3);
    expect((seen.at(-1) as { atMs: number }).atMs - (seen[0] as { atMs: number }).atMs).toBeGreaterThan(400);
  });

  it('a body can be echoed while it is still being sent', async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const url = new URL(`${behaviour}/echo-stream`);
    const client = httpRequest(url, { method: 'POST' }, (response) => {
      response.once('data', (chunk: Buffer) => {
        resolve(chunk.toString());
        client.end();
      });
      response.resume();
    });
    client.write('first part');
    expect(await promise).toBe('first part');
  });

  it('an object with fetch and a Hono app work as they are', async () => {
    const object = await server.deploy('http-object', functionFixture('object.ts'));
    expect(await (await fetch(`${object}/x`)).text()).toBe('object /x');
    const hono = await server.deploy('http-hono', functionFixture('hono-app'));
    expect(await (await fetch(`${hono}/hello/skiff`)).json()).toEqual({ hello: 'skiff' });
    const sum = await fetch(`${hono}/sum`, { method: 'POST', body: '[1,2,3]' });
    expect(await sum.json()).toEqual({ sum: 6 });
  });

  it('an unknown function is a 404 that says what to do', async () => {
    const response = await fetch(`${server.url}/f/no-such-function/`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ code: 'FUNCTION_NOT_FOUND', fault: 'caller' });
    expect((await fetch(`${server.url}/f/Bad_Name!/`)).status).toBe(404);
  });
});
