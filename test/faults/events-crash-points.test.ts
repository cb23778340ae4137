/**
 * The crash points of an event's way, each by its number in the README's table: real processes, SIGKILL, and a relay in
 * front of Redis that stops at the exact command.
 */
import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startEventServer, untilReady, type EventServer } from '../helpers/event-server.ts';
import { waitFor } from '../helpers/wait.ts';

let events: EventServer;
beforeAll(async () => {
  events = await startEventServer();
});
afterAll(() => events?.close());

/** A trap that was not sprung, or a connection that is still held, would be the next test's failure too. */
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  events.proxy.mend();
  await untilReady(events.server);
  await stats();
});

/** Leases and locks last 10 s, and are looked at every few seconds. */
const TAKEOVER_MS = 40_000;

const send = (path: string, headers: Record<string, string> = {}, body = 'x'): Promise<Response> =>
  fetch(`${events.url}${path}`, { method: 'POST', body, headers: { prefer: 'respond-async', ...headers } });

async function accept(path: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await send(path, headers);
  expect(response.status).toBe(202);
  return ((await response.json()) as { id: string }).id;
}

/** A server is ready again a moment before each of its connections is. */
const stats = () =>
  waitFor('statistics', async () => {
    const response = await events.server.fetch('/v1/events/stats');
    if (!response.ok) return false;
    return (await response.json()) as { unfinished: number; counters: { accepted: number } };
  });

const unfinished = async (): Promise<number> => (await stats()).unfinished;

const accepted = async (): Promise<number> => (await stats()).counters.accepted;

async function untilRunning(id: string): Promise<void> {
  await waitFor(`${id} to run`, async () => (await events.client.invocation(id)).state === 'running', 20_000);
}

test('1: the gateway dies before the write is sent: reset, nothing was accepted', async () => {
  const before = await accepted();
  const { hostname, port } = new URL(events.url);
  const socket = connect(Number(port), hostname);
  const closed = new Promise((resolve) => socket.on('close', resolve).on('error', () => {}));
  socket.write(
    `POST /f/ledger/ HTTP/1.1\r\nhost: x\r\nprefer: respond-async\r\ncontent-length: 100\r\n\r\nonly the beginning`,
  );
  await new Promise((resolve) => socket.once('ready', resolve).once('connect', resolve));
  await events.killAndWait('gateway');
  await closed;
  expect(await accepted()).toBe(before);
});

test('2, 3: the gateway dies between write and 202: reset, maybe accepted; with a key the repeat is the same', async () => {
  const headers = { 'idempotency-key': randomUUID() };
  const trap = events.proxy.trapReply('accept');
  const first = send('/', headers).then(
    () => 'answered',
    () => 'reset',
  );
  await trap.sprung;
  await events.killAndWait('gateway');
  expect(await first).toBe('reset');
  const id = await accept('/', headers);
  expect(await events.end(id)).toMatchObject({ state: 'succeeded', attempts: [{ number: 1 }] });
  expect(await accept('/', headers)).toBe(id);
  expect(await events.executions(id)).toBe(1);
});

test('4: the gateway dies after the 202: the event runs', async () => {
  const id = await accept('/', { 'skiff-delay': '1s' });
  await events.killAndWait('gateway');
  expect(await events.end(id)).toMatchObject({ state: 'succeeded' });
  expect(await events.executions(id)).toBe(1);
});

test('5: the queue dies before the write reaches it: 503, not accepted', async () => {
  const before = await accepted();
  const trap = events.proxy.trapCommand('accept');
  const answer = send('/');
  await trap.sprung;
  await events.durable.stop();
  const response = await answer;
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({ code: 'NOT_DURABLE', maybeAccepted: true });
  await events.durable.start();
  await untilReady(events.server);
  expect(await accepted()).toBe(before);
});

