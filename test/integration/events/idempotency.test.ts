/** Idempotency records of synchronous calls, on a real Redis. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { events } from '../../helpers/keys.ts';
import { IdempotencyRecords } from '../../../infra/events/idempotency.ts';
import {
  acceptOne,
  createAcceptance,
  openTestEventStore,
  type TestEventStore,
} from '../../helpers/event-store.ts';

let opened: TestEventStore;
let records: IdempotencyRecords;
beforeEach(async () => {
  opened = await openTestEventStore();
  records = new IdempotencyRecords(opened.redis);
});
afterEach(() => opened.close());

const result = {
  head: { status: 201, headers: [['a', 'b']] as const, bytes: 2 },
  body: Buffer.from([0, 255]),
  blob: undefined,
};

test('one of many claims is new, the others see it run and then its answer', async () => {
  const claims = await Promise.all(
    Array.from({ length: 20 }, (_, i) => records.claim('f/k', 'print', `inv-${i}`, 10_000)),
  );
  const [winner] = claims.flatMap(({ kind }, i) => (kind === 'new' ? [`inv-${i}`] : []));
  expect(claims.filter(({ kind }) => kind === 'new')).toHaveLength(1);
  expect(claims.filter(({ kind }) => kind === 'running')).toHaveLength(19);
  await records.finish('f/k', winner as string, result);
  expect(await records.claim('f/k', 'print', 'inv-x', 10_000)).toEqual({ kind: 'done', id: winner, result });
  expect(await records.claim('f/k', 'other', 'inv-x', 10_000)).toEqual({ kind: 'other_request', id: winner });
});

test('when its holder dies the outcome is unknown, and it is never run again', async () => {
  await records.claim('f/k', 'print', 'inv-1', 1);
  await new Promise((resolve) => setTimeout(resolve, 5));
  for (let i = 0; i < 2; i++) {
    expect(await records.claim('f/k', 'print', 'inv-2', 10_000)).toEqual({ kind: 'unknown', id: 'inv-1' });
  }
  // The holder was only paused: knowing is better.
  await records.finish('f/k', 'inv-1', result);
  expect(await records.claim('f/k', 'print', 'inv-2', 10_000)).toMatchObject({ kind: 'done' });
});

test('a holder that renews is not given up', async () => {
  await records.claim('f/k', 'print', 'inv-1', 1);
  await records.renew('f/k', 'inv-1', 10_000);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await records.claim('f/k', 'print', 'inv-2', 10_000)).toEqual({ kind: 'running', id: 'inv-1' });
});

test('a key whose call did not run is free again, and only its holder can free it', async () => {
  await records.claim('f/k', 'print', 'inv-1', 10_000);
  await records.release('f/k', 'inv-2');
  expect(await records.claim('f/k', 'print', 'inv-3', 10_000)).toMatchObject({ kind: 'running' });
  await records.release('f/k', 'inv-1');
  expect(await records.claim('f/k', 'print', 'inv-3', 10_000)).toEqual({ kind: 'new' });
});

test('an answer is kept for a day from its end, and afterwards the key is new', async () => {
  await records.claim('f/k', 'print', 'inv-1', 10_000);
  await records.finish('f/k', 'inv-1', result);
  const ttl = await opened.redis.pttl(events.idempotency('f/k'));
  expect(ttl).toBeGreaterThan(86_390_000);
  expect(ttl).toBeLessThanOrEqual(86_400_000);
  await opened.redis.pexpire(events.idempotency('f/k'), 1);
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(await records.claim('f/k', 'other', 'inv-2', 10_000)).toEqual({ kind: 'new' });
});

test('a key of an event and a key of a call are one: the second is another request', async () => {
  const idempotency = { scope: 'hello/k', fingerprint: 'async print' };
  const acceptance = createAcceptance({ idempotency });
  await acceptOne(opened.store, acceptance);
  expect(await records.claim('hello/k', 'sync print', 'inv-1', 10_000)).toEqual({
    kind: 'other_request',
    id: acceptance.id,
  });
});
