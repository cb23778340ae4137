import type { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { readStoreSkew, skewOf, StoreClock } from '../../../infra/lib/skew.ts';
import { waitFor } from '../../helpers/wait.ts';

it('counts clocks that agree as they do under NTP as the same, and others by their difference', () => {
  expect([skewOf(1_000, 1_400), skewOf(1_000, 61_000), skewOf(61_000, 1_000)]).toEqual([0, 60_000, -60_000]);
  for (const nothing of [undefined, null, 'x', Number.NaN]) expect(skewOf(nothing, 1_000)).toBe(0);
});

const at = (ms: number) =>
  ({ time: async () => [Math.floor(ms / 1_000), (ms % 1_000) * 1_000] }) as unknown as Redis;

it('says how far the clock of a store is ahead', async () => {
  expect(await readStoreSkew(at(Date.now()))).toBe(0);
  const ahead = await readStoreSkew(at(Date.now() + 90_000));
  expect(ahead).toBeGreaterThan(89_000);
  expect(ahead).toBeLessThan(91_000);
});

it('tells the time of the store on hosts whose own clock is wrong', async () => {
  const behind = new StoreClock(at(Date.now() - 90_000));
  expect(behind.now() - Date.now()).toBeGreaterThan(-1_000);
  const end = behind.follow();
  await waitFor('a look', () => behind.skewMs !== 0);
  end();
  expect(Math.abs(behind.now() - Date.now() + 90_000)).toBeLessThan(2_000);
});
