/** What every runtime must do, run against a function that has a path for each behaviour. */
import { request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { useServer } from '../../helpers/shared-server.ts';

const MB = 1024 ** 2;
/** The first function of a runtime may have to wait for its base image. */
const FIRST_MS_MAX = 170_000;

export function describeRuntime(runtime: string, fixture: string): void {
  describe(`${runtime} conforms`, () => {
    const server = useServer();
    const name = `conform-${runtime.replaceAll(/[^a-z0-9]+/g, '-')}`;
    let url: string;

    beforeAll(async () => {
      url = await server.deploy(name, fixture, {
        runtime,
        timeout: '4s',
        memory: '192MB',
        concurrency: 8,
        // One at a time: some paths count what happened in their process.
        max: 1,
        env: { GREETING: 'ahoy' },
      });
    }, FIRST_MS_MAX);

    async function failed(path: string) {
      const response = await fetch(url + path);
      const problem = (await response.json()) as { cause: string; invocationId: string; detail: string };
      expect(response.headers.get('skiff-cause')).toBe(problem.cause);
      return { status: response.status, ...problem };
    }

    async function logged(invocation: string, pattern: RegExp): Promise<void> {
      await expect
        .poll(async () => JSON.stringify(await server.logs(name, { invocation })), { timeout: 8_000 })
        .toMatch(pattern);
    }

    it('the handler sees the request and its environment', async () => {
      const response = await fetch(`${url}/echo?x=1&y=%2F`, {
        method: 'PATCH',
        body: 'abc',
        headers: { 'x-custom': 'kept' },
      });
      const seen = (await response.json()) as Record<string, unknown>;
      expect(seen).toMatchObject({
        method: 'PATCH',
        path: '/echo',
        query: '?x=1&y=%2F',
        bodyBytes: 3,
        sum: 97 + 98 + 99,
        greeting: 'ahoy',
      });
      expect(Object.fromEntries(seen['headers'] as [string, string][])).toMatchObject({
        'x-custom': 'kept',
        'skiff-invocation-id': seen['invocationId'],
      });
      expect(response.headers.get('skiff-invocation-id')).toBe(seen['invocationId']);
    });

    it('statuses, several cookies, empty and binary bodies come back as they are', async () => {
      expect((await fetch(`${url}/teapot`)).status).toBe(418);
      const cookies = await fetch(`${url}/cookies`);
      expect(cookies.headers.getSetCookie()).toEqual(['a=1; Path=/', 'b=2; HttpOnly']);
      const empty = await fetch(`${url}/empty`);
      expect([empty.status, await empty.text()]).toEqual([204, '']);
      const binary = new Uint8Array(await (await fetch(`${url}/binary`)).arrayBuffer());
      expect([...binary]).toEqual(Array.from({ length: 256 }, (_, i) => i));
      const head = await fetch(`${url}/teapot`, { method: 'HEAD' });
      expect([head.status, await head.text()]).toEqual([418, '']);
    });

    it('bodies around the sizes of frames and windows arrive whole', async () => {
      for (const bytes of [0, 1, 65_535, 65_536, 65_537, 262_145, 3 * MB]) {
        const response = await fetch(`${url}/echo`, { method: 'POST', body: Buffer.alloc(bytes, 1) });
        expect(await response.json()).toMatchObject({ bodyBytes: bytes, sum: bytes });
      }
    });

    it('a response streams piece by piece', async () => {
      const response = await fetch(`${url}/sse`);
      const atMs: number[] = [];
      let text = '';
      for await (const chunk of response.body as ReadableStream<Uint8Array>) {
        atMs.push(performance.now());
        text += Buffer.from(chunk).toString();
      }
      expect(text).toBe('data: 1\n\ndata: 2\n\ndata: 3\n\n');
      expect((atMs.at(-1) as number) - (atMs[0] as number)).toBeGreaterThan(300);
    });

    it('a body is echoed while it is still being sent', async () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      const client = httpRequest(new URL(`${url}/echo-stream`), { method: 'POST' }, (response) => {
        response.once('data', (chunk: Buffer) => resolve(chunk.toString()));
        response.on('data', () => client.end());
      });
      client.write('first part');
      expect(await promise).toBe('first part');
    });

    it('16 MB pass in each direction', async () => {
      const down = await fetch(`${url}/download?bytes=${16 * MB}`);
      let bytes = 0;
      for await (const chunk of down.body as ReadableStream<Uint8Array>) bytes += chunk.length;
      expect(bytes).toBe(16 * MB);
      const up = await fetch(`${url}/upload`, { method: 'POST', body: Buffer.alloc(16 * MB) });
      expect(await up.text()).toBe(String(16 * MB));
    });

    it.each(['/throw', '/reject'])('%s is a handler_error with its stack in the logs alone', async (path) => {
      const problem = await failed(path);
      expect(problem).toMatchObject({ status: 500, cause: 'handler_error' });
      expect(JSON.stringify(problem)).not.toMatch(/a secret in a message|rejected later/);
      await logged(problem.invocationId, /behaviour\.(?:ts:\d+|py.{1,4}, line \d+)/);
    });

    it('what is no response is a handler_error', async () => {
      expect(await failed('/not-a-response')).toMatchObject({ status: 500, cause: 'handler_error' });
    });

    it('requests are handled at the same time', async () => {
      const started = performance.now();
      const answers = await Promise.all(
        Array.from({ length: 8 }, async () => (await fetch(`${url}/slow?ms=500`)).text()),
      );
      expect(answers).toEqual(Array.from({ length: 8 }, () => 'slow'));
      expect(performance.now() - started).toBeLessThan(3_000);
    });

    it('print and log lines carry the invocation, the level and the fields', async () => {
      const id = await (await fetch(`${url}/log?a=1`)).text();
      await logged(id, /plain \?a=1/);
      await logged(id, /"answer":42/);
      const lines = await server.logs(name, { invocation: id });
      expect(lines.find((line) => line.message.includes('to the error stream'))?.level).toBe('error');
    });

    it('work given to waitUntil goes on after the answer', async () => {
      expect(await (await fetch(`${url}/background`)).text()).toBe('answered');
      const done = async () => (await fetch(`${url}/background-done`)).text();
      await expect.poll(done, { timeout: 5_000 }).not.toBe('0');
    });

    it('a client that leaves cancels the handler', async () => {
      const count = async () => Number(await (await fetch(`${url}/aborted`)).text());
      const before = await count();
      const controller = new AbortController();
      const hanging = fetch(`${url}/wait-for-abort`, { signal: controller.signal }).catch(() => 'gone');
      await sleep(200);
      controller.abort();
      expect(await hanging).toBe('gone');
      await expect.poll(count, { timeout: 5_000 }).toBeGreaterThan(before);
    });

    it('a handler that takes too long is a timeout, also one that does not listen', async () => {
      const problem = await failed('/deaf?ms=20000');
      expect(problem).toMatchObject({ status: 504, cause: 'timeout' });
      expect(problem.detail).toContain('4000 ms');
    });

    it('a handler that spins is a timeout, and its sandbox is replaced', async () => {
      expect(await failed('/spin')).toMatchObject({ status: 504, cause: 'timeout' });
      await expect.poll(async () => (await fetch(`${url}/`)).status, { timeout: 20_000 }).toBe(200);
    });

    it('a process that ends is a crash, one that wants too much memory is out of memory', async () => {
      expect(await failed('/exit')).toMatchObject({ status: 502, cause: 'crash' });
      expect(await failed('/memory')).toMatchObject({ status: 502, cause: 'out_of_memory' });
      await expect.poll(async () => (await fetch(`${url}/`)).status, { timeout: 20_000 }).toBe(200);
    });
  });
}