test('6: the queue dies after the fsync, before its reply: 503 that says maybe, and the event runs', async () => {
  const before = await accepted();
  const trap = events.proxy.trapReply('accept');
  const answer = send('/');
  await trap.sprung;
  await waitFor('the write', () => new Promise<true>((resolve) => setTimeout(resolve, 200, true)));
  await events.durable.stop();
  expect(await (await answer).json()).toMatchObject({ code: 'NOT_DURABLE', maybeAccepted: true });
  await events.durable.start();
  await untilReady(events.server);
  expect(await accepted()).toBe(before + 1);
  await waitFor('its end', async () => (await unfinished()) === 0, TAKEOVER_MS);
});

test('7: the queue dies later: every 202 stays true', async () => {
  const ids = await Promise.all(Array.from({ length: 20 }, () => accept('/', { 'skiff-delay': '2s' })));
  await events.durable.stop();
  await events.durable.start();
  await untilReady(events.server);
  for (const id of ids) expect(await events.end(id, TAKEOVER_MS)).toMatchObject({ state: 'succeeded' });
});

test('8: the record is written, the job is not: the event runs all the same, one series with its key', async () => {
  const headers = { 'idempotency-key': randomUUID() };
  const trap = events.proxy.trapCommand(/bull:events-\d/);
  const id = await accept('/', headers);
  await trap.sprung;
  await events.killAndWait('gateway');
  expect(await accept('/', headers)).toBe(id);
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({ state: 'succeeded', attempts: [{ number: 1 }] });
  expect(await events.executions(id)).toBe(1);
});

test('9: the consumer dies with the job taken and nothing begun: taken over, no execution by it', async () => {
  const trap = events.proxy.trapCommand('begin');
  const id = await accept('/');
  await trap.sprung;
  await events.killAndWait('events');
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({
    state: 'succeeded',
    attempts: [{ number: 1 }],
    lost: 0,
  });
  expect(await events.executions(id)).toBe(1);
});

test('10: the consumer dies when "running" is written and nothing handed over: lost, then run', async () => {
  const trap = events.proxy.trapReply('begin');
  const id = await accept('/');
  await trap.sprung;
  await untilRunning(id);
  await events.killAndWait('events');
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({
    state: 'succeeded',
    lost: 1,
    attempts: [{ outcome: 'lost' }, { outcome: 'ok' }],
  });
  expect(await events.executions(id)).toBe(1);
});

test('11: the runner dies while the function runs: lost within seconds, and run again', async () => {
  const id = await accept('/slow?ms=3000');
  await untilRunning(id);
  await waitFor('the call', async () => (await events.executions(id)) === 1);
  const killedMs = Date.now();
  await events.killAndWait('runner');
  const record = await events.end(id, TAKEOVER_MS);
  expect(record).toMatchObject({
    state: 'succeeded',
    lost: 1,
    attempts: [{ outcome: 'lost' }, { outcome: 'ok' }],
  });
  expect((record.attempts[0]?.endedMs ?? Infinity) - killedMs).toBeLessThan(5_000);
});

test('12: the sandbox dies: a counted try, and dead when tries run out', async () => {
  const id = await accept('/crash');
  expect(await events.end(id)).toMatchObject({
    state: 'dead',
    reason: 'retries_exhausted',
    counted: 3,
    lost: 0,
  });
});

test('13: the consumer dies with the result in hand: the duplicate case, both executions told apart', async () => {
  const id = await accept('/', { 'skiff-delay': '500ms' });
  const trap = events.proxy.trapCommand('finish', id);
  await trap.sprung;
  await events.killAndWait('events');
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({
    state: 'succeeded',
    attempts: [
      { number: 1, outcome: 'lost' },
      { number: 2, outcome: 'ok' },
    ],
  });
  expect(await events.executions(id)).toBe(2);
  const answer = (await (await events.client.result(id)).json()) as { attempt: number };
  expect(answer.attempt).toBe(2);
});

