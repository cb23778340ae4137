import { expect, test } from 'vitest';
import { planService, type Situation } from '../../../gateway/swarm/service/plan.ts';
import { weighDeployments } from '../../../gateway/swarm/service/routes.ts';
import { advanceUpdate } from '../../../gateway/swarm/service/update.ts';
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { ServiceSpec, type Replica, type Service } from '../../../sdk/protocol/swarm/resources.ts';
import { createNodeRecord } from '../../helpers/node-record.ts';

const NOW = 1_000_000;
const MB = 1024 ** 2;

const node = (id: string, changes: Partial<NodeRecord> = {}): NodeRecord =>
  createNodeRecord(id, { capacity: { memoryBytes: 1024 * MB, cpus: 2 }, ...changes });

let tasks = 0;
const replica = (slot: number, on: string, changes: Partial<Replica> = {}): Replica => ({
  task: `t${++tasks}`,
  service: 'web',
  slot,
  deployment: 'dep-1',
  node: on,
  sandbox: 's',
  state: 'running',
  sinceMs: NOW - 60_000,
  ...changes,
});

const service = (spec: object = {}, changes: Partial<Service> = {}): Service => ({
  id: 'svc-1',
  name: 'web',
  createdMs: 0,
  updatedMs: 0,
  version: 1,
  spec: ServiceSpec.parse({ functionName: 'hello', deployment: 'dep-1', replicas: 3, ...spec }),
  ...changes,
});

const situation = (changes: Partial<Situation> = {}): Situation => ({
  service: service(),
  replicas: [],
  pending: [],
  nodes: [node('a'), node('b'), node('c')],
  memoryBytes: 64 * MB,
  constraints: [],
  load: new Map(),
  nowMs: NOW,
  ...changes,
});

const starts = (given: Situation) => planService(given).steps.filter((step) => step.kind === 'start');
const stops = (given: Situation) => planService(given).steps.filter((step) => step.kind === 'stop');

test('replicas are spread over nodes', () => {
  const plan = planService(situation());
  expect(plan.steps.map((step) => step.node).sort()).toEqual(['a', 'b', 'c']);
  expect(plan).toMatchObject({ desired: 3, settled: 0 });
});

test('what is ordered or runs is not ordered again', () => {
  const given = situation({
    replicas: [replica(1, 'a'), replica(2, 'b', { state: 'starting' })],
    pending: [{ slot: 3, deployment: 'dep-1', node: 'c' }],
  });
  expect(planService(given)).toMatchObject({ steps: [], settled: 1 });
});

test('a replica whose node is gone is replaced elsewhere, and one of two for the same slot ends', () => {
  const rest = [replica(1, 'a'), replica(2, 'b')];
  const nodes = [node('a'), node('b')];
  expect(starts(situation({ replicas: rest, nodes }))).toHaveLength(1);
  const twice = [...rest, replica(3, 'a'), replica(3, 'b', { task: 'newer', sinceMs: NOW - 1_000 })];
  expect(stops(situation({ replicas: twice, nodes }))).toEqual([{ kind: 'stop', task: 'newer', node: 'b' }]);
});

test('a drained node gives its replicas away: first the new one, then the old one ends', () => {
  const nodes = [node('a', { availability: 'drain' }), node('b'), node('c')];
  const old = replica(1, 'a', { task: 'old' });
  const others = [replica(2, 'b'), replica(3, 'c')];
  expect(planService(situation({ nodes, replicas: [old, ...others] })).steps).toMatchObject([
    { kind: 'start', slot: 1 },
  ]);
  const young = replica(1, 'b', { sinceMs: NOW - 100 });
  expect(planService(situation({ nodes, replicas: [old, young, ...others] })).steps).toEqual([]);
  const grown = replica(1, 'b', { sinceMs: NOW - 1_500 });
  expect(planService(situation({ nodes, replicas: [old, grown, ...others] })).steps).toEqual([
    { kind: 'stop', task: 'old', node: 'a' },
  ]);
});

test('a paused node keeps what it has and gets nothing', () => {
  const nodes = [node('a', { availability: 'pause' }), node('b')];
  const given = situation({ nodes, replicas: [replica(1, 'a')] });
  expect(planService(given).steps.map((step) => step.node)).toEqual(['b', 'b']);
});

test('constraints and the maximum for a node are kept, and what lacks is said', () => {
  const nodes = [node('a', { labels: { zone: 'x' } }), node('b')];
  const bound = service({ constraints: ['node.labels.zone==x'] });
  expect(starts(situation({ service: bound, nodes })).map((step) => step.node)).toEqual(['a', 'a', 'a']);
  const spread = service({ constraints: ['node.labels.zone==x'], replicasMaxPerNode: 2 });
  expect(planService(situation({ service: spread, nodes }))).toMatchObject({
    message: 'no suitable node (max replicas per node limit exceeded on 2 nodes)',
  });
  const nowhere = service({ constraints: ['node.labels.zone==y'] });
  expect(planService(situation({ service: nowhere, nodes })).message).toBe(
    'no suitable node (scheduling constraints not satisfied on 2 nodes)',
  );
});

