/** Destinations told by the outbox: a real Redis and real HTTP servers. */
import { Queue, Worker } from 'bullmq';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type EndedQueues, openEndedQueues } from '../../../gateway/events/outbox/ended-queue.ts';
import { Outbox } from '../../../gateway/events/outbox/outbox.ts';
import { parseOpened } from '../../../gateway/events/outbox/webhook-address.ts';
import { openWebhookSender, type WebhookSender } from '../../../gateway/events/outbox/webhook.ts';
import { durable, events } from '../../helpers/keys.ts';
import type { AttemptEnd } from '../../../infra/events/wire.ts';
import type { InvocationRecord } from '../../../sdk/protocol/events.ts';
import { DESTINATION_QUEUE_JOBS_MAX } from '../../../sdk/protocol/limits.ts';
import type { FunctionConfigInput } from '../../../sdk/protocol/manifest.ts';
import { CONSUMER, createEnd, finishOne } from '../../helpers/event-store.ts';
import { openTestEventParts, type TestEventParts } from '../../helpers/event-parts.ts';
import { startHttpServer, type TestServer } from '../../helpers/http-server.ts';
import { waitFor } from '../../helpers/wait.ts';

let parts: TestEventParts;
let outbox: Outbox;
let webhooks: WebhookSender;
let queued: EndedQueues;
let hook: TestServer;
let status: number;

beforeEach(async () => {
  parts = await openTestEventParts();
  status = 204;
  hook = await startHttpServer((_request, response) => void response.writeHead(status).end());
  open(['127.0.0.0/8']);
});
afterEach(async () => {
  await outbox.close();
  await webhooks.close();
  await queued.close();
  await hook.close();
  await parts.close();
});

function open(opened: readonly string[]): void {
  webhooks = openWebhookSender(parseOpened(opened));
  const secrets = {
    reveal: (names: readonly string[]) => Promise.resolve(new Map(names.map((name) => [name, 'key']))),
  };
  queued = openEndedQueues(parts.redis, () => {});
  outbox = new Outbox({ ...parts, webhooks, queued, secrets, log: pino({ level: 'silent' }) });
  outbox.open();
}

/** An invocation of `source` that ends as `fields` say. Returns its id. */
async function end(async: FunctionConfigInput['async'], fields: Partial<AttemptEnd>): Promise<string> {
  await parts.deploy('source', { async });
  const deployment = (await parts.routes.get('source'))?.targets[0]?.deployment;
  if (!deployment) throw new Error('not deployed');
  const head = { method: 'POST', url: 'http://x/', headers: [] };
  const { id } = await parts.acceptor.accept({
    deployment,
    head,
    body: Buffer.alloc(0),
    options: {},
    origin: 'http',
  });
  const job = (await parts.redis.hget(events.record(id), 'job')) as string;
  const { begun } = await parts.store.begin(CONSUMER, 10_000, job, [id]);
  await finishOne(parts.store, createEnd(begun[0] as (typeof begun)[0], fields));
  return id;
}

const destinationOf = async (id: string): Promise<InvocationRecord['destination']> =>
  (await parts.store.get(id))?.destination;

const result = {
  head: { status: 200, headers: [['content-type', 'application/json']] as const, bytes: 7 },
  body: Buffer.from('{"a":1}'),
  blob: undefined,
};

test('a URL is told of success by a signed CloudEvent with the result', async () => {
  const id = await end({ onSuccess: { url: `${hook.url}/done`, secret: 'KEY' } }, { result });
  await waitFor('delivery', async () => (await destinationOf(id))?.state === 'delivered');
  expect(hook.seen).toHaveLength(1);
  const { url, headers, body } = hook.seen[0] as (typeof hook.seen)[0];
  expect([url, headers['content-type']]).toEqual(['/done', 'application/cloudevents+json; charset=utf-8']);
  expect(headers['webhook-signature']).toMatch(/^v1,/);
  expect(JSON.parse(body.toString())).toMatchObject({
    specversion: '1.0',
    id: headers['webhook-id'],
    type: 'skiff.invocation.succeeded',
    subject: id,
    source: '/v1/functions/source',
    data: { invocation: id, state: 'succeeded', attempts: 1, result: { status: 200, body: { a: 1 } } },
  });
});

