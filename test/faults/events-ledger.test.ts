/**
 * A client's own ledger against a server whose processes are killed at random: what was accepted runs at least once,
 * nothing hangs, duplicates are counted, and the sum over idempotent results is exact.
 * LEDGER_EVENTS=20000 makes it long, FAULTLESS_EVENTS=10000000 the run before it, in which nothing is killed.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient, type Client, type InvocationRecord } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { untilReady } from '../helpers/event-server.ts';
import { functionFixture } from '../helpers/fixtures.ts';
import { startServer, type TestServer } from '../helpers/server.ts';
import { waitFor } from '../helpers/wait.ts';

const EVENTS = Number(process.env['LEDGER_EVENTS'] ?? 2_000);
const FAULTLESS = Number(process.env['FAULTLESS_EVENTS'] ?? 1_000);
const KILLS = Math.max(12, Math.ceil(EVENTS / 500));
const LANES = 16;
const VICTIMS = [
  'gateway',
  'events',
  'runner',
  'redis',
  'events',
  'runner',
  'redis',
  'gateway',
  'builder',
  'redis-fast',
];
/** The function's slots: no more of its events can be under way when something dies. */
const WINDOW = 10 * 16;

let server: TestServer;
let client: Client;

beforeAll(async () => {
  server = await startServer();
  client = createClient({ url: server.url, token: server.adminToken });
  const { files, entry } = findSource(functionFixture('events.ts'));
  const config = { async: { retries: 10, backoff: '200ms' } };
  await client.deploy('ledger', { source: () => packSource(files), entry, config });
});
afterAll(() => server?.stop());

/** One number, sent with its key until it is accepted. Returns its id. */
async function submit(n: number): Promise<string> {
  return waitFor(
    `acceptance of ${n}`,
    async () => {
      const response = await fetch(`${server.url}/f/ledger/number?n=${n}`, {
        method: 'POST',
        headers: { prefer: 'respond-async', 'idempotency-key': `number-${n}` },
        signal: AbortSignal.timeout(5_000),
      }).catch(() => undefined);
      if (response?.status !== 202) {
        await response?.body?.cancel().catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 100));
        return undefined;
      }
      const body = (await response.json().catch(() => undefined)) as { id: string } | undefined;
      return body?.id;
    },
    120_000,
  );
}

async function inLanes<Item, Result>(
  items: readonly Item[],
  run: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results = Array.from<Result>({ length: items.length });
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await run(items[i] as Item);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return results;
}

/** Until there is an answer: the last victims may still be coming up. */
const ask = <Value>(what: string, read: () => Promise<Value>): Promise<Value> =>
  waitFor(what, () => read().catch(() => undefined), 60_000) as Promise<Value>;

async function killAtRandom(isDone: () => boolean): Promise<string[]> {
  const killed: string[] = [];
  while (killed.length < KILLS && !isDone()) {
    await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 1_500));
    const victim = VICTIMS[Math.floor(Math.random() * VICTIMS.length)] as string;
    try {
      server.kill(victim);
      killed.push(victim);
    } catch {
      // It is down already.
    }
  }
  return killed;
}

