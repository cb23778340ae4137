import { once } from 'node:events';
import { Agent, createServer, get } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { capConnections } from '../../../gateway/edge/connection-cap.ts';
import { RateLimiter } from '../../../gateway/edge/rate-limiter.ts';
import { tryFindFault } from '../../../gateway/edge/request-fault.ts';

describe('a rate limit', () => {
  it('grants a burst at once and then the rate', () => {
    const limiter = new RateLimiter({ ratePerSecond: 10, burst: 5 });
    const granted = Array.from({ length: 8 }, () => limiter.take('a', 0)).filter((waitMs) => waitMs === 0);
    expect(granted).toHaveLength(5);
    expect(limiter.take('a', 99)).toBeGreaterThan(0);
    expect(limiter.take('a', 100)).toBe(0);
    expect(limiter.take('a', 100)).toBe(100);
  });

  it('says how long to wait, and that is enough and not too much', () => {
    const limiter = new RateLimiter({ ratePerSecond: 4, burst: 2 });
    limiter.take('a', 0);
    limiter.take('a', 0);
    const waitMs = limiter.take('a', 0);
    expect(limiter.take('a', waitMs - 1)).toBeGreaterThan(0);
    expect(limiter.take('a', waitMs)).toBe(0);
  });

  it('one key does not use up another\u2019s', () => {
    const limiter = new RateLimiter({ ratePerSecond: 1, burst: 1 });
    expect([limiter.take('a', 0), limiter.take('b', 0)]).toEqual([0, 0]);
  });

  it('0 is no limit', () => {
    const limiter = new RateLimiter({ ratePerSecond: 0, burst: 1 });
    expect(Array.from({ length: 1_000 }, () => limiter.take('a', 0)).every((waitMs) => waitMs === 0)).toBe(
      true,
    );
  });

  it('never grants more than burst plus rate in any stretch of time', () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 });
    fc.assert(
      fc.property(
        gaps,
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 20 }),
        (steps, rate, burst) => {
          const limiter = new RateLimiter({ ratePerSecond: rate, burst });
          let now = 0;
          let granted = 0;
          for (const step of steps) {
            now += step;
            if (limiter.take('key', now) === 0) granted++;
          }
          expect(granted).toBeLessThanOrEqual(burst + (now * rate) / 1_000 + 1);
        },
      ),
    );
  });
});

describe('connections', () => {
  it('E7: connections of one address end at its limit; others are let in, and places come back', async () => {
    const server = createServer((_request, response) => response.end('served'));
    capConnections(server, 3);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const isServed = async (localAddress: string): Promise<boolean> => {
      const agent = new Agent();
      return new Promise((resolve) => {
        const request = get({ host: '127.0.0.1', port, localAddress, agent }, (response) => {
          response.resume().once('end', () => (agent.destroy(), resolve(true)));
        });
        request.once('error', () => resolve(false));
      });
    };
    const held = Array.from({ length: 3 }, () =>
      connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' }),
    );
    try {
      await Promise.all(held.map((socket) => once(socket, 'connect')));
      await expect.poll(() => isServed('127.0.0.2')).toBe(false);
      expect(await isServed('127.0.0.3')).toBe(true);
      held[0]?.destroy();
      await expect.poll(() => isServed('127.0.0.2')).toBe(true);
    } finally {
      for (const socket of held) socket.destroy();
      server.close();
    }
  });
});

describe('faults of a request', () => {
  it('an ordinary one has none', () => {
    expect(tryFindFault('/f/hello', ['Host', 'x', 'Accept', '*/*'])).toBeUndefined();
  });

  it.each([
    ['two hosts', '/', ['Host', 'a', 'HOST', 'b'], 'BAD_REQUEST'],
    ['a long URL', `/${'x'.repeat(9_000)}`, ['Host', 'a'], 'URL_TOO_LONG'],
    ['many headers', '/', Array.from({ length: 300 }, () => 'x'), 'HEAD_TOO_LARGE'],
  ])('%s', (_name, url, headers, code) => {
    expect(tryFindFault(url, headers)?.code).toBe(code);
  });
});
