/** G16: what the release before this one has written, in every state there is, is brought to its end by this one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Consumer } from '../../../gateway/events/consume/consumer.ts';
import { Pump } from '../../../gateway/events/consume/pump.ts';
import type { Call } from '../../../gateway/invoke/call.ts';
import { openPayloads } from '../../../infra/events/payloads.ts';
import { StepStore } from '../../../infra/events/steps.ts';
import { openBlockingRedis } from '../../../infra/lib/redis.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import { isFinal } from '../../../sdk/protocol/events.ts';
import { openTestEventParts, type TestEventParts } from '../../helpers/event-parts.ts';
import { events } from '../../helpers/keys.ts';
import { waitFor } from '../../helpers/wait.ts';

const before = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/events-before.json'), 'utf8'),
) as { invocations: Record<string, string>; keys: Record<string, string> };

let parts: TestEventParts;
beforeAll(async () => {
  parts = await openTestEventParts();
  await parts.redis.flushall();
  for (const [key, dump] of Object.entries(before.keys))
    await parts.redis.restore(key, 0, Buffer.from(dump, 'base64'), 'REPLACE');
  for (const name of ['upgrade', 'other', 'lines', 'flow']) await parts.deploy(name);
});
afterAll(() => parts?.close());

test('events of the release before are neither lost nor stuck, run in order, and leave no place taken', async () => {
  const connections = [openBlockingRedis(parts.server.url), openBlockingRedis(parts.server.url)];
  const [connection, subscriber] = connections as [(typeof connections)[0], (typeof connections)[0]];
  await Promise.all(connections.map((one) => one.connect()));
  const payloads = openPayloads(openRegistry({ url: 'http://127.0.0.1:9' }), parts.redis);
  const log = pino({ level: 'silent' });
  const ran: string[] = [];
  const consumer = new Consumer({
    ...parts,
    id: 'gw-new',
    payloads,
    versions: { get: () => Promise.resolve(undefined) },
    run(call) {
      ran.push(call.id);
      call.response.writeHead(200, []);
      call.response.end(call.body);
      return {} as Call;
    },
    describeGroup: () => Promise.resolve(Buffer.from('[]')),
    isLinked: () => true,
    connection,
    subscriber,
    concurrency: 4,
    namespaceMax: 2,
    log,
  });
  const pump = new Pump({ store: parts.store, queues: parts.queues, payloads, log, sweepAfterMs: 200 });
  // A place that a consumer of the release before has not given back, as it did not know of it.
  await parts.redis.zadd(events.space(''), 0, before.invocations['dead'] as string);
  await consumer.open();
  pump.open();
  try {
    const { dead, ...others } = before.invocations;
    const waiting = others['waits for an event'] as string;
    await waitFor('all but one to end', async () => (await parts.store.countUnfinished()) === 1, 30_000);
    expect((await parts.store.get(waiting))?.state).toBe('waiting');
    const { ids, jobs } = await new StepStore(parts.redis).signal('go', { n: 1, more: true });
    await parts.queues.add(jobs);
    expect(ids).toEqual([waiting]);
    await waitFor('the last one', async () => (await parts.store.countUnfinished()) === 0, 20_000);
    for (const [name, id] of Object.entries(others)) {
      const record = await parts.store.get(id);
      expect([name, record?.state, isFinal(record?.state ?? 'ready')]).toEqual([name, 'succeeded', true]);
      expect((await parts.store.getResult(id))?.body.toString()).toBe(name);
      expect(ran.filter((each) => each === id)).toHaveLength(1);
    }
    expect(ran.indexOf(others['first in line'] as string)).toBeLessThan(
      ran.indexOf(others['second in line'] as string),
    );
    expect((await parts.store.get(others['running'] as string))?.lost).toBe(1);
    expect((await parts.store.get(dead as string))?.state).toBe('dead');
    await parts.store.redrive(dead as string, 60_000, undefined);
    await waitFor(
      'the replay',
      async () => (await parts.store.get(dead as string))?.state === 'succeeded',
      20_000,
    );
    const left = await parts.redis.zcard(events.space(''));
    expect(left).toBe(0);
  } finally {
    await pump.close();
    await consumer.close(0);
    for (const one of connections) one.disconnect();
  }
});