test('preferences spread replicas over the values of a label, then over nodes', () => {
  const zone = (id: string, name: string, rack = '1') => node(id, { labels: { zone: name, rack } });
  const nodes = [zone('a1', 'a'), zone('a2', 'a'), zone('a3', 'a', '2'), zone('b1', 'b')];
  const placed = (spec: object, on = nodes) =>
    starts(situation({ service: service(spec), nodes: on }))
      .map((step) => step.node)
      .toSorted();
  expect(placed({ replicas: 4, preferences: ['spread=node.labels.zone'] })).toEqual(['a1', 'a2', 'b1', 'b1']);
  const both = ['spread=node.labels.zone', 'spread=node.labels.rack'];
  expect(placed({ replicas: 4, preferences: both })).toEqual(['a1', 'a3', 'b1', 'b1']);
  // Nodes without the label are a place of their own, and a limit comes before a preference.
  const bare = [...nodes, node('c')];
  expect(placed({ replicas: 3, preferences: ['spread=node.labels.zone'] }, bare)).toEqual(['a1', 'b1', 'c']);
  const limited = { replicas: 4, replicasMaxPerNode: 1, preferences: ['spread=node.labels.zone'] };
  expect(placed(limited)).toEqual(['a1', 'a2', 'a3', 'b1']);
  expect(ServiceSpec.safeParse({ ...service().spec, preferences: ['spread=zone'] }).success).toBe(false);
});

test('a node through which no invocation passes gets no replica, and keeps those it has', () => {
  const health = { state: 'failing' as const, sinceMs: 0 };
  const nodes = [node('a', { health }), node('b')];
  expect(starts(situation({ nodes })).map((step) => step.node)).toEqual(['b', 'b', 'b']);
  expect(
    planService(situation({ nodes, replicas: [1, 2, 3].map((slot) => replica(slot, 'a')) })).steps,
  ).toEqual([]);
  expect(planService(situation({ nodes: [node('a', { health })] })).message).toBe(
    'no suitable node (none is ready on 1 nodes)',
  );
});

test('a global service has one replica on each node that can have it', () => {
  const global = service({ mode: 'global', constraints: ['node.labels.edge!=no'] });
  const nodes = [
    node('a'),
    node('b', { labels: { edge: 'no' } }),
    node('c'),
    node('d', { availability: 'drain' }),
  ];
  const given = situation({
    service: global,
    nodes,
    replicas: [replica(0, 'a'), replica(0, 'd', { task: 'x' })],
  });
  expect(planService(given)).toMatchObject({
    desired: 2,
    settled: 1,
    steps: [
      { kind: 'stop', task: 'x', node: 'd' },
      { kind: 'start', node: 'c', slot: 0 },
    ],
  });
});

test('scaling down ends the highest slots', () => {
  const replicas = [1, 2, 3].map((slot) => replica(slot, 'a', { task: `slot${slot}` }));
  const given = situation({ service: service({ replicas: 1 }), replicas });
  expect(stops(given).map((step) => step.task)).toEqual(['slot2', 'slot3']);
});

test('a replica that fails again and again is started again with growing pauses', () => {
  const failed = (count: number, agoMs: number) =>
    Array.from({ length: count }, () => replica(1, 'a', { state: 'failed', sinceMs: NOW - agoMs }));
  const one = service({ replicas: 1 });
  expect(starts(situation({ service: one, replicas: failed(1, 500) }))).toHaveLength(0);
  expect(starts(situation({ service: one, replicas: failed(1, 1_100) }))).toHaveLength(1);
  expect(starts(situation({ service: one, replicas: failed(3, 1_100) }))).toHaveLength(0);
});

const updating = (spec: object = {}): Service =>
  service(
    { deployment: 'dep-2', update: { parallelism: 1, monitorMs: 1_000 }, ...spec },
    {
      previousSpec: service().spec,
      updateStatus: { state: 'updating', startedMs: NOW - 30_000, message: '' },
    },
  );
const oldOnes = () => [replica(1, 'a'), replica(2, 'b'), replica(3, 'c')];

test('an update replaces as many replicas at a time as it may, new ones first', () => {
  const given = situation({ service: updating(), replicas: oldOnes() });
  expect(planService(given).steps).toMatchObject([{ kind: 'start', slot: 1 }]);
  const two = updating({ update: { parallelism: 2 } });
  expect(starts(situation({ service: two, replicas: oldOnes() })).map((step) => step.slot)).toEqual([1, 2]);
  const all = updating({ update: { parallelism: 0 } });
  expect(starts(situation({ service: all, replicas: oldOnes() }))).toHaveLength(3);
});

test('the next one waits until the one before has been watched', () => {
  const young = replica(1, 'a', { deployment: 'dep-2', sinceMs: NOW - 500 });
  const [, ...rest] = oldOnes();
  expect(starts(situation({ service: updating(), replicas: [young, ...rest] }))).toHaveLength(0);
  const proven = { ...young, sinceMs: NOW - 1_500 };
  expect(
    starts(situation({ service: updating(), replicas: [proven, ...rest] })).map((step) => step.slot),
  ).toEqual([2]);
});

