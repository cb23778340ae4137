/**
 * Idle warm sandboxes move to nodes with more room, such as one that has just joined. Nobody is told to: every node says
 * with its signs of life which of its sandboxes are warm, wanted and idle; a node with much more free memory starts one in
 * the place of such a sandbox and says so; then the first node ends its own, if that is idle still.
 * Of a function that has its maximum already, the old one ends first: the maximum is a promise (of connections to a database,
 * say), and one idle sandbox less for a moment is not.
 * Invariant: but for that, the new sandbox takes calls before the old one ends; no sandbox ends that has a call, a slot in
 * somebody's hands, or that a node needs to have (a replica). The maximum of a function holds meanwhile.
 * Deliberately absent: who starts what is cold (placement.ts).
 */
import type { Deployment, NodeRecord } from '../../sdk/protocol/api.ts';
import { LEASE_MS } from '../../sdk/protocol/limits.ts';
import { findUnmet, type NodeFacts } from '../../sdk/protocol/swarm/constraint.ts';
import type { WarmSandbox } from '../../sdk/protocol/swarm/resources.ts';
import type { StartOrder } from '../../infra/contract/jobs.ts';
import type { Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import type { Instance } from '../pool/instance.ts';
import type { Pool } from '../pool/pool.ts';

/** A sandbox that served in this time is worth being started elsewhere. */
const HOT_MS = 60_000;
/** By then gateways have given back the slots they had leased. */
const IDLE_MS = 1_500 + LEASE_MS;
/** In one record; others follow when these have moved. */
const OFFERED_MAX = 8;
/** Free memory must differ by this share of a node's capacity: less is not worth a start. */
const SHARE_MIN = 0.05;
/** How long others are told of a sandbox that was started in place of theirs: some signs of life. */
const TAKEN_MS = 5_000;
/** One start was given up if nothing came of it by now. */
const PENDING_MS = 30_000;

/** So long a place is waited for that another node was asked to free: some signs of life. */
const ASKED_MS = 5_000;

export interface Room {
  readonly id: string;
  readonly usedBytes: number;
  readonly capacityBytes: number;
  /** Sandboxes of a deployment that are here or about to be. */
  count(deployment: string): number;
}

/**
 * Whose warm sandbox this node should start another for: of the fullest peer, where the function has at least two more
 * than here, and only while this node is the emptiest and stays emptier than that peer. Pure.
 */
export function chooseMove(self: Room, peers: readonly NodeRecord[]): WarmSandbox | undefined {
  const ownShare = self.usedBytes / self.capacityBytes;
  const shares = peers.map((peer) => ({ peer, share: shareOf(peer) }));
  // Others that are emptier come first; of equals the lower id.
  const isOurs = shares.every(
    ({ peer, share }) => share > ownShare || (share === ownShare && self.id < peer.id),
  );
  if (!isOurs) return undefined;
  const taken = new Set(peers.flatMap((peer) => peer.taken ?? []));
  for (const { peer, share } of shares.toSorted((a, b) => b.share - a.share)) {
    if (share - ownShare < SHARE_MIN) return undefined;
    const warm = (peer.warm ?? []).filter(({ sandbox }) => !taken.has(sandbox));
    const found = warm.find((one) => {
      const there = warm.filter(({ deployment }) => deployment === one.deployment).length;
      const after = (self.usedBytes + one.memoryBytes) / self.capacityBytes;
      const left = share - one.memoryBytes / peer.capacity.memoryBytes;
      return there - self.count(one.deployment) >= 2 && after <= left;
    });
    if (found) return found;
  }
  return undefined;
}

const shareOf = ({ used, capacity }: NodeRecord): number =>
  capacity.memoryBytes === 0 ? 0 : used.memoryBytes / capacity.memoryBytes;

export interface RebalanceOptions {
  readonly id: string;
  readonly memoryBytesMax: number;
  readonly pool: Pick<Pool, 'instances' | 'get' | 'usedBytes' | 'tryEnd'>;
  readonly dispatcher: Pick<Dispatcher, 'takeOver'>;
  facts(): NodeFacts;
  peers(): readonly NodeRecord[];
  /** Undefined when it does not exist. */
  getDeployment(id: string): Promise<Deployment | undefined>;
  start(order: StartOrder): void;
  /** Whether this node takes new work. */
  mayTake(): boolean;
}

interface Asked {
  readonly sandbox: string;
  readonly deployment: Deployment;
  readonly sinceMs: number;
}

export class Rebalance {
  readonly #options: RebalanceOptions;
  /** Sandboxes of others that one is being started for here: of which deployment, since when. */
  readonly #pending = new Map<string, { deployment: string; sinceMs: number }>();
  /** One that was asked to end first, as its function has its maximum. */
  #asked: Asked | undefined;
  /** Those for which one runs here, and since when. */
  readonly #taken = new Map<string, number>();

  constructor(options: RebalanceOptions) {
    this.#options = options;
  }

  /** Sandboxes here that others may start another for. */
  get warm(): WarmSandbox[] {
    const now = Date.now();
    return [...this.#options.pool.instances]
      .filter((instance) => isOffered(instance, now))
      .slice(0, OFFERED_MAX)
      .map(({ guest, deployment }) => ({
        sandbox: guest.id,
        deployment: deployment.id,
        memoryBytes: deployment.config.memory,
      }));
  }

  /** Sandboxes of others that one runs here for, or will when they have ended. */
  get taken(): string[] {
    return [...this.#taken.keys(), ...(this.#asked ? [this.#asked.sandbox] : [])];
  }

  /** A sandbox was started in place of this one of another node. */
  onStarted(sandbox: string): void {
    this.#pending.delete(sandbox);
    this.#taken.set(sandbox, Date.now());
  }

  async tick(): Promise<void> {
    const now = Date.now();
    for (const [sandbox, sinceMs] of this.#taken) if (now - sinceMs > TAKEN_MS) this.#taken.delete(sandbox);
    for (const [sandbox, { sinceMs }] of this.#pending)
      if (now - sinceMs > PENDING_MS) this.#pending.delete(sandbox);
    await this.#giveUp();
    await this.#take();
  }

  /** Ours that run elsewhere now. One that was used meanwhile stays, and goes when it has been idle for too long. */
  async #giveUp(): Promise<void> {
    const { pool, peers } = this.#options;
    for (const sandbox of peers().flatMap(({ taken = [] }) => taken)) {
      const instance = pool.get(sandbox);
      if (instance && isOffered(instance, Date.now())) await pool.tryEnd(instance);
    }
  }

  async #take(): Promise<void> {
    const { id, pool, memoryBytesMax, peers, facts, getDeployment } = this.#options;
    if (!this.#options.mayTake()) {
      this.#asked = undefined;
      return;
    }
    if (this.#asked) return this.#takeAsked(this.#asked);
    if (this.#pending.size > 0) return;
    const move = chooseMove(
      { id, usedBytes: pool.usedBytes, capacityBytes: memoryBytesMax, count: (name) => this.#count(name) },
      // What was taken already is still in its old node's record.
      peers().map((peer) => ({
        ...peer,
        warm: (peer.warm ?? []).filter(({ sandbox }) => !this.#taken.has(sandbox)),
      })),
    );
    const deployment = move && (await getDeployment(move.deployment));
    if (!move || !deployment || findUnmet(deployment.config.constraints, facts()) !== undefined) return;
    if (!(await this.#tryStart(deployment, move.sandbox)))
      this.#asked = { sandbox: move.sandbox, deployment, sinceMs: Date.now() };
  }

  /** Its place may be free by now. If it was used again, or somebody else took the place, all stays as it is. */
  async #takeAsked({ sandbox, deployment, sinceMs }: Asked): Promise<void> {
    const isStarted = await this.#tryStart(deployment, sandbox);
    if (isStarted || Date.now() - sinceMs > ASKED_MS) this.#asked = undefined;
  }

  /** False when the function has its maximum. */
  async #tryStart(deployment: Deployment, sandbox: string): Promise<boolean> {
    const { concurrency, max } = deployment.config;
    const scaling = { deployment: deployment.id, concurrency, max, min: max };
    this.#pending.set(sandbox, { deployment: deployment.id, sinceMs: Date.now() });
    const order = await this.#options.dispatcher.takeOver(scaling, sandbox);
    if (order) this.#options.start(order);
    else this.#pending.delete(sandbox);
    return order !== undefined;
  }

  #count(deployment: string): number {
    let count = 0;
    for (const instance of this.#options.pool.instances)
      if (instance.deployment.id === deployment && instance.state === 'active') count++;
    for (const pending of this.#pending.values()) if (pending.deployment === deployment) count++;
    return count;
  }
}

function isOffered(instance: Instance, now: number): boolean {
  const idleMs = now - instance.lastUsedMs;
  if (instance.state !== 'active' || instance.isPinned || instance.uses === 0) return false;
  return instance.isQuiet && idleMs >= IDLE_MS && idleMs < HOT_MS;
}
