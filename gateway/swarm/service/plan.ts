/**
 * What is to be done so that a service becomes what it should be. Pure: the state of one moment in, orders out.
 * It runs again every second on what is true then, so it need not remember anything; nothing is lost with a leader.
 *
 * A slot (1 to `replicas`; of a global service one for each node) has one good replica in the end: of the wanted
 * deployment, on a node that is up, active (or paused) and meets the constraints. Until there is one, an old replica
 * stays, except where the order of the update is `stop-first`.
 */
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { findUnmet, readSpread } from '../../../sdk/protocol/swarm/constraint.ts';
import {
  isFit,
  type Replica,
  type RollbackConfig,
  type Service,
  type UpdateConfig,
} from '../../../sdk/protocol/swarm/resources.ts';

export interface Situation {
  readonly service: Service;
  /** As reported by nodes that are up. */
  readonly replicas: readonly Replica[];
  /** Ordered, not reported yet. */
  readonly pending: readonly (Made & { readonly slot: number; readonly node: string })[];
  /** That are up. */
  readonly nodes: readonly NodeRecord[];
  /** Of the deployment. */
  readonly memoryBytes: number;
  readonly constraints: readonly string[];
  /** Replicas of all services on a node, this one's included: what spreads over otherwise equal nodes. */
  readonly load: ReadonlyMap<string, number>;
  readonly nowMs: number;
}

/** Of what a replica is made. */
interface Made {
  readonly deployment: string;
  readonly revision?: number | undefined;
}

export type Step =
  | { readonly kind: 'start'; readonly slot: number; readonly node: string }
  | { readonly kind: 'stop'; readonly task: string; readonly node: string };

export interface Plan {
  readonly steps: readonly Step[];
  /** How many replicas there should be now. */
  readonly desired: number;
  /** Slots whose good replica runs. */
  readonly settled: number;
  /** Slots in which any replica runs. */
  readonly serving: number;
  /** Slots whose good replica has run for as long as the update watches it. */
  readonly proven: number;
  readonly message?: string;
}

/** A gateway that was told of a new replica sends nothing to the old one after this. */
const HANDOVER_MS = 1_000;
const BACKOFF_MS_MAX = 15_000;
const BACKOFF_MS = 500;

interface Slot {
  readonly number: number;
  /** Of a global service. */
  readonly node?: string;
  readonly good: readonly Replica[];
  readonly old: readonly Replica[];
  readonly failed: readonly Replica[];
  readonly isPending: boolean;
}

export function planService(situation: Situation): Plan {
  const { service, replicas, nodes } = situation;
  const { spec, updateStatus } = service;
  const slots = spec.mode === 'global' ? globalSlots(situation) : replicatedSlots(situation);
  const kept = new Set(slots.flatMap(({ good, old, failed }) => [...good, ...old, ...failed]));
  const steps: Step[] = [];
  for (const replica of replicas) if (!kept.has(replica) && isLive(replica)) steps.push(stop(replica));

  const placed = countPlaced(situation);
  let inTransition = slots.filter((slot) => isInTransition(slot, situation)).length;
  const policy = policyOf(service);
  const widthMax = policy.parallelism || Number.POSITIVE_INFINITY;
  let message: string | undefined;
  for (const slot of slots) {
    steps.push(...retire(slot, situation));
    if (slot.good.length > 0 || slot.isPending) continue;
    const moved = slot.old.filter((replica) => !mayStay(replica, situation));
    const isUpdate = slot.old.length > 0 && moved.length === 0;
    if (isUpdate) {
      if (updateStatus?.state === 'paused' || inTransition >= widthMax) continue;
      inTransition++;
      if (policy.order === 'stop-first') {
        steps.push(...slot.old.filter(({ state }) => state !== 'stopping').map(stop));
        continue;
      }
    }
    if (mustWait(slot, situation)) continue;
    const node = slot.node ?? chooseNode(situation, placed);
    if (node === undefined) {
      message = `no suitable node (${describeLack(situation)} on ${nodes.length} nodes)`;
      continue;
    }
    placed.set(node, (placed.get(node) ?? 0) + 1);
    steps.push({ kind: 'start', slot: slot.number, node });
  }
  return {
    steps,
    desired: slots.length,
    settled: slots.filter(({ good }) => good.some(({ state }) => state === 'running')).length,
    serving: slots.filter(({ good, old }) => [...good, ...old].some(({ state }) => state === 'running'))
      .length,
    proven: slots.filter(({ good }) => good.some((replica) => isOlder(replica, policy.monitorMs, situation)))
      .length,
    ...(message === undefined ? {} : { message }),
  };
}

