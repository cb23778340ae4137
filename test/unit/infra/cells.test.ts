import { expect, test } from 'vitest';
import { Cells, CELLS_MAX, ONE_CELL } from '../../../infra/contract/cells.ts';
import { absentKey, hashSlot } from '../../../infra/contract/keys.ts';
import { bucketOf, bucketOfId, createOwnedId, derivedId, isId, timeOfId } from '../../../sdk/protocol/ids.ts';

const names = Array.from({ length: 2_000 }, (_, i) => `team-${i % 7}.function-${i}`);

test('one cell has the keys of a single server, whatever the ids', () => {
  expect(ONE_CELL.all.map(({ tag }) => tag)).toEqual(['{skiff}']);
  expect(ONE_CELL.ofId('anything').fast.idle('dep-1')).toBe('{skiff}:idle:dep-1');
  expect(ONE_CELL.first.events.record('inv-1')).toBe('{skiff}:inv:inv-1');
});

test('an id tells the cell of its function, and is an id as any other', () => {
  const cells = new Cells(7);
  for (const name of names) {
    const id = createOwnedId('inv', name, 1_000);
    expect(isId('inv', id)).toBe(true);
    expect(timeOfId(id)).toBe(1_000);
    expect(bucketOfId(id)).toBe(bucketOf(name));
    expect(cells.ofId(id)).toBe(cells.ofFunction(name));
    expect(cells.ofId(`${id}@service-1`)).toBe(cells.ofFunction(name));
  }
  const derived = derivedId('inv', 'a', 5, new Uint8Array(16));
  expect(derivedId('inv', 'a', 5, new Uint8Array(16))).toBe(derived);
  expect(cells.ofId(derived)).toBe(cells.ofFunction('a'));
});

test('functions are spread over cells as chance would', () => {
  const cells = new Cells(16);
  const counts = cells.all.map((cell) => names.filter((name) => cells.ofFunction(name) === cell).length);
  // 125 of 2,000 each: five standard deviations.
  for (const count of counts) expect(Math.abs(count - 125)).toBeLessThan(55);
});

test('the usual ranges of slots get the same number of cells each, as far as they can', () => {
  const tags = new Cells(CELLS_MAX).all.map(({ tag }) => tag);
  expect(new Set(tags).size).toBe(CELLS_MAX);
  for (const count of [8, 16, 32, CELLS_MAX]) {
    for (const primaries of [2, 3, 4, 5, 6]) {
      if (primaries * 2 > count) continue;
      const held = Array<number>(primaries).fill(0);
      for (const tag of tags.slice(0, count)) held[Math.floor((hashSlot(tag) * primaries) / 16_384)]! += 1;
      expect(Math.max(...held) - Math.min(...held), `${count} on ${primaries}`).toBeLessThanOrEqual(2);
    }
  }
});

test('what is declared beside a script’s keys is in their cell', () => {
  for (const { tag, fast } of new Cells(4).all) expect(absentKey(fast.demand)).toBe(`${tag}:absent`);
});