test(
  `G3: without faults each of ${FAULTLESS} events is executed once`,
  { timeout: 60_000 + FAULTLESS },
  async () => {
    const { files, entry } = findSource(functionFixture('events.ts'));
    // One sandbox that stays: its own count is that of all executions.
    const config = { min: 1, max: 1, concurrency: 100, async: { retries: 10 } };
    await client.deploy('counted', { source: () => packSource(files), entry, config });
    const counters = async () => (await client.eventStats()).counters as Record<string, number | undefined>;
    const before = await counters();
    const event = { function: 'counted', path: '/count?key=all' };
    const batches = Array.from({ length: Math.ceil(FAULTLESS / 250) }, (_, i) =>
      Array.from({ length: Math.min(250, FAULTLESS - i * 250) }, () => event),
    );
    await inLanes(batches, async (batch) => {
      const receipts = await client.submit(batch);
      expect(receipts.filter((receipt) => !('id' in receipt))).toEqual([]);
      // No more than fit the function's limit of waiting events.
      await waitFor('room', async () => (await client.eventStats()).unfinished < 50_000, 600_000);
    });
    const succeeded = (before['succeeded'] ?? 0) + FAULTLESS;
    await waitFor(
      'all to end',
      async () => ((await counters())['succeeded'] ?? 0) >= succeeded,
      60_000 + FAULTLESS,
    );
    const after = await counters();
    expect(after['succeeded']).toBe(succeeded);
    expect(after['outcome:lost'] ?? 0).toBe(before['outcome:lost'] ?? 0);
    const last = (await (await client.fetch('counted', { path: '/count?key=all' })).json()) as {
      calls: number;
    };
    expect(last.calls).toBe(FAULTLESS + 1);
  },
);

test(`${EVENTS} accepted events all end while processes are killed`, { timeout: 900_000 }, async () => {
  const numbers = Array.from({ length: EVENTS }, (_, n) => n);
  let isDone = false;
  const killing = killAtRandom(() => isDone);
  const ids = await inLanes(numbers, submit);
  isDone = true;
  const killed = await killing;
  await untilReady(server);
  expect(new Set(ids).size, 'one id for each number').toBe(EVENTS);

  const stats = () =>
    server.fetch('/v1/events/stats').then((response) => response.json() as Promise<{ unfinished: number }>);
  await waitFor(
    'nothing unfinished',
    async () => (await stats().catch(() => undefined))?.unfinished === 0,
    300_000,
  );
  const records = await inLanes(ids, (id) => ask(id, () => client.invocation(id)));
  const dead = records.filter(({ state }) => state !== 'succeeded');
  // Only those whose attempts were lost again and again may be dead; a replay is what an operator does.
  expect(dead.filter(({ reason }) => reason !== 'poison_suspect')).toEqual([]);
  if (dead.length > 0) await ask('replay', () => client.replay({ ids: dead.map(({ id }) => id) }));
  const ended = await inLanes(records, async (record) =>
    record.state === 'succeeded'
      ? record
      : ask(record.id, () => client.waitFor(record.id, { waitMs: 30_000 })),
  );
  expect(ended.filter(({ state }) => state !== 'succeeded')).toEqual([]);

  const results = await inLanes(ids, (id) =>
    ask(id, async () => (await (await client.result(id)).json()) as { n: number }),
  );
  expect(results.reduce((sum, { n }) => sum + n, 0)).toBe((EVENTS * (EVENTS - 1)) / 2);
  report(ended, killed, dead.length);
});

function report(records: readonly InvocationRecord[], killed: readonly string[], deadCount: number): void {
  const attempts = records.flatMap((record) => record.attempts);
  const lost = attempts.filter(({ outcome }) => outcome === 'lost').length;
  const counts = Object.entries(Object.groupBy(attempts, ({ outcome }) => outcome ?? 'none')).map(
    ([outcome, list]) => `${outcome} ${list?.length}`,
  );
  const kills = Object.entries(Object.groupBy(killed, (name) => name)).map(
    ([name, list]) => `${name} ${list?.length}`,
  );
  console.log(
    `${records.length} events, killed: ${kills.join(', ')}; attempts: ${counts.join(', ')}; replayed: ${deadCount}`,
  );
  // Every second execution has a lost attempt before it, and a death can lose no more than was under way.
  expect(attempts.filter(({ outcome }) => outcome === 'ok')).toHaveLength(records.length);
  expect(lost).toBeLessThanOrEqual(killed.length * WINDOW);
  for (const { attempts: own } of records) {
    const fences = own.map(({ fence }) => fence);
    expect(fences).toEqual([...fences].sort((a, b) => a - b));
  }
}
