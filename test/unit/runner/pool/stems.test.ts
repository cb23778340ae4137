import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { type StemGuest, Stems } from '../../../../runner/pool/stems.ts';
import { SPEC } from '../../../helpers/scripted-guest.ts';
import { waitFor } from '../../../helpers/wait.ts';

class Stem implements StemGuest {
  isGone = false;
  readonly #end = Promise.withResolvers<{ outOfMemory: false; killed: true }>();
  readonly exited = this.#end.promise;

  kill(): void {
    this.isGone = true;
    this.#end.resolve({ outOfMemory: false, killed: true });
  }
}

interface Launch {
  readonly isBackground: boolean;
  isHurried: boolean;
  readonly stem: Stem;
  finish(): void;
  fail(): void;
}

let launches: Launch[] = [];
/** Whether launches finish by themselves. */
let isQuick = true;

let hasRoom = true;

function createStems(heldMsMax?: number): Stems<Stem> {
  launches = [];
  isQuick = true;
  hasRoom = true;
  return new Stems<Stem>({
    launch(_, background) {
      const { promise, resolve, reject } = Promise.withResolvers<Stem>();
      const stem = new Stem();
      const launch = {
        isBackground: background !== undefined,
        isHurried: false,
        stem,
        finish: () => resolve(stem),
        fail: () => reject(new Error('it did not start')),
      };
      void background?.then(() => (launch.isHurried = true));
      launches.push(launch);
      if (isQuick) launch.finish();
      return promise;
    },
    log: pino({ level: 'silent' }),
    hasRoom: () => hasRoom,
    ...(heldMsMax === undefined ? {} : { heldMsMax }),
  });
}

let stems: Stems<Stem>;
afterEach(() => stems.close());

test('a stem is handed out once, and never again', async () => {
  stems = createStems();
  stems.keep('base', SPEC, 3);
  await waitFor('stems', () => stems.count === 3);
  const claimed = await Promise.all(Array.from({ length: 8 }, () => stems.claim('base', SPEC)));
  expect(new Set(claimed).size).toBe(8);
  await waitFor('stems', () => stems.count === 3);
  const again = await Promise.all(Array.from({ length: 3 }, () => stems.claim('base', SPEC)));
  expect(claimed.some((stem) => again.includes(stem))).toBe(false);
});

test('a stem that ended while it waited is not handed out', async () => {
  stems = createStems();
  stems.keep('base', SPEC, 2);
  await waitFor('stems', () => stems.count === 2);
  for (const { stem } of launches) stem.isGone = true;
  expect((await stems.claim('base', SPEC)).isGone).toBe(false);
});

test('stems of another kind are left alone', async () => {
  stems = createStems();
  stems.keep('base', SPEC, 1);
  await waitFor('stems', () => stems.count === 1);
  await stems.claim('other', SPEC);
  expect(stems.count).toBe(1);
  expect(launches.map(({ isBackground }) => isBackground)).toEqual([true, false]);
});

test('nothing is refilled while a sandbox starts, and refills run in the background', async () => {
  stems = createStems(60_000);
  stems.keep('base', SPEC, 1);
  await waitFor('stems', () => stems.count === 1);
  const release = stems.holdRefill();
  await stems.claim('base', SPEC);
  const heldAt = performance.now();
  await waitFor(
    'a launch, or none for long',
    () => launches.length === 2 || performance.now() - heldAt > 150,
  );
  expect(launches).toHaveLength(1);
  release();
  await waitFor('stems', () => stems.count === 1);
  expect(launches.map(({ isBackground }) => isBackground)).toEqual([true, true]);
});

test('starts without end hold a refill up for a while only', async () => {
  stems = createStems();
  const release = stems.holdRefill();
  stems.keep('base', SPEC, 1);
  await waitFor('stems', () => stems.count === 1);
  release();
});

test('a start that finds no stem takes over the launch that is under way', async () => {
  stems = createStems();
  isQuick = false;
  stems.keep('base', SPEC, 1);
  await waitFor('a launch', () => launches.length === 1);
  const first = stems.claim('base', SPEC);
  await waitFor('a launch', () => launches[0]?.isHurried === true);
  const second = stems.claim('base', SPEC);
  await waitFor('a launch', () => launches.length === 2);
  expect(launches[1]?.isBackground).toBe(false);
  isQuick = true;
  for (const launch of launches) launch.finish();
  expect(await first).toBe(launches[0]?.stem);
  expect(await second).toBe(launches[1]?.stem);
  await waitFor('stems', () => stems.count === 1);
  expect(await stems.claim('base', SPEC)).toBe(launches[2]?.stem);
});

test('a launch that was taken over and fails is followed by one of its own', async () => {
  stems = createStems();
  isQuick = false;
  stems.keep('base', SPEC, 1);
  await waitFor('a launch', () => launches.length === 1);
  const claimed = stems.claim('base', SPEC);
  launches[0]?.fail();
  await waitFor('another launch', () => launches.length === 2);
  expect(launches[1]?.isBackground).toBe(false);
  launches[1]?.finish();
  expect(await claimed).toBe(launches[1]?.stem);
});

test('without room there is no refill, until there is', async () => {
  stems = createStems();
  stems.keep('base', SPEC, 2);
  await waitFor('stems', () => stems.count === 2);
  hasRoom = false;
  await stems.claim('base', SPEC);
  const began = performance.now();
  await waitFor('a launch, or none for long', () => launches.length > 2 || performance.now() - began > 150);
  expect(launches).toHaveLength(2);
  hasRoom = true;
  stems.onRoom();
  await waitFor('stems', () => stems.count === 2);
});