test('14: the consumer is paused beyond its lease and comes back: two executions, the newest result stands', async () => {
  const paused = events.server.state.processes['events'] as number;
  const id = await accept('/slow?ms=4000');
  await untilRunning(id);
  const second = events.startConsumer();
  try {
    process.kill(paused, 'SIGSTOP');
    const record = await events.end(id, TAKEOVER_MS);
    expect(record).toMatchObject({
      state: 'succeeded',
      attempts: [{ outcome: 'lost' }, { number: 2, outcome: 'ok' }],
    });
    process.kill(paused, 'SIGCONT');
    // Its old result is offered or dropped now; either way nothing changes.
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(await events.client.invocation(id)).toEqual(record);
    expect(await events.executions(id)).toBe(2);
  } finally {
    process.kill(paused, 'SIGCONT');
    second.kill('SIGKILL');
  }
});

test('15: the end is written and its reply lost: written again, once', async () => {
  const id = await accept('/', { 'skiff-delay': '500ms' });
  const trap = events.proxy.trapReply('finish', id);
  await trap.sprung;
  expect(await events.end(id)).toMatchObject({ state: 'succeeded', attempts: [{ outcome: 'ok' }] });
  events.proxy.mend();
  await untilReady(events.server);
  const next = await accept('/');
  expect(await events.end(next)).toMatchObject({ state: 'succeeded' });
  expect((await events.client.invocation(id)).attempts).toHaveLength(1);
  expect(await events.executions(id)).toBe(1);
});

test('16: the end is recorded, its destination not told: told later, under the same id', async () => {
  await events.deploy('sink');
  await events.deploy('source', { onSuccess: { function: 'sink' } });
  const { id } = await events.client.invokeAsync('source', { path: '/slow?ms=1500', method: 'POST' });
  // The event that tells the sink says what it comes from.
  const trap = events.proxy.trapCommand('accept', `invocation:${id}`);
  await events.end(id);
  await trap.sprung;
  await events.killAndWait('events');
  const told = await waitFor(
    'the destination',
    async () => {
      const { destination } = await events.client.invocation(id);
      return destination?.state === 'delivered' && destination;
    },
    TAKEOVER_MS,
  );
  expect(told.attempts).toBeLessThanOrEqual(2);
});

test('17: the maximum age passes before it ran: expired, never run; replayed it runs', async () => {
  const id = await accept('/', { 'skiff-delay': '500ms', 'skiff-max-age': '1ms' });
  expect(await events.end(id)).toMatchObject({ state: 'expired', reason: 'max_age', attempts: [] });
  expect(await events.executions(id)).toBe(0);
  await events.client.replay({ ids: [id] });
  expect(await events.end(id)).toMatchObject({ state: 'succeeded', replays: 1 });
});

test('18: everything is killed at once: after the restart every accepted event ends', async () => {
  const ids = await Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      accept(i % 3 === 0 ? '/slow?ms=1500' : '/', { 'skiff-delay': `${i * 40}ms` }),
    ),
  );
  for (const name of ['gateway', 'events', 'runner', 'builder', 'registry']) events.server.kill(name);
  await events.durable.stop();
  await events.durable.start();
  await untilReady(events.server);
  for (const id of ids) expect(await events.end(id, TAKEOVER_MS)).toMatchObject({ state: 'succeeded' });
});

test('19: the queue is out of reach when a result is ready: the consumer keeps it and writes it later', async () => {
  const id = await accept('/slow?ms=1500');
  await untilRunning(id);
  events.proxy.cut();
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  events.proxy.mend();
  expect(await events.end(id)).toMatchObject({ state: 'succeeded', attempts: [{ outcome: 'ok' }], lost: 0 });
  expect(await events.executions(id)).toBe(1);
});

