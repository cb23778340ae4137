/** Rows G and H of the threat matrix name tests that exist. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DELIVERY, FAULTS, P0 } from '../../faults/matrix.ts';
import { ROOT } from '../../helpers/source-tree.ts';

const rows = [...DELIVERY, ...FAULTS];

test('every row that must hold is there once', () => {
  const wanted = Object.entries(P0).flatMap(([group, numbers]) =>
    numbers.map((number) => `${group}${number}`),
  );
  expect(rows.map(({ id }) => id).toSorted()).toEqual(wanted.toSorted());
});

test.each(rows)('$id, $what: has a test that exists', ({ tests }) => {
  expect(tests.length).toBeGreaterThan(0);
  for (const [path, ...words] of tests) {
    expect(existsSync(join(ROOT, path)), path).toBe(true);
    expect(words.length, path).toBeGreaterThan(0);
    const text = readFileSync(join(ROOT, path), 'utf8');
    for (const word of words) expect(text.includes(word), `"${word}" in ${path}`).toBe(true);
  }
});