test('stop-first ends the old one and starts the new one when it is gone', () => {
  const first = updating({ update: { order: 'stop-first' } });
  const [one, ...rest] = oldOnes();
  expect(planService(situation({ service: first, replicas: [one as Replica, ...rest] })).steps).toMatchObject(
    [{ kind: 'stop', task: one?.task }],
  );
  expect(planService(situation({ service: first, replicas: rest })).steps).toMatchObject([
    { kind: 'start', slot: 1 },
  ]);
});

test('an update that fails is rolled back, paused or carried on, as it was said', () => {
  const failed = replica(1, 'a', {
    deployment: 'dep-2',
    state: 'failed',
    message: 'boom',
    sinceMs: NOW - 1_000,
  });
  const advance = (failureAction: string) => {
    const given = situation({
      service: updating({ update: { failureAction } }),
      replicas: [failed, ...oldOnes()],
    });
    return advanceUpdate(given, planService(given));
  };
  const back = advance('rollback');
  expect(back?.spec.deployment).toBe('dep-1');
  expect(back?.updateStatus).toMatchObject({
    state: 'rolling-back',
    message: expect.stringContaining('boom'),
  });
  expect(advance('pause')?.updateStatus?.state).toBe('paused');
  expect(advance('continue')).toBeUndefined();
});

test('an update is completed when every new replica has been watched and no old one is left', () => {
  const fresh = [1, 2, 3].map((slot) => replica(slot, 'a', { deployment: 'dep-2', sinceMs: NOW - 2_000 }));
  const advance = (replicas: Replica[]) => {
    const given = situation({ service: updating(), replicas });
    return advanceUpdate(given, planService(given))?.updateStatus?.state;
  };
  expect(advance(fresh)).toBe('completed');
  expect(advance([...fresh, replica(1, 'b', { state: 'stopping' })])).toBeUndefined();
  expect(advance(fresh.map((one) => ({ ...one, sinceMs: NOW - 100 })))).toBeUndefined();
});

test('a forced update replaces replicas of the same deployment, and is over when none of before is left', () => {
  const forced = service(
    { revision: 1 },
    { updateStatus: { state: 'updating', startedMs: NOW - 10_000, message: 'forced' } },
  );
  const unsaid = [replica(1, 'a'), replica(2, 'b'), replica(3, 'c')];
  const old = unsaid.map((one) => ({ ...one, revision: 0 }));
  const fresh = old.map((one) => ({ ...one, task: `${one.task}-new`, revision: 1 }));
  const first = planService(situation({ service: forced, replicas: old }));
  expect(first).toMatchObject({ steps: [{ kind: 'start', slot: 1 }], settled: 0, serving: 3 });
  const status = (replicas: Replica[]) => {
    const given = situation({ service: forced, replicas });
    return advanceUpdate(given, planService(given))?.updateStatus?.state;
  };
  expect([status([...fresh, ...old]), status(fresh)]).toEqual([undefined, 'completed']);
  // Else they would be replaced for ever.
  expect(planService(situation({ service: forced, replicas: unsaid })).steps).toEqual([]);
  expect(status(unsaid)).toBe('completed');
});

test('calls go to new replicas as soon as they run, and to the old ones of other slots', () => {
  const mixed = [...oldOnes(), replica(1, 'b', { deployment: 'dep-2' })];
  expect(weighDeployments(updating(), mixed)).toEqual([
    ['dep-1', 67],
    ['dep-2', 33],
  ]);
  expect(weighDeployments(updating(), [])).toEqual([['dep-2', 100]]);
});

test('a rollback replaces replicas as its own settings say, and those of an update where it has none', () => {
  const width = (rollback?: object): number => {
    const service = updating({ replicas: 3, ...(rollback && { rollback }) });
    const back = {
      ...service,
      updateStatus: { state: 'rolling-back' as const, startedMs: NOW, message: '' },
    };
    const { steps } = planService(situation({ service: back, replicas: oldOnes() }));
    return steps.filter(({ kind }) => kind === 'start').length;
  };
  expect([width(), width({ parallelism: 2 }), width({ parallelism: 0 })]).toEqual([1, 2, 3]);
});

test('a rollback that fails is paused, or goes on when it was told to', () => {
  const failed = replica(1, 'a', { deployment: 'dep-2', state: 'failed', sinceMs: NOW - 1_000 });
  const advance = (rollback: object) => {
    const service = updating({ rollback });
    const back = {
      ...service,
      updateStatus: { state: 'rolling-back' as const, startedMs: NOW - 5_000, message: '' },
    };
    const given = situation({ service: back, replicas: [failed, ...oldOnes()] });
    return advanceUpdate(given, planService(given))?.updateStatus?.state;
  };
  expect(advance({ failureAction: 'pause' })).toBe('paused');
  expect(advance({ failureAction: 'continue' })).toBeUndefined();
});
