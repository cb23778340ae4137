/** H5, H6, H8: a durable store that is damaged, full, read-only, busy or slow, and workers that hear nothing any more. */
import { mkdtemp, open, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Consumer } from '../../../gateway/events/consume/consumer.ts';
import type { Call } from '../../../gateway/invoke/call.ts';
import { openPayloads } from '../../../infra/events/payloads.ts';
import { EventStore } from '../../../infra/events/store.ts';
import { durable } from '../../helpers/keys.ts';
import { openBlockingRedis, openRedis } from '../../../infra/lib/redis.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { openTestEventParts, type TestEventParts } from '../../helpers/event-parts.ts';
import { acceptOne, createAcceptance, EPOCH } from '../../helpers/event-store.ts';
import { startRedis } from '../../helpers/redis.ts';
import { startRedisProxy } from '../../helpers/redis-proxy.ts';
import { waitFor } from '../../helpers/wait.ts';

const NAME = 'degraded';
let parts: TestEventParts;
beforeAll(async () => {
  parts = await openTestEventParts();
  await parts.deploy(NAME, {});
});
afterAll(() => parts?.close());

async function accept(): Promise<string> {
  const deployment = (await parts.routes.get(NAME))?.targets[0]?.deployment;
  if (!deployment) throw new Error('not deployed');
  const head = { method: 'POST', url: 'http://x/', headers: [] };
  const event = { deployment, head, body: Buffer.from('body'), options: {}, origin: 'http' };
  return (await parts.acceptor.accept(event)).id;
}

async function refusal(): Promise<Partial<SkiffError>> {
  const error: unknown = await accept().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SkiffError);
  return error as SkiffError;
}

const unfinished = () => parts.store.countUnfinished();

describe('H6: a store that cannot serve is said to be so, and nothing is half written', () => {
  test('full: refused as not accepted, and taken again when there is room', async () => {
    const before = [await unfinished(), await parts.redis.dbsize()];
    await parts.redis.config('SET', 'maxmemory', '1');
    expect(await refusal()).toMatchObject({
      code: expect.stringMatching(/NOT_DURABLE|OVERLOADED/) as string,
    });
    expect([await unfinished(), await parts.redis.dbsize()]).toEqual(before);
    await parts.redis.config('SET', 'maxmemory', '0');
    await accept();
    expect(await unfinished()).toBe((before[0] as number) + 1);
  });

  test('read-only: refused as not accepted', async () => {
    const before = await unfinished();
    await parts.redis.call('REPLICAOF', '127.0.0.1', '1');
    expect(await refusal()).toMatchObject({ code: 'NOT_DURABLE', details: { maybeAccepted: false } });
    await parts.redis.call('REPLICAOF', 'NO', 'ONE');
    expect(await unfinished()).toBe(before);
    await accept();
  });

  test('busy with somebody’s script: refused as not accepted within its time, and taken again afterwards', async () => {
    await parts.redis.config('SET', 'busy-reply-threshold', '50');
    const other = openRedis(parts.server.url, { commandTimeout: 60_000 });
    await other.connect();
    const running = other.eval('while true do end', 0).catch(() => {});
    await waitFor('a busy store', async () => {
      const error: unknown = await parts.redis.ping().catch((reason: unknown) => reason);
      return error instanceof Error && error.message.startsWith('BUSY');
    });
    expect(await refusal()).toMatchObject({ code: 'NOT_DURABLE', details: { maybeAccepted: false } });
    await parts.redis.call('SCRIPT', 'KILL');
    await running;
    other.disconnect();
    await accept();
  });

  test('silent: it may have been accepted, and that is said', async () => {
    const before = await unfinished();
    const admin = openRedis(parts.server.url, { commandTimeout: 60_000 });
    await admin.connect();
    await admin.call('CLIENT', 'PAUSE', '2600', 'WRITE');
    expect(await refusal()).toMatchObject({ code: 'NOT_DURABLE', details: { maybeAccepted: true } });
    await waitFor('the write that was under way', async () => (await unfinished()) === before + 1);
    admin.disconnect();
  });
});

