import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createLog } from '../../../infra/lib/log.ts';
import { Readiness } from '../../../runner/swarm/readiness/readiness.ts';

const EVERY_MS = 30_000;
let isBroken: boolean;
let hasRoom: boolean;
let runs: number;
let changes: string[];
let readiness: Readiness;

beforeEach(() => {
  vi.useFakeTimers();
  [isBroken, hasRoom, runs, changes] = [false, true, 0, []];
  readiness = create(EVERY_MS);
});
afterEach(() => {
  readiness.close();
  vi.useRealTimers();
});

function create(everyMs: number): Readiness {
  const made: Readiness = new Readiness({
    everyMs,
    log: createLog('test', 'silent'),
    onChange: () => changes.push(made.health.state),
    probe: {
      run: () => {
        runs++;
        return isBroken ? Promise.reject(new Error('no runtime')) : Promise.resolve(hasRoom);
      },
    },
  });
  return made;
}
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test('a node is untried until an invocation has passed, and fit from then on', async () => {
  isBroken = true;
  readiness.open();
  await pass(100);
  expect(readiness.health).toMatchObject({ state: 'untried', message: 'no runtime' });
  expect(readiness.isFit).toBe(false);
  isBroken = false;
  await pass(3_000);
  expect(readiness.isFit).toBe(true);
  expect(changes).toEqual(['passing']);
});

test('a node that does nothing is tried every now and then, one that serves calls more rarely', async () => {
  readiness.open();
  await pass(10 * EVERY_MS + 5_000);
  expect(runs).toBeGreaterThanOrEqual(10);
  expect(runs).toBeLessThanOrEqual(11);
  runs = 0;
  for (let i = 0; i < 10 * 30; i++) {
    readiness.noteServed(false);
    await pass(EVERY_MS / 30);
  }
  expect(runs).toBeGreaterThanOrEqual(2);
  expect(runs).toBeLessThanOrEqual(3);
});

test('a first answer of a sandbox counts as a proof, and none other is made', async () => {
  readiness.open();
  await pass(100);
  expect(runs).toBe(1);
  for (let i = 0; i < 10; i++) {
    readiness.noteServed(true);
    await pass(EVERY_MS - 1_000);
  }
  expect(runs).toBe(1);
});

test('what fails is tried again soon, ever more rarely, and a proof ends it', async () => {
  readiness.open();
  await pass(100);
  isBroken = true;
  readiness.suspect();
  await pass(6_000);
  expect(readiness.health).toMatchObject({ state: 'failing', message: 'no runtime' });
  runs = 0;
  await pass(60_000);
  expect(runs).toBeGreaterThan(5);
  expect(runs).toBeLessThan(15);
  readiness.noteServed(true);
  expect(changes).toEqual(['passing', 'failing', 'passing']);
});

test('without room a node stays what it was', async () => {
  readiness.open();
  await pass(100);
  hasRoom = false;
  await pass(2 * EVERY_MS);
  expect(readiness.isFit).toBe(true);
});

test('who asks after a failed start gets an answer that is not older than a second', async () => {
  readiness.open();
  await pass(5_000);
  isBroken = true;
  expect(await readiness.confirm()).toBe(false);
  expect(await readiness.confirm()).toBe(false);
  expect(runs).toBe(2);
});

test('a node that is not to be tried is fit', async () => {
  const unwatched = create(0);
  unwatched.open();
  await pass(60_000);
  expect([unwatched.isFit, await unwatched.confirm(), runs]).toEqual([true, true, 0]);
});