test('a URL that fails is told again with the same id, and the invocation has ended all the same', async () => {
  status = 500;
  const id = await end(
    { onFailure: { url: hook.url } },
    { follows: 'dead', outcome: 'rejected', reason: 'rejected' },
  );
  await waitFor('a second try', () => hook.seen.length >= 2);
  expect(await parts.store.get(id)).toMatchObject({
    state: 'dead',
    destination: { state: 'pending', error: expect.stringContaining('500') },
  });
  status = 200;
  await waitFor('delivery', async () => (await destinationOf(id))?.state === 'delivered');
  expect(new Set(hook.seen.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
});

test('another function is called once for one end, however often it is told', async () => {
  await parts.deploy('sink');
  const id = await end({ onSuccess: { function: 'sink' } }, { result });
  await waitFor('delivery', async () => (await destinationOf(id))?.state === 'delivered');
  // As if the teller had died before it wrote that it was done.
  await parts.redis.zadd(events.outbox, 0, id);
  await waitFor('delivery again', async () => (await parts.redis.zscore(events.outbox, id)) === null);
  const called = (await parts.store.getMany(await parts.redis.zrange(events.expiry, 0, '-1'))).filter(
    ({ functionName }) => functionName === 'sink',
  );
  expect(called).toMatchObject([{ origin: `invocation:${id}` }]);
  const request = await parts.store.getRequest(called[0]?.id ?? '');
  expect(JSON.parse(String(request?.body))).toMatchObject({ subject: id });
  expect(request?.head.headers).toContainEqual(['skiff-call-depth', '1']);
});

describe('a queue', () => {
  const prefix = durable.destinationPrefix;

  test('gets one job for one end, which a worker of the user’s reads', async () => {
    const id = await end({ onSuccess: { queue: 'done' } }, { result });
    await waitFor('delivery', async () => (await destinationOf(id))?.state === 'delivered');
    // As if the teller had died before it wrote that it was done.
    await parts.redis.zadd(events.outbox, 0, id);
    await waitFor('delivery again', async () => (await parts.redis.zscore(events.outbox, id)) === null);
    const seen: unknown[] = [];
    const connection = { path: parts.server.socket, maxRetriesPerRequest: null };
    const worker = new Worker('done', async ({ data }) => void seen.push(data), { connection, prefix });
    try {
      await waitFor('the job', () => seen.length > 0);
      const queue = new Queue('done', { connection: parts.redis, prefix });
      expect(await queue.getJobCounts('waiting', 'active', 'delayed')).toEqual({
        waiting: 0,
        active: 0,
        delayed: 0,
      });
      await queue.close();
    } finally {
      await worker.close();
    }
    expect(seen).toMatchObject([{ specversion: '1.0', subject: id, data: { result: { body: { a: 1 } } } }]);
  });

  test('that is full is tried again, and takes the end when there is room', async () => {
    const key = `${prefix}:full:wait`;
    await parts.redis.rpush(key, ...Array.from({ length: DESTINATION_QUEUE_JOBS_MAX }, (_, i) => `x${i}`));
    const id = await end({ onSuccess: { queue: 'full' } }, { result });
    const refusal = '10000 jobs wait in the queue "full"';
    await waitFor('a refusal', async () => (await destinationOf(id))?.error?.includes(refusal));
    expect(await destinationOf(id)).toMatchObject({ state: 'pending' });
    await parts.redis.del(key);
    await waitFor('delivery', async () => (await destinationOf(id))?.state === 'delivered', 10_000);
  });
});

test('what is not asked for is not told: success without onSuccess, and cancelled', async () => {
  const id = await end({ onFailure: { url: hook.url } }, { result });
  expect(await destinationOf(id)).toBeUndefined();
  expect(await parts.redis.zcard(events.outbox)).toBe(0);
});

test('a destination inside is refused, by address and by name, and given up in the end', async () => {
  await outbox.close();
  await webhooks.close();
  open([]);
  const byAddress = await end({ onSuccess: { url: hook.url } }, {});
  const byName = await end({ onSuccess: { url: hook.url.replace('127.0.0.1', 'localhost') } }, {});
  for (const id of [byAddress, byName]) {
    await waitFor('a refusal', async () => (await destinationOf(id))?.error?.includes('internal address'));
  }
  await parts.redis.hset(events.record(byAddress), 'outn', '19');
  await parts.redis.zadd(events.outbox, 0, byAddress);
  await waitFor('the end of tries', async () => (await destinationOf(byAddress))?.state === 'failed');
  expect(hook.seen).toEqual([]);
});

test('a redirect is not followed', async () => {
  const inner = await startHttpServer((_request, response) => void response.writeHead(200).end());
  const outer = await startHttpServer(
    (_request, response) => void response.writeHead(307, { location: inner.url }).end(),
  );
  const id = await end({ onSuccess: { url: outer.url } }, {});
  await waitFor('a try', async () => (await destinationOf(id))?.error?.includes('307'));
  expect(inner.seen).toEqual([]);
  await Promise.all([inner.close(), outer.close()]);
});
