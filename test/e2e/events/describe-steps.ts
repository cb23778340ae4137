/** What durable steps must do in every runtime, against a function that has a path for each workflow. */
import { beforeAll, describe, expect, test as always } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

/** The first function of a runtime may have to wait for its base image. */
const FIRST_MS_MAX = 170_000;

/** `isCore`: the fixture has only the workflows that depend most on its runtime. */
export function describeSteps(name: string, runtime: string, fixture: string, isCore = false): void {
  describe(`durable steps in ${name}`, () => {
    const server = useServer();
    const { client } = server;
    const NAME = `steps-${name}`;
    const CALLEE = `${NAME}-callee`;
    const test = isCore ? () => {} : always;
    const core = always;

    beforeAll(async () => {
      await server.deploy(CALLEE, functionFixture('events.ts'));
      const settings = { runtime, calls: [CALLEE], async: { retries: 2, backoff: '50ms' } };
      await server.deploy(NAME, fixture, settings);
    }, FIRST_MS_MAX);

    async function start(path: string, json?: unknown): Promise<string> {
      const body = json === undefined ? {} : { body: JSON.stringify(json) };
      return (await client.invokeAsync(NAME, { path, method: 'POST', ...body })).id;
    }

    async function result(id: string): Promise<unknown> {
      const record = await client.waitFor(id, { waitMs: 60_000 });
      expect(record).toMatchObject({ state: 'succeeded' });
      return JSON.parse(await (await client.result(id)).text());
    }

    const untilWaiting = (id: string) =>
      waitFor(`${id} to wait`, async () => (await client.invocation(id)).state === 'waiting', 20_000);

    const untilLogged = (id: string, text: string) =>
      waitFor(
        `"${text}" in the log`,
        async () =>
          (await server.logs(NAME, { invocation: id, tail: 100 })).some(({ message }) =>
            message.includes(text),
          ),
        20_000,
      );

    /** How often each thing was really done. */
    async function runs(id: string, expected: Record<string, number>): Promise<Record<string, number>> {
      const count = async () => {
        const counts: Record<string, number> = {};
        for (const { message } of await server.logs(NAME, { invocation: id, tail: 200 }))
          if (message.startsWith('ran ')) counts[message.slice(4)] = (counts[message.slice(4)] ?? 0) + 1;
        return counts;
      };
      const total = Object.values(expected).reduce((sum, each) => sum + each, 0);
      // The log comes a moment after the answer.
      await waitFor(
        'the log',
        async () => Object.values(await count()).reduce((sum, each) => sum + each, 0) >= total,
        5_000,
      ).catch(() => {});
      return count();
    }

    core('a retry goes on after the last finished step and sees its result', async () => {
      const id = await start('/retry');
      expect(await result(id)).toEqual({ same: true, attempt: 2 });
      const expected = { handler: 2, first: 1, second: 2 };
      expect(await runs(id, expected)).toEqual(expected);
      expect(await client.invocation(id)).toMatchObject({ steps: 2, suspensions: 0, counted: 1 });
    });

    core('a sleep holds no sandbox and is no attempt', async () => {
      const id = await start('/sleep?for=2s');
      await untilWaiting(id);
      const record = await client.invocation(id);
      expect(record).toMatchObject({ attempts: [], suspensions: 1, steps: 2 });
      expect((record.dueMs ?? 0) - Date.now()).toBeGreaterThan(0);
      expect(await result(id)).toEqual({ order: 17, attempt: 1 });
      const expected = { handler: 2, order: 1, remind: 1 };
      expect(await runs(id, expected)).toEqual(expected);
      expect(await client.invocation(id)).toMatchObject({
        attempts: [{ number: 1, outcome: 'ok' }],
        counted: 0,
      });
    });

    test('a sleeping invocation can be cancelled, and sleeps for days in words', async () => {
      const id = await start('/sleep?for=2 days');
      await untilWaiting(id);
      const { dueMs = 0 } = await client.invocation(id);
      const stored = await client.invocationSteps(id);
      const atMs = expect.any(Number) as number;
      expect(stored.toSorted((a, b) => a.name.localeCompare(b.name))).toEqual([
        { name: 'order', kind: 'step', isPending: false, atMs },
        { name: 'sleep', kind: 'sleep', isPending: true, atMs, dueMs },
      ]);
      expect(Math.round((dueMs - Date.now()) / 3_600_000)).toBe(48);
      expect(await client.cancel(id)).toMatchObject({ state: 'cancelled' });
    });

    test('steps of one name in a loop are told apart', async () => {
      expect(await result(await start('/loop'))).toEqual([0, 10, 20]);
    });

    core('an event goes to the invocation whose fields it matches; without one the wait ends', async () => {
      const [seven, eight, late] = await Promise.all([
        start('/approval', { order: 7 }),
        start('/approval', { order: 8 }),
        start('/approval?timeout=500ms', { order: 9 }),
      ]);
      await Promise.all([untilWaiting(seven), untilWaiting(eight)]);
      expect(await client.sendEvent('decided', { order: 7, by: 'Ada' })).toEqual({
        delivered: 1,
        invocations: [seven],
      });
      expect(await result(seven)).toEqual({ order: 7, by: 'Ada' });
      expect(await client.invocation(eight)).toMatchObject({ state: 'waiting' });
      await client.sendEvent('decided', { order: 8, by: 'Bob' });
      expect(await result(eight)).toEqual({ order: 8, by: 'Bob' });
      expect(await result(late)).toEqual({ order: 9, by: 'nobody' });
    });

    test('ctx.map runs a step for each item, some at a time, and repeats only what failed', async () => {
      const id = await start('/map?count=12');
      const squares = Array.from({ length: 12 }, (_, i) => i * i);
      expect(await result(id)).toEqual({ squares, isBounded: true });
      const counts = await runs(id, { handler: 2, all: 13 });
      expect(counts['square 3']).toBe(1);
      expect(counts['square 7']).toBe(2);
    });

    core('a step that runs beside a sleep is finished before the suspension', async () => {
      const id = await start('/parallel');
      expect(await result(id)).toEqual({ slow: 'slow' });
      expect((await runs(id, { handler: 2, slow: 1 }))['slow']).toBe(1);
    });

    core('what another function answered is stored: it is called once', async () => {
      const id = await start(`/invoke?callee=${CALLEE}`);
      const answer = (await result(id)) as { answer: { invocationId: string } };
      expect(answer).toMatchObject({ status: 200, type: 'application/json', answer: { body: '{"n":2}' } });
      const calls = await server.logs(CALLEE, { tail: 100 });
      expect(calls.filter(({ message }) => message === 'called')).toHaveLength(1);
      expect(answer.answer.invocationId).toMatch(/^inv-/);
    });

    test('a sandbox that dies in a step: the steps before it are not run again', async () => {
      const id = await start('/crash');
      await client.waitFor(id, { waitMs: 60_000 });
      const expected = { handler: 2, before: 1, dies: 2 };
      expect(await runs(id, expected)).toEqual(expected);
    });

    test('too large results and steps in steps are refused in words', async () => {
      const [large, nested] = await Promise.all([start('/large'), start('/nested')]);
      expect(await client.waitFor(large, { waitMs: 60_000 })).toMatchObject({ state: 'dead', counted: 3 });
      await untilLogged(large, 'the result of step "large" has 300002 bytes as JSON; the limit is 262144');
      await untilLogged(nested, 'step "inner" is inside step "outer"');
    });

    core(
      'another function is called the same in an ordinary call, with what does not fit one window',
      async () => {
        const call = (callee: string, bytes: number) =>
          client.fetch(NAME, { path: `/call?callee=${callee}&bytes=${bytes}`, method: 'POST' });
        for (const bytes of [1, 700_000])
          expect(await (await call(CALLEE, bytes)).json()).toEqual({ status: 200, bytes });
        const refused = await call('steps-undeclared', 1);
        expect(refused.status).toBe(500);
        await untilLogged(refused.headers.get('skiff-invocation-id') ?? '', 'steps-undeclared');
      },
    );

    core(
      'called directly, steps run without being stored, a sleep pauses, waiting for an event is refused',
      async () => {
        const call = (path: string, body = '{"order":1}') =>
          client.fetch(NAME, { path, method: 'POST', body });
        expect(await (await call('/sleep?for=100ms')).json()).toEqual({ order: 17, attempt: 1 });
        const refused = await call('/approval');
        expect(refused.status).toBe(500);
        await untilLogged(
          refused.headers.get('skiff-invocation-id') ?? '',
          'needs an asynchronous invocation',
        );
      },
    );
  });
}
