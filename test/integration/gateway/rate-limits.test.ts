import { connect } from 'node:net';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StallGuard } from '../../../gateway/edge/stall-guard.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

describe('rate limits', () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ env: { SKIFF_RATE_LIMIT_RPS: '5', SKIFF_API_RATE_LIMIT_RPS: '20' } });
  });
  afterAll(() => gateway.close());

  async function burst(count: number, send: () => Promise<Response>): Promise<Response[]> {
    const responses: Response[] = [];
    for (let i = 0; i < count; i++) {
      const response = await send();
      await response.body?.cancel();
      responses.push(response);
    }
    return responses;
  }

  it('calls of one address over the limit get 429 with the time to wait, and it passes', async () => {
    const responses = await burst(30, () => fetch(`${gateway.url}/f/nothing`));
    const refused = responses.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(10);
    expect(Number(refused[0]?.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(refused[0]?.headers.get('content-type')).toBe('application/problem+json');
    await expect
      .poll(async () => (await fetch(`${gateway.url}/f/nothing`)).status, { timeout: 5_000 })
      .toBe(404);
  });

  it('the API has a limit of its own: calls do not use it up', async () => {
    await burst(30, () => fetch(`${gateway.url}/f/nothing`));
    expect((await gateway.request('/v1/functions')).status).toBe(200);
  });

  it('the API over its limit is a 429 too', async () => {
    const responses = await burst(80, () => gateway.request('/v1/functions'));
    expect(responses.some(({ status }) => status === 429)).toBe(true);
  });
});

describe('guessing tokens', () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startGateway({ env: { SKIFF_API_RATE_LIMIT_RPS: '0' } });
  });
  afterAll(() => gateway.close());

  it('F6: is stopped after some tries, without a look at the store, and a good token goes on', async () => {
    expect((await gateway.request('/v1/functions')).status).toBe(200);
    const statuses = new Set<number>();
    for (let i = 0; i < 300; i++)
      statuses.add((await gateway.request('/v1/functions', { token: `skiff_guess${i}` })).status);
    expect([...statuses].sort((a, b) => a - b)).toEqual([401, 429]);
    const before = await commandsOf(gateway);
    for (let i = 0; i < 50; i++) await gateway.request('/v1/functions', { token: `skiff_more${i}` });
    expect((await commandsOf(gateway)) - before).toBeLessThan(20);
    expect((await gateway.request('/v1/functions')).status).toBe(200);
  });

  /** HGET is how a token is looked up. */
  async function commandsOf({ durableRedis }: TestGateway): Promise<number> {
    const info = await durableRedis.info('commandstats');
    return Number(/cmdstat_hget:calls=(\d+)/.exec(info)?.[1] ?? 0);
  }
});

describe('slow clients', () => {
  async function serve(handle: Parameters<typeof createServer>[1]) {
    const guard = new StallGuard(300);
    const server = createServer((request, response) => {
      guard.watch(request, response);
      handle?.(request, response);
    });
    guard.attach(server, 50);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
      port: (server.address() as AddressInfo).port,
      close: () => server.close().closeAllConnections(),
    };
  }

  const closeMs = async (port: number, text: string, isReading: boolean): Promise<number> => {
    const socket = connect(port, '127.0.0.1');
    const started = performance.now();
    socket.on('error', () => {});
    if (isReading) socket.resume();
    else socket.pause();
    socket.write(text);
    const timer = setTimeout(() => socket.destroy(), 3_000);
    // A paused socket does not notice the end: the server's side tells.
    await (isReading ? once(socket, 'close') : new Promise((resolve) => setTimeout(resolve, 1_500)));
    clearTimeout(timer);
    socket.destroy();
    return performance.now() - started;
  };

  it('E6: a body that stops coming ends the connection', async () => {
    const server = await serve((request) => void request.resume());
    try {
      expect(
        await closeMs(server.port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc', true),
      ).toBeLessThan(2_500);
    } finally {
      server.close();
    }
  });

  it('E6: an answer that is not taken ends the connection', async () => {
    let isEnded = false;
    const server = await serve((_request, response) => {
      response.on('close', () => (isEnded = true));
      response.write(Buffer.alloc(32 * 1024 * 1024));
    });
    try {
      await closeMs(server.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', false);
      expect(isEnded).toBe(true);
    } finally {
      server.close();
    }
  });

  it('a client that waits for a slow answer is left alone', async () => {
    const server = await serve((_request, response) => void setTimeout(() => response.end('late'), 1_000));
    try {
      expect(await (await fetch(`http://127.0.0.1:${server.port}/`)).text()).toBe('late');
    } finally {
      server.close();
    }
  });
});
