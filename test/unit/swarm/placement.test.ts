import { expect, test } from 'vitest';
import { judge, weigh, type Question } from '../../../runner/swarm/placement.ts';
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { Constraint, findUnmet } from '../../../sdk/protocol/swarm/constraint.ts';
import { createNodeRecord } from '../../helpers/node-record.ts';

const GB = 1024 ** 3;

const peer = (id: string, changes: Partial<NodeRecord> = {}): NodeRecord =>
  createNodeRecord(id, { used: { memoryBytes: 2 * GB, sandboxes: 0, busySlots: 0, stems: 0 }, ...changes });

const ask = (changes: Partial<Question> = {}) =>
  judge({
    deployment: 'dep-1',
    constraints: [],
    memoryBytes: GB / 4,
    hasPassed: false,
    hasImage: true,
    self: { id: 'me', hostname: 'me', labels: { zone: 'a' }, freeBytes: 2 * GB, capacityBytes: 4 * GB },
    peers: [peer('other')],
    ...changes,
  });

test('a node alone takes everything it can, image or not', () => {
  expect(ask({ peers: [], hasImage: false })).toEqual({ kind: 'take' });
});

test('a node with the image takes at once; one without gives others a chance, and only one', () => {
  expect(ask()).toEqual({ kind: 'take' });
  expect(ask({ hasImage: false })).toMatchObject({ kind: 'pass' });
  expect(ask({ hasImage: false, hasPassed: true })).toEqual({ kind: 'take' });
});

test('without the image anywhere, the waits differ by the rank of a node for the deployment', () => {
  const ids = ['a', 'b', 'c', 'd'];
  const waits = ids.map((id) => {
    const verdict = ask({
      hasImage: false,
      self: { id, hostname: id, labels: {}, freeBytes: 2 * GB, capacityBytes: 4 * GB },
      peers: ids.filter((other) => other !== id).map((other) => peer(other)),
    });
    return { id, waitMs: verdict.kind === 'pass' ? verdict.waitMs : 0 };
  });
  expect(new Set(waits.map(({ waitMs }) => waitMs)).size).toBe(4);
  const first = waits.toSorted((a, b) => a.waitMs - b.waitMs)[0]?.id;
  expect(first).toBe(ids.toSorted((a, b) => weigh('dep-1', b) - weigh('dep-1', a))[0]);
});

test('ranks spread deployments evenly over nodes and move few when a node leaves', () => {
  const ids = ['a', 'b', 'c', 'd', 'e'];
  const home = (deployment: string, nodes: readonly string[]) =>
    nodes.toSorted((a, b) => weigh(deployment, b) - weigh(deployment, a))[0] as string;
  const deployments = Array.from({ length: 2_000 }, (_, i) => `dep-${i}`);
  const counts = ids.map((id) => deployments.filter((deployment) => home(deployment, ids) === id).length);
  for (const count of counts) expect(Math.abs(count - 400)).toBeLessThan(80);
  const less = ids.slice(0, 4);
  const moved = deployments.filter((one) => home(one, ids) !== home(one, less));
  expect(moved.every((one) => home(one, ids) === 'e')).toBe(true);
});

test('a crowded node gives an order on when another has much more room, and longer when it has none itself', () => {
  const roomy = [peer('other', { used: { memoryBytes: 0, sandboxes: 0, busySlots: 0, stems: 0 } })];
  const crowded = ask({ peers: roomy });
  expect(crowded).toMatchObject({ kind: 'pass' });
  const full = ask({
    peers: roomy,
    self: { id: 'me', hostname: 'me', labels: {}, freeBytes: 0, capacityBytes: 4 * GB },
  });
  const wait = (verdict: typeof full) => (verdict.kind === 'pass' ? verdict.waitMs : 0);
  expect(wait(full)).toBeGreaterThan(wait(crowded));
});

test('a constraint that this node does not meet is left to those who do, again and again', () => {
  const able = [peer('other', { labels: { zone: 'b' } })];
  const question = { constraints: ['node.labels.zone==b'], peers: able };
  expect(ask(question)).toMatchObject({ kind: 'pass' });
  expect(ask({ ...question, hasPassed: true })).toMatchObject({ kind: 'pass' });
});

test('a constraint that nobody meets fails at once and says so', () => {
  expect(ask({ constraints: ['node.labels.zone==c'] })).toEqual({
    kind: 'impossible',
    message:
      'no suitable node: node.labels.zone==c is not satisfied on any of the 2 nodes that is up and active',
  });
});

test('constraints read ids, host names, roles, platforms and labels; what is absent differs from every value', () => {
  const node = {
    id: 'n1',
    hostname: 'web-1',
    role: 'worker',
    platform: { os: 'linux', arch: 'x64' },
    labels: { zone: 'a', 'disk.kind': 'ssd' },
  };
  const met = [
    'node.id==n1',
    'node.hostname == web-1',
    'node.role!=manager',
    'node.platform.os==linux',
    'node.platform.arch!=arm64',
    'node.labels.zone==a',
    'node.labels.disk.kind==ssd',
    'engine.labels.zone!=b',
    'node.labels.gpu!=yes',
  ];
  expect(findUnmet(met, node)).toBeUndefined();
  for (const text of met) expect(Constraint.safeParse(text).success).toBe(true);
  expect(findUnmet(['node.labels.gpu==yes'], node)).toBe('node.labels.gpu==yes');
  expect(findUnmet(['node.future==1'], node)).toBe('node.future==1');
  for (const text of ['zone=a', 'node.labels.zone=a', 'node.cpu==1', 'node.id==', ''])
    expect(Constraint.safeParse(text).success).toBe(false);
});
