import { once } from 'node:events';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Redis } from 'ioredis';
import { createLog } from '../../../infra/lib/log.ts';
import { openBlockingRedis, openRedis } from '../../../infra/lib/redis.ts';
import { Inbox } from '../../../runner/invoke/inbox.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { waitFor } from '../../helpers/wait.ts';

const KEY = 'inbox';
let server: TestRedis;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = openRedis(server.url);
  await redis.connect();
});
afterAll(async () => {
  redis.disconnect();
  await server.close();
});

/** What it reads; it is stopped as a runner stops it. */
async function read() {
  const connection = openBlockingRedis(server.url);
  await connection.connect();
  const entries: string[] = [];
  const inbox = new Inbox({
    redis: connection,
    key: KEY,
    onEntry(entry) {
      if (entry.toString() === 'nonsense') throw new Error('it cannot be parsed');
      entries.push(entry.toString());
    },
    log: createLog('test', 'silent'),
  });
  const run = inbox.run();
  async function stop(): Promise<void> {
    inbox.stop();
    const ended = connection.status === 'end' || once(connection, 'end');
    connection.disconnect();
    await Promise.all([ended, run]);
  }
  onTestFinished(stop);
  return { entries, stop };
}

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => String(from + i));

test('entries are read once and in order, one by one and many together, after a quiet time too', async () => {
  const { entries } = await read();
  for (const one of numbers(0, 100)) await redis.rpush(KEY, one);
  await redis.rpush(KEY, 'nonsense', ...numbers(100, 1_000));
  await waitFor('all', () => entries.length >= 1_100);
  // All reads that were asked for have ended without one.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  await redis.rpush(KEY, 'late');
  await waitFor('the last', () => entries.length > 1_100);
  expect(entries).toEqual([...numbers(0, 1_100), 'late']);
});

test('a connection that ends is replaced, and nothing is read twice', async () => {
  const { entries } = await read();
  await redis.rpush(KEY, 'before');
  await waitFor('the first', () => entries.length === 1);
  expect(await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')).toBe(1);
  await redis.rpush(KEY, ...numbers(0, 20));
  await waitFor('the rest', () => entries.length >= 21);
  expect(entries).toEqual(['before', ...numbers(0, 20)]);
});

test('one that is stopped takes nothing more', async () => {
  const { entries, stop } = await read();
  await redis.rpush(KEY, 'first');
  await waitFor('the first', () => entries.length === 1);
  await stop();
  await redis.rpush(KEY, 'second');
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(entries).toEqual(['first']);
  expect(await redis.lpop(KEY)).toBe('second');
});