test('H8: workers that hear nothing any more are noticed by their lack of progress, and replaced', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-deaf-'));
  const proxy = await startRedisProxy(parts.server.socket, join(folder, 'relay.sock'));
  const connections = [openBlockingRedis(proxy.url), openBlockingRedis(proxy.url)];
  const [connection, subscriber] = connections as [(typeof connections)[0], (typeof connections)[0]];
  await Promise.all(connections.map((one) => one.connect()));
  const ran: string[] = [];
  const consumer = new Consumer({
    ...parts,
    id: 'gw-deaf',
    payloads: openPayloads(openRegistry({ url: 'http://127.0.0.1:9' }), parts.redis),
    versions: { get: () => Promise.resolve(undefined) },
    run(call) {
      ran.push(call.id);
      call.response.writeHead(200, []);
      call.response.end();
      return {} as Call;
    },
    describeGroup: () => Promise.resolve(Buffer.from('[]')),
    isLinked: () => true,
    connection,
    subscriber,
    concurrency: 4,
    namespaceMax: 100,
    deafMs: 1_500,
    log: pino({ level: 'silent' }),
  });
  try {
    await consumer.open();
    const first = await accept();
    await waitFor('an ordinary event', () => ran.includes(first));
    // What the workers wait with never reaches the store: as with a connection that nobody says is dead.
    const traps = Array.from({ length: 4 }, () => proxy.trapCommand(/bzpopmin/i));
    await Promise.all(traps.map(({ sprung }) => sprung));
    const second = await accept();
    await waitFor('the event that nobody heard of', () => ran.includes(second), 20_000);
    await waitFor('its end', async () => (await parts.store.getState(second)) === 'succeeded');
  } finally {
    await consumer.close(500);
    for (const one of connections) one.disconnect();
    await proxy.close();
    await rm(folder, { recursive: true, force: true });
  }
});

describe('H5: a damaged append-only file', () => {
  async function withDamage(damage: (file: string) => Promise<void>) {
    const dataDir = await mkdtemp(join(tmpdir(), 'skiff-aof-'));
    const server = await startRedis({ persistent: true, dataDir });
    const redis = openRedis(server.url);
    await redis.connect();
    await redis.set(durable.epoch, EPOCH);
    const store = new EventStore(redis);
    const ids: string[] = [];
    for (let i = 0; i < 20; i++) {
      const acceptance = createAcceptance({ delayMs: 60_000 });
      await acceptOne(store, acceptance);
      ids.push(acceptance.id);
    }
    redis.disconnect();
    await server.stop();
    const folder = join(dataDir, 'appendonlydir');
    const name = (await readdir(folder)).find((each) => each.endsWith('.incr.aof')) as string;
    await damage(join(folder, name));
    return { server, ids, dataDir };
  }

  test('whose end was cut: it starts, with everything but what was cut', async () => {
    const { server, ids, dataDir } = await withDamage(async (file) =>
      truncate(file, (await stat(file)).size - 40),
    );
    await server.start();
    const redis = openRedis(server.url);
    await redis.connect();
    const store = new EventStore(redis);
    const states = await Promise.all(ids.slice(0, -1).map((id) => store.getState(id)));
    expect(new Set(states)).toEqual(new Set(['delayed']));
    expect(await redis.get(durable.epoch)).toBe(EPOCH);
    redis.disconnect();
    await server.close();
    await rm(dataDir, { recursive: true, force: true });
  });

  test('with wrong bytes in its middle: it refuses to start and names the tool; it is never silently empty', async () => {
    const { server, dataDir } = await withDamage(async (file) => {
      const handle = await open(file, 'r+');
      await handle.write(Buffer.alloc(64, 0xff), 0, 64, Math.floor((await handle.stat()).size / 2));
      await handle.close();
    });
    await expect(server.start()).rejects.toThrow(/Bad file format reading the append only file/);
    await server.close();
    await rm(dataDir, { recursive: true, force: true });
  });
});
