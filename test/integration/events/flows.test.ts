/**
 * Why fan-in is a count of our own and not a BullMQ flow: a flow's parent waits for the ends of jobs, and an invocation
 * ends neither when its job does (it sleeps, is retried, shares a job with others) nor only through it (it is cancelled,
 * expires, gets another job when one is lost). Each difference, in BullMQ and in ours.
 */
import { FlowProducer, Queue, Worker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StepStore } from '../../../infra/events/steps.ts';
import type { Begun } from '../../../infra/events/wire.ts';
import { openBlockingRedis } from '../../../infra/lib/redis.ts';
import {
  CONSUMER,
  createAcceptance,
  createEnd,
  EPOCH,
  finishOne,
  openTestEventStore,
  type TestEventStore,
} from '../../helpers/event-store.ts';
import { events } from '../../helpers/keys.ts';

let on: TestEventStore;
let connection: Redis;
beforeAll(async () => {
  on = await openTestEventStore();
  connection = openBlockingRedis(on.server.url);
  await connection.connect();
});
afterAll(async () => {
  connection?.disconnect();
  await on?.close();
});

describe("BullMQ's parent", () => {
  const prefix = '{flows}';
  let flows: FlowProducer;
  let queue: Queue;
  let worker: Worker;
  beforeAll(async () => {
    flows = new FlowProducer({ connection, prefix });
    queue = new Queue('children', { connection, prefix });
    worker = new Worker('children', null, { connection, prefix, autorun: false });
    await worker.waitUntilReady();
  });
  afterAll(() => Promise.all([flows?.close(), queue?.close(), worker?.close()]));

  async function addFlow(children: readonly string[]): Promise<Job> {
    const parts = children.map((name) => ({ name, queueName: 'children', opts: { jobId: name } }));
    const { job } = await flows.add({ name: 'parent', queueName: 'parents', children: parts });
    expect(await job.getState()).toBe('waiting-children');
    return job;
  }

  test('goes on when the job of its child has completed, as it does at each sleep and after each failed try', async () => {
    const parent = await addFlow(['sleeps']);
    const job = (await worker.getNextJob('token-1')) as Job;
    await job.moveToCompleted('suspended until tomorrow', 'token-1', false);
    expect(await parent.getState()).toBe('waiting');
  });

  test('goes on when the job of its child is lost, though another one is made for it', async () => {
    const parent = await addFlow(['lost']);
    await (await queue.getJob('lost'))?.remove();
    await queue.add('lost', {}, { jobId: 'lost-again' });
    expect(await parent.getState()).toBe('waiting');
    await queue.remove('lost-again');
  });

  test('waits for ever for a child that failed, unless each says otherwise', async () => {
    const parent = await addFlow(['fails']);
    const job = (await worker.getNextJob('token-2')) as Job;
    await job.moveToFailed(new Error('stalled more often than allowed'), 'token-2', false);
    expect(await queue.getJobCounts('waiting', 'active', 'delayed')).toMatchObject({ waiting: 0, active: 0 });
    expect(await parent.getState()).toBe('waiting-children');
  });
});

describe('ours', () => {
  async function acceptGroup(): Promise<{ follower: string; member: string }> {
    const follower = createAcceptance({ waitsForGroup: true });
    const member = createAcceptance({ group: follower.id });
    const written = await on.store.acceptMany([follower, member], EPOCH);
    expect(written?.replies.map(({ kind }) => kind)).toEqual(['accepted', 'accepted']);
    return { follower: follower.id, member: member.id };
  }
  async function begin(id: string): Promise<Begun> {
    const job = (await on.redis.hget(events.record(id), 'job')) ?? '';
    const { begun } = await on.store.begin(CONSUMER, 10_000, job, [id]);
    return begun[0] as Begun;
  }
  const stateOf = (id: string) => on.store.getState(id);

  test('waits while its member sleeps, is retried and has lost its job, and goes on at its end', async () => {
    const { follower, member } = await acceptGroup();
    const first = await begin(member);
    await new StepStore(on.redis).put(first, { step: 'sleep', kind: 'sleep', ms: 0 }, 1e12);
    expect(
      await finishOne(on.store, createEnd(first, { follows: 'wait', outcome: 'suspended' })),
    ).toMatchObject({
      state: 'waiting',
    });
    expect(await stateOf(follower)).toBe('waiting');
    await on.store.promote(10);
    const failed = createEnd(await begin(member), {
      follows: 'retry',
      outcome: 'function_error',
      delayMs: 0,
    });
    await finishOne(on.store, failed);
    expect(await stateOf(follower)).toBe('waiting');
    await on.store.promote(10);
    const { count } = await on.store.sweep(-1, 10, 'no-such-job:');
    expect(count).toBe(1);
    expect(await stateOf(follower)).toBe('waiting');
    await finishOne(on.store, createEnd(await begin(member)));
    expect(await stateOf(follower)).toBe('ready');
  });

  test('goes on when its member is cancelled, expires or is dead', async () => {
    const cancelled = await acceptGroup();
    await on.store.cancel(cancelled.member);
    const expired = await acceptGroup();
    await on.redis.zadd(events.expiry, 0, expired.member);
    await on.store.expire(10);
    const dead = await acceptGroup();
    const end = createEnd(await begin(dead.member), {
      follows: 'dead',
      outcome: 'rejected',
      reason: 'rejected',
    });
    await finishOne(on.store, end);
    expect(await Promise.all([cancelled, expired, dead].map(({ member }) => stateOf(member)))).toEqual([
      'cancelled',
      'expired',
      'dead',
    ]);
    for (const { follower } of [cancelled, expired, dead]) expect(await stateOf(follower)).toBe('ready');
  });
});
