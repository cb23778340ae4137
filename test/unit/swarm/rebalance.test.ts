import { expect, test, vi } from 'vitest';
import type { StartOrder } from '../../../infra/contract/jobs.ts';
import { chooseMove, Rebalance, type Room } from '../../../runner/swarm/rebalance.ts';
import type { Instance } from '../../../runner/pool/instance.ts';
import type { Deployment, NodeRecord } from '../../../sdk/protocol/api.ts';
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

/** Two nodes and the places of one function: what the dispatcher counts. */
function createMove(max: number, count: number) {
  const deployment = {
    id: 'dep-1',
    config: { memory: 256 * MB, concurrency: 1, max, constraints: [] },
  } as unknown as Deployment;
  const idle = (id: string): Instance =>
    ({
      guest: { id },
      deployment,
      state: 'active',
      isPinned: false,
      isQuiet: true,
      uses: 1,
      lastUsedMs: Date.now() - 10_000,
    }) as unknown as Instance;
  const on = {
    old: new Map(Array.from({ length: count }, (_, i) => [`sbx-${i}`, idle(`sbx-${i}`)])),
    new: new Map<string, Instance>(),
  };
  const started: StartOrder[] = [];
  let most = 0;
  const live = (): number => on.old.size + on.new.size + started.length;
  const create = (id: 'old' | 'new', other: 'old' | 'new'): Rebalance =>
    new Rebalance({
      id,
      memoryBytesMax: 4 * GB,
      pool: {
        get instances() {
          return on[id].values();
        },
        get: (sandbox) => on[id].get(sandbox),
        get usedBytes() {
          return on[id].size * 256 * MB;
        },
        tryEnd: async (instance) => on[id].delete(instance.guest.id),
      },
      dispatcher: {
        takeOver: async (_, sandbox) =>
          live() < max ? ({ id: 'start-1', dep: 'dep-1', instead: sandbox } as StartOrder) : undefined,
      },
      facts: () => createNodeRecord(id),
      peers: () => [
        peer(other, on[other].size * 256 * MB, { warm: nodes[other].warm, taken: nodes[other].taken }),
      ],
      getDeployment: async () => deployment,
      start: (order) => {
        started.push(order);
        most = Math.max(most, live());
      },
      mayTake: () => true,
    });
  const nodes = { old: create('old', 'new'), new: create('new', 'old') };
  return { nodes, on, started, idle, most: () => most };
}

test('below its maximum the new sandbox of a function starts before the old one ends', async () => {
  const { nodes, on, started } = createMove(5, 4);
  await nodes.new.tick();
  expect([started.length, on.old.size]).toEqual([1, 4]);
  nodes.new.onStarted(started[0]?.instead as string);
  await nodes.old.tick();
  expect(on.old.size).toBe(3);
});

test('at its maximum the old one ends first: there is never one too many', async () => {
  const { nodes, on, started, most } = createMove(4, 4);
  await nodes.new.tick();
  expect([started.length, on.old.size, nodes.new.taken.length]).toEqual([0, 4, 1]);
  await nodes.old.tick();
  expect(on.old.size).toBe(3);
  await nodes.new.tick();
  expect([started.length, most()]).toEqual([1, 4]);
  expect(nodes.new.taken).toEqual([]);
});

test('one that is used again stays, and its place is not waited for without end', async () => {
  const { nodes, on, started } = createMove(4, 4);
  vi.useFakeTimers({ toFake: ['Date'] });
  try {
    await nodes.new.tick();
    const [sandbox] = nodes.new.taken;
    Object.assign(on.old.get(sandbox as string) as object, { lastUsedMs: Date.now() });
    await nodes.old.tick();
    expect([on.old.size, started.length]).toEqual([4, 0]);
    vi.advanceTimersByTime(6_000);
    await nodes.new.tick();
    expect([nodes.new.taken, started]).toEqual([[], []]);
  } finally {
    vi.useRealTimers();
  }
});
