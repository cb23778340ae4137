/** An event store on a real Redis of its own, and acceptances with every field filled in. */
import type { Redis } from 'ioredis';
import { durable } from '../../infra/contract/keys.ts';
import { EventStore, type Acceptance } from '../../infra/events/store.ts';
import { openRedis } from '../../infra/lib/redis.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import { startRedis, type TestRedis } from './redis.ts';

export const EPOCH = 'epoch-of-the-test';

export interface TestEventStore {
  readonly server: TestRedis;
  readonly redis: Redis;
  readonly store: EventStore;
  close(): Promise<void>;
}

export async function openTestEventStore(): Promise<TestEventStore> {
  const server = await startRedis();
  const redis = openRedis(server.url);
  await redis.connect();
  await redis.set(durable.epoch, EPOCH);
  return {
    server,
    redis,
    store: new EventStore(redis),
    async close() {
      redis.disconnect();
      await server.close();
    },
  };
}

export function createAcceptance(fields: Partial<Acceptance> = {}): Acceptance {
  return {
    id: createId('inv'),
    functionName: 'hello',
    delayMs: 0,
    maxAgeMs: 3_600_000,
    priority: 1,
    line: undefined,
    policy: { retries: 2, backoffMs: 30_000, backoffMsMax: 900_000, resultMs: 60_000 },
    window: 64,
    rate: 0,
    origin: { from: 'http' },
    head: { method: 'POST', url: 'http://localhost/', headers: [['content-type', 'text/plain']] },
    body: Buffer.from('body'),
    blob: undefined,
    idempotency: undefined,
    countMax: 1_000_000,
    bytesMax: 1e12,
    ...fields,
  };
}
