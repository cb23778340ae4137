import { expect, test } from 'vitest';
import { Health, type HealthCheck } from '../../../../runner/pool/health.ts';
import type { Instance } from '../../../../runner/pool/instance.ts';
import { EarlyOutput } from '../../../../runner/pool/early-output.ts';
import type { GuestHandlers } from '../../../../runner/pool/guest.ts';
import { HEALTH_INTERVAL_MS } from '../../../../sdk/protocol/limits.ts';

/** A program whose next answers are `answers`; undefined is a good one. */
function createInstance(
  answers: (string | undefined)[],
  changes: Partial<HealthCheck & { isPinned: boolean }> = {},
) {
  const { isPinned = true, ...rest } = changes;
  const state = { asked: 0, why: undefined as string | undefined };
  const health: HealthCheck = {
    isWanted: true,
    isSuspect: false,
    ask: async () => {
      state.asked++;
      return answers.shift();
    },
    ...rest,
  };
  const instance = {
    state: 'active',
    isPinned,
    guest: { health },
    whileAwake: (work: () => Promise<unknown>) => work(),
    condemn: (why: string) => (state.why = why),
  };
  return { state, instance: instance as unknown as Instance };
}

/** Looks `count` times, as much apart as replicas are asked. */
async function look(health: Health, instance: Instance, count: number): Promise<void> {
  for (let i = 0; i <= count; i++) {
    health.tick([instance], Date.now() + i * 2 * HEALTH_INTERVAL_MS);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a replica that fails three times in a row is ended, and the reason is its last answer', async () => {
  const { state, instance } = createInstance(['late', 'late', 'GET /health was answered 500']);
  await look(new Health(), instance, 3);
  expect(state).toEqual({
    asked: 3,
    why: 'it failed its health check 3 times in a row: GET /health was answered 500',
  });
});

test('an answer in between starts the count anew', async () => {
  const { state, instance } = createInstance(['late', 'late', undefined, 'late', 'late']);
  await look(new Health(), instance, 5);
  expect(state).toEqual({ asked: 5, why: undefined });
});

test('only replicas are asked without a reason; with one, every program is', async () => {
  const idle = createInstance([], { isPinned: false });
  await look(new Health(), idle.instance, 3);
  expect(idle.state.asked).toBe(0);
  const suspect = createInstance(['late', 'late', 'late'], { isPinned: false, isSuspect: true });
  await look(new Health(), suspect.instance, 2);
  expect(suspect.state.why).toContain('late');
});

test('what a program says before somebody listens is kept in order, up to a limit, and given once', () => {
  const heard: string[] = [];
  const handlers = {
    onLog: (stream: number, payload: Buffer) => heard.push(`log ${stream} ${payload.toString()}`),
    onOutput: (source: string, chunk: Buffer) => heard.push(`${source} ${chunk.toString().slice(0, 10)}`),
  } as unknown as GuestHandlers;
  const early = new EarlyOutput(false);
  early.onOutput('stdout', Buffer.from('of the stem'));
  early.open();
  const reused = Buffer.from('first');
  early.onOutput('stdout', reused);
  reused.fill('x');
  early.onLog(0, Buffer.from('second'));
  early.onOutput('stderr', Buffer.alloc(70_000, 'y'));
  early.listen(handlers);
  early.listen(handlers);
  early.onOutput('stdout', Buffer.from('third'));
  expect(heard).toEqual(['stdout first', 'log 0 second', 'stdout third']);
});
