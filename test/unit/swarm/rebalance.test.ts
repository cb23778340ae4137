import { expect, test } from 'vitest';
import { chooseMove, type Room } from '../../../runner/swarm/rebalance.ts';
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { createNodeRecord } from '../../helpers/node-record.ts';

const GB = 1024 ** 3;
const MB = 1024 ** 2;

const warm = (count: number, deployment = 'dep-1', memoryBytes = 256 * MB) =>
  Array.from({ length: count }, (_, i) => ({ sandbox: `sbx-${deployment}-${i}`, deployment, memoryBytes }));

const peer = (id: string, usedBytes: number, changes: Partial<NodeRecord> = {}): NodeRecord =>
  createNodeRecord(id, {
    used: { memoryBytes: usedBytes, sandboxes: 0, busySlots: 0, stems: 0 },
    ...changes,
  });

const room = (id: string, usedBytes: number, counts: Record<string, number> = {}): Room => ({
  id,
  usedBytes,
  capacityBytes: 4 * GB,
  count: (deployment) => counts[deployment] ?? 0,
});

test('an empty node takes warm sandboxes of the fullest one', () => {
  const peers = [
    peer('a', 2 * GB, { warm: warm(2, 'dep-a') }),
    peer('b', 3 * GB, { warm: warm(2, 'dep-b') }),
  ];
  expect(chooseMove(room('new', 0), peers)).toMatchObject({ deployment: 'dep-b' });
});

test('and goes on until it has nearly as many, or as much', () => {
  const full = peer('a', 2 * GB, { warm: warm(4) });
  expect(chooseMove(room('new', 512 * MB, { 'dep-1': 2 }), [full])).toMatchObject({ deployment: 'dep-1' });
  expect(chooseMove(room('new', 768 * MB, { 'dep-1': 3 }), [full])).toBeUndefined();
  expect(chooseMove(room('new', 1.9 * GB), [full])).toBeUndefined();
  expect(chooseMove(room('new', 1.7 * GB), [full])).toBeUndefined();
});

test('the only sandbox of a function stays where it is', () => {
  expect(chooseMove(room('new', 0), [peer('a', 2 * GB, { warm: warm(1) })])).toBeUndefined();
});

test('of several nodes with room the emptiest takes, and of equals one', () => {
  const full = peer('z', 2 * GB, { warm: warm(4) });
  expect(chooseMove(room('b', 256 * MB), [full, peer('a', 0)])).toBeUndefined();
  expect(chooseMove(room('b', 0), [full, peer('a', 0)])).toBeUndefined();
  expect(chooseMove(room('a', 0), [full, peer('b', 0)])).toBeDefined();
});

test('what another node has taken is not taken again', () => {
  const full = peer('a', 2 * GB, { warm: warm(3) });
  const taken = full.warm?.slice(0, 1).map(({ sandbox }) => sandbox) ?? [];
  expect(chooseMove(room('new', 0), [full, peer('z', 1 * GB, { taken })])?.sandbox).toBe('sbx-dep-1-1');
});

test('nodes of earlier releases offer nothing', () => {
  expect(chooseMove(room('new', 0), [peer('a', 3 * GB)])).toBeUndefined();
});