/** How replicas are replaced now: forwards, or on the way back. */
export function policyOf({ spec, updateStatus }: Service): UpdateConfig | RollbackConfig {
  return (updateStatus?.state === 'rolling-back' ? spec.rollback : undefined) ?? spec.update;
}

const isLive = ({ state }: Replica): boolean => state === 'starting' || state === 'running';
const stop = ({ task, node }: Replica): Step => ({ kind: 'stop', task, node });

function isOlder({ state, sinceMs }: Replica, ms: number, { nowMs }: Situation): boolean {
  return state === 'running' && nowMs - sinceMs >= ms;
}

function replicatedSlots(situation: Situation): Slot[] {
  const { service, pending } = situation;
  return Array.from({ length: service.spec.replicas }, (_, index) => {
    const number = index + 1;
    const own = situation.replicas.filter(({ slot }) => slot === number);
    return createSlot(
      situation,
      { number },
      own,
      pending.some((task) => isWanted(task, number, situation)),
    );
  });
}

function globalSlots(situation: Situation): Slot[] {
  return situation.nodes
    .filter((node) => node.availability !== 'drain' && canHost(node, situation))
    .filter(
      (node) =>
        (node.availability === 'active' && isFit(node)) ||
        situation.replicas.some((one) => one.node === node.id),
    )
    .map((node) => {
      const own = situation.replicas.filter((replica) => replica.node === node.id);
      const isPending = situation.pending.some(
        (task) => task.node === node.id && isWanted(task, 0, situation),
      );
      return createSlot(situation, { number: 0, node: node.id }, own, isPending);
    });
}

function isWanted(task: Made & { slot: number }, slot: number, { service }: Situation): boolean {
  return task.slot === slot && isMadeFor(task, service);
}

/**
 * Of the deployment, and of the revision, that the service is to be of. Runners of an earlier release do not say which: their
 * replicas stay, as new ones would say no more, until the node is upgraded.
 */
export function isMadeFor({ deployment, revision }: Made, { spec }: Service): boolean {
  return deployment === spec.deployment && (revision === undefined || revision === spec.revision);
}

function createSlot(
  situation: Situation,
  place: Pick<Slot, 'number' | 'node'>,
  own: readonly Replica[],
  isPending: boolean,
): Slot {
  const { service } = situation;
  const live = own.filter(isLive);
  const good = live.filter((replica) => isMadeFor(replica, service) && mayStay(replica, situation));
  return {
    ...place,
    good,
    old: own.filter((replica) => replica.state !== 'failed' && !good.includes(replica)),
    failed: own.filter(({ state }) => state === 'failed'),
    isPending,
  };
}

/** May stay where it is. A paused node keeps what it has. */
function mayStay(replica: Replica, situation: Situation): boolean {
  const node = situation.nodes.find(({ id }) => id === replica.node);
  return node !== undefined && node.availability !== 'drain' && canHost(node, situation);
}

function canHost(node: NodeRecord, { service, constraints }: Situation): boolean {
  return findUnmet([...service.spec.constraints, ...constraints], node) === undefined;
}

/** Old replicas whose successor runs and is known, and all but the first of several good ones. */
function retire(slot: Slot, situation: Situation): Step[] {
  const running = slot.good.filter((replica) => isOlder(replica, HANDOVER_MS, situation));
  const surplus = slot.good.toSorted(byAge).slice(1);
  const old = running.length > 0 ? slot.old.filter(({ state }) => state !== 'stopping') : [];
  return [...surplus, ...old].map(stop);
}

/** One that runs before one that starts, then the older. */
function byAge(a: Replica, b: Replica): number {
  const rank = ({ state }: Replica) => (state === 'running' ? 0 : 1);
  return rank(a) - rank(b) || a.sinceMs - b.sinceMs;
}