test('20: cancel races with the end: one state, told truthfully, and nothing after cancelled', async () => {
  const ids = await Promise.all(Array.from({ length: 40 }, () => accept('/slow?ms=150')));
  await new Promise((resolve) => setTimeout(resolve, 150));
  const told = await Promise.all(ids.map((id) => events.client.cancel(id)));
  for (const { id, state } of told) {
    const record = await events.end(id);
    expect(['cancelled', 'succeeded']).toContain(state);
    expect(record.state).toBe(state);
    const result = await events.client.result(id).catch(() => undefined);
    expect(result !== undefined).toBe(state === 'succeeded');
  }
});

test('21: the consumer dies between the end of a step and its storing: that step runs again, none before it', async () => {
  await events.deploy('workflow', {}, 'steps.ts');
  const trap = events.proxy.trapCommand('step-put');
  const { id } = await events.client.invokeAsync('workflow', { path: '/slow-step?ms=50', method: 'POST' });
  await trap.sprung;
  await events.killAndWait('events');
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({ state: 'succeeded', lost: 1, steps: 2 });
  expect(await events.logged('workflow', id, 'ran slow')).toBe(2);
  expect(await events.logged('workflow', id, 'ran after')).toBe(1);
});

test('22: the consumer dies between the storing of a step and its answer: that step does not run again', async () => {
  const trap = events.proxy.trapReply('step-put');
  const { id } = await events.client.invokeAsync('workflow', { path: '/slow-step?ms=50', method: 'POST' });
  await trap.sprung;
  await waitFor('the step', async () => (await events.client.invocation(id)).steps === 1);
  await events.killAndWait('events');
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({ state: 'succeeded', lost: 1 });
  expect(await events.logged('workflow', id, 'ran slow')).toBe(1);
  expect(await events.logged('workflow', id, 'ran handler')).toBe(2);
});

test('23: the consumer dies when a suspension is written and not confirmed: it sleeps once, its steps stand', async () => {
  const trap = events.proxy.trapReply('finish');
  const { id } = await events.client.invokeAsync('workflow', { path: '/sleep?for=1s', method: 'POST' });
  await trap.sprung;
  await waitFor('the sleep', async () => (await events.client.invocation(id)).suspensions === 1);
  await events.killAndWait('events');
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({ state: 'succeeded', lost: 0, steps: 3 });
  expect(await events.logged('workflow', id, 'ran order')).toBe(1);
  expect(await events.logged('workflow', id, 'ran remind')).toBe(1);
});

test('24: everybody dies at the wake, with no job added: it goes on all the same, once', async () => {
  const { id } = await events.client.invokeAsync('workflow', { path: '/sleep?for=2s', method: 'POST' });
  await waitFor('the sleep', async () => (await events.client.invocation(id)).state === 'waiting', 20_000);
  const trap = events.proxy.trapCommand(new RegExp(`"ids":\\["${id}`));
  await trap.sprung;
  expect(await events.client.invocation(id)).toMatchObject({ state: 'ready' });
  await Promise.all([events.killAndWait('events'), events.killAndWait('runner')]);
  expect(await events.end(id, TAKEOVER_MS)).toMatchObject({
    state: 'succeeded',
    lost: 0,
    attempts: [{ number: 1, outcome: 'ok' }],
  });
  expect(await events.logged('workflow', id, 'ran remind')).toBe(1);
});

test('H17: the consumer is told to stop under load: what runs ends, what waits is handed back, nothing is lost', async () => {
  const ids = await Promise.all(Array.from({ length: 60 }, () => accept('/slow?ms=400')));
  await waitFor('a start', async () => (await events.client.eventStats()).held > 0);
  const pid = events.server.state.processes['events'] as number;
  process.kill(pid, 'SIGTERM');
  for (const id of ids) {
    const record = await events.end(id, TAKEOVER_MS);
    expect(record).toMatchObject({ state: 'succeeded', lost: 0, attempts: [{ outcome: 'ok' }] });
  }
  await waitFor(
    'another consumer',
    () => ![undefined, pid].includes(events.server.state.processes['events']),
    30_000,
  );
});
