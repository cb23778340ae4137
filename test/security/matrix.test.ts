import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { EDGE, IDENTITY, IMAGES, LIFE, NETWORK, P0, SANDBOX } from './matrix.ts';

const ROOT = new URL('../../', import.meta.url);
const rows = [...SANDBOX, ...LIFE, ...IMAGES, ...NETWORK, ...EDGE, ...IDENTITY];

it('every row that must hold is there once', () => {
  const wanted = Object.entries(P0).flatMap(([group, numbers]) =>
    numbers.map((number) => `${group}${number}`),
  );
  expect(rows.map(({ id }) => id).toSorted()).toEqual(wanted.toSorted());
});

it.each(rows)('$id, $what: has a test that exists', ({ tests, not }) => {
  expect(tests.length > 0 || not !== undefined).toBe(true);
  for (const [path, ...words] of tests) {
    const file = new URL(path, ROOT);
    expect(existsSync(file), path).toBe(true);
    expect(words.length, path).toBeGreaterThan(0);
    const text = readFileSync(file, 'utf8');
    for (const word of words) expect(text.includes(word), `"${word}" in ${path}`).toBe(true);
  }
});
