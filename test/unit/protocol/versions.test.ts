import { expect, it } from 'vitest';
import { agreeOn, describeSpoken, speaks } from '../../../sdk/protocol/versions.ts';

const v = (protocolMin: number, protocol: number) => ({ protocol, protocolMin });

it('agrees on the newest that both speak, from either side', () => {
  for (const [one, other, agreed] of [
    [v(1, 1), v(1, 1), 1],
    [v(1, 1), v(1, 2), 1],
    [v(1, 2), v(2, 3), 2],
    [v(1, 1), v(2, 3), undefined],
  ] as const) {
    expect(agreeOn(one, other)).toBe(agreed);
    expect(agreeOn(other, one)).toBe(agreed);
  }
});

it('takes a peer that names one version at its word, and one that names none not at all', () => {
  expect(agreeOn(v(1, 2), { protocol: 1 })).toBe(1);
  expect(agreeOn(v(2, 3), { protocol: 1 })).toBeUndefined();
  for (const nothing of [null, undefined, {}]) expect(agreeOn(v(1, 2), nothing)).toBeUndefined();
});

it('reads what is between its oldest and its newest', () => {
  expect([0, 1, 2, 3].map((version) => speaks(v(1, 2), version))).toEqual([false, true, true, false]);
  expect([describeSpoken(v(1, 2)), describeSpoken({ protocol: 1 }), describeSpoken(null)]).toEqual([
    '1 to 2',
    '1',
    'none',
  ]);
});
