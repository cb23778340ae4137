import { beforeAll, describe, expect, it } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

describe('failures have one cause and tell whose fault it is', () => {
  const server = useServer();
  let url: string;

  beforeAll(async () => {
    url = await server.deploy('failures', functionFixture('behaviour.ts'), {
      timeout: '1s',
      memory: '128MB',
      concurrency: 4,
    });
  });

  async function failed(path: string, init?: RequestInit) {
    const response = await fetch(url + path, init);
    const problem = (await response.json()) as Record<string, unknown>;
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(response.headers.get('skiff-cause')).toBe(problem['cause']);
    expect(response.headers.get('skiff-invocation-id')).toBe(problem['invocationId']);
    expect(response.headers.get('server-timing')).toMatch(/exec;dur=/);
    return { status: response.status, ...problem } as unknown as Record<string, unknown> & {
      invocationId: string;
      detail: string;
    };
  }

  async function logged(invocation: string, pattern: RegExp): Promise<void> {
    await expect
      .poll(async () => JSON.stringify(await server.logs('failures', { invocation })), { timeout: 5_000 })
      .toMatch(pattern);
  }

  it.each(['/throw', '/reject'])(
    '%s: 500 handler_error, the stack is in the logs and not in the answer',
    async (path) => {
      const problem = await failed(path);
      expect(problem).toMatchObject({
        status: 500,
        cause: 'handler_error',
        fault: 'function',
        code: 'HANDLER_ERROR',
      });
      expect(JSON.stringify(problem)).not.toMatch(/a secret in a message|rejected later|at /);
      await logged(problem.invocationId, /behaviour\.ts:\d+/);
    },
  );

  it('something that is not a Response is a handler_error', async () => {
    expect(await failed('/not-a-response')).toMatchObject({ status: 500, cause: 'handler_error' });
  });

  it('a handler that takes too long is a 504 that names the limit', async () => {
    const problem = await failed('/deaf?ms=5000');
    expect(problem).toMatchObject({ status: 504, cause: 'timeout' });
    expect(problem.detail).toContain('1000 ms');
  });

  it('a handler that spins is a 504 too, and its sandbox is replaced', async () => {
    expect(await failed('/spin')).toMatchObject({ status: 504, cause: 'timeout' });
    await expect.poll(async () => (await fetch(`${url}/`)).status, { timeout: 5_000 }).toBe(200);
  });

  it('a process that ends is a crash', async () => {
    expect(await failed('/exit')).toMatchObject({ status: 502, cause: 'crash' });
    expect((await fetch(`${url}/`)).status).toBe(200);
  });

  it.each(['/memory', '/heap'])('%s: out of memory says so, with the limit', async (path) => {
    const roomy = await server.deploy('memory', functionFixture('behaviour.ts'), {
      timeout: '20s',
      memory: '128MB',
    });
    const response = await fetch(`${roomy}${path}`);
    const problem = (await response.json()) as Record<string, unknown>;
    expect(problem).toMatchObject({ status: 502, cause: 'out_of_memory' });
    expect(problem['detail']).toContain('128 MB');
    expect((await fetch(`${url}/`)).status).toBe(200);
  });

  it('a body over the limit is a 413 before anything runs, also when its length is not told', async () => {
    const small = await server.deploy('small-body', functionFixture('behaviour.ts'), { maxBody: '100kb' });
    const told = await fetch(`${small}/upload`, { method: 'POST', body: Buffer.alloc(200_000) });
    expect([told.status, ((await told.json()) as { code: string }).code]).toEqual([413, 'BODY_TOO_LARGE']);
    let pieces = 40;
    const body = new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        controller.enqueue(new Uint8Array(50_000));
        if (--pieces === 0) controller.close();
      },
    });
    const untold = await fetch(`${small}/upload`, {
      method: 'POST',
      body,
      duplex: 'half',
    } as RequestInit).catch(() => undefined);
    // The server may close while the client still sends; then fetch sees a reset.
    if (untold) expect(untold.status).toBe(413);
  });

  it('a client that goes away aborts the signal of the handler', async () => {
    const controller = new AbortController();
    const before = Number(await (await fetch(`${url}/aborted`)).text());
    const hanging = fetch(`${url}/wait-for-abort`, { signal: controller.signal }).catch(() => 'gone');
    await new Promise((resolve) => setTimeout(resolve, 150));
    controller.abort();
    expect(await hanging).toBe('gone');
    await expect
      .poll(async () => Number(await (await fetch(`${url}/aborted`)).text()), { timeout: 3_000 })
      .toBeGreaterThan(before);
  });

  it('clients that leave in the middle of quick answers cost nobody else anything', async () => {
    const quick = await server.deploy('leavers', functionFixture('behaviour.ts'), { max: 1 });
    const before = await (await fetch(`${quick}/`)).text();
    for (let i = 0; i < 20; i++) {
      const controller = new AbortController();
      const calls = Array.from({ length: 16 }, () =>
        fetch(`${quick}/`, { signal: controller.signal }).catch(() => {}),
      );
      await new Promise((resolve) => setTimeout(resolve, 2));
      controller.abort();
      await Promise.all(calls);
    }
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const after = await fetch(`${quick}/`);
    expect(after.status).toBe(200);
    // The same process has counted all along: it was not killed.
    expect(Number((await after.text()).split(' ')[1])).toBeGreaterThan(Number(before.split(' ')[1]));
    expect(after.headers.get('server-timing')).toContain('cold;dur=0,');
  });

  it('the deadline a handler sees is its time-out', async () => {
    const left = Number(await (await fetch(`${url}/deadline`)).text());
    expect(left).toBeGreaterThan(500);
    expect(left).toBeLessThanOrEqual(1_000);
  });

  it('the first byte and the pause between bytes have clocks of their own', async () => {
    const clocks = await server.deploy('clocks', functionFixture('behaviour.ts'), {
      timeout: '20s',
      firstByteTimeout: '300ms',
      idleTimeout: '400ms',
    });
    const late = await fetch(`${clocks}/slow?ms=5000`);
    expect(late.status).toBe(504);
    expect(((await late.json()) as { detail: string }).detail).toContain('first-byte');
    const started = performance.now();
    const stalled = await fetch(`${clocks}/stall`);
    expect(stalled.status).toBe(200);
    await expect(stalled.text()).rejects.toThrow();
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it('work after the response goes on', async () => {
    expect(await (await fetch(`${url}/background`)).text()).toBe('answered');
    await expect
      .poll(async () => (await fetch(`${url}/background-done`)).text(), { timeout: 3_000 })
      .not.toBe('0');
  });

  it('logs carry the invocation id, the level and the fields', async () => {
    const id = await (await fetch(`${url}/log?a=1`)).text();
    await logged(id, /plain \?a=1/);
    await logged(id, /"answer":42/);
    const lines = await server.logs('failures', { invocation: id });
    expect(lines.find((line) => line.message.includes('to the error stream'))?.level).toBe('error');
  });
});
