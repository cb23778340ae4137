/** An event store on a real Redis of its own, and acceptances with every field filled in. */
import type { Redis } from 'ioredis';
import { durable } from './keys.ts';
import type { ReleasedJob } from '../../infra/events/shards.ts';
import { EventStore } from '../../infra/events/store.ts';
import {
  type Acceptance,
  type AcceptReply,
  type AttemptEnd,
  type Begun,
  type EndReply,
} from '../../infra/events/wire.ts';
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
    destinations: '',
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

/** One acceptance with what it released; `foreign_store` when the epoch is another one. */
export async function acceptOne(
  store: EventStore,
  acceptance: Acceptance,
  epoch = EPOCH,
): Promise<(AcceptReply | { kind: 'foreign_store' }) & { jobs: ReleasedJob[] }> {
  const written = await store.acceptMany([acceptance], epoch);
  if (!written) return { kind: 'foreign_store', jobs: [] };
  return { ...(written.replies[0] as AcceptReply), jobs: written.jobs };
}

export const CONSUMER = 'con-1';

export async function finishOne(
  store: EventStore,
  end: AttemptEnd,
): Promise<EndReply & { jobs: ReleasedJob[] }> {
  const { replies, jobs } = await store.finishMany(CONSUMER, 10_000, [end]);
  return { ...(replies[0] as EndReply), jobs };
}

/** An end of this attempt: succeeded unless `fields` say otherwise. */
export function createEnd(
  { id, fence, number = 1 }: Pick<Begun, 'id' | 'fence'> & { readonly number?: number },
  fields: Partial<AttemptEnd> = {},
): AttemptEnd {
  return {
    id,
    fence,
    number,
    startedMs: Date.now(),
    follows: 'succeeded',
    outcome: 'ok',
    counts: false,
    detail: { status: 200 },
    ...fields,
  };
}