/**
 * Being replaced, or replaced so short a time ago that it is still watched or the delay between two is not over: so
 * never more than `parallelism` replicas are on trial.
 */
function isInTransition(slot: Slot, situation: Situation): boolean {
  const { updateStatus } = situation.service;
  if (updateStatus?.state !== 'updating' && updateStatus?.state !== 'rolling-back') return false;
  if (slot.good.length === 0) return slot.isPending || slot.old.every(({ state }) => state === 'stopping');
  const isNew = slot.good.some(({ sinceMs }) => sinceMs >= updateStatus.startedMs);
  const { delayMs, monitorMs } = policyOf(situation.service);
  const trialMs = Math.max(delayMs, monitorMs);
  return isNew && !slot.good.some((replica) => isOlder(replica, trialMs, situation));
}

/** A replica that fails again and again is started again with growing pauses. */
function mustWait({ failed, number, node }: Slot, { nowMs, service }: Situation): boolean {
  const same = failed.filter(
    (replica) =>
      isMadeFor(replica, service) && (node === undefined ? replica.slot === number : replica.node === node),
  );
  if (same.length === 0) return false;
  const last = Math.max(...same.map(({ sinceMs }) => sinceMs));
  return nowMs - last < Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** same.length);
}

function countPlaced({ replicas, pending }: Situation): Map<string, number> {
  const placed = new Map<string, number>();
  for (const { node } of [...replicas.filter(isLive), ...pending])
    placed.set(node, (placed.get(node) ?? 0) + 1);
  return placed;
}

/** As preferences say; then fewest replicas of this service, then fewest of all, then most free memory. */
function chooseNode(situation: Situation, placed: ReadonlyMap<string, number>): string | undefined {
  const { service, nodes, memoryBytes, load } = situation;
  const perNodeMax = service.spec.replicasMaxPerNode || Number.POSITIVE_INFINITY;
  const free = ({ capacity, used }: NodeRecord) => capacity.memoryBytes - used.memoryBytes;
  const able = nodes.filter(
    (node) =>
      node.availability === 'active' &&
      isFit(node) &&
      canHost(node, situation) &&
      (placed.get(node.id) ?? 0) < perNodeMax &&
      node.capacity.memoryBytes >= memoryBytes,
  );
  const roomy = able.filter((node) => free(node) >= memoryBytes);
  const order = (a: NodeRecord, b: NodeRecord) =>
    (placed.get(a.id) ?? 0) - (placed.get(b.id) ?? 0) ||
    (load.get(a.id) ?? 0) - (load.get(b.id) ?? 0) ||
    free(b) - free(a);
  return spread(roomy.length > 0 ? roomy : able, situation, placed).toSorted(order)[0]?.id;
}

/** Those of the nodes whose value of each preferred label has the fewest replicas. */
function spread(
  able: readonly NodeRecord[],
  { service, nodes }: Situation,
  placed: ReadonlyMap<string, number>,
): readonly NodeRecord[] {
  let [chosen, all] = [able, nodes];
  for (const preference of service.spec.preferences) {
    const counts = new Map<string, number>();
    for (const node of all) {
      const value = readSpread(preference, node);
      counts.set(value, (counts.get(value) ?? 0) + (placed.get(node.id) ?? 0));
    }
    const of = (node: NodeRecord) => counts.get(readSpread(preference, node)) ?? 0;
    const least = Math.min(...chosen.map(of));
    const value = chosen.filter((node) => of(node) === least).map((node) => readSpread(preference, node))[0];
    const isThere = (node: NodeRecord) => readSpread(preference, node) === value;
    [chosen, all] = [chosen.filter(isThere), all.filter(isThere)];
  }
  return chosen;
}

function describeLack(situation: Situation): string {
  const { service, nodes } = situation;
  const active = nodes.filter(({ availability }) => availability === 'active');
  if (active.length === 0) return 'none is active';
  if (!active.some(isFit)) return 'none is ready';
  if (!active.some((node) => canHost(node, situation))) return 'scheduling constraints not satisfied';
  return service.spec.replicasMaxPerNode > 0 ? 'max replicas per node limit exceeded' : 'not enough memory';
}
