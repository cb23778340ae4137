/**
 * A swarm in virtual time: the runners' own rules of placement and keep-alive (runner/swarm/placement.ts,
 * runner/pool/keep-alive.ts), and around them a model of what they stand in: start orders that nodes pop in turn, slots that
 * are taken last in, first out, starts and calls that take their time. Nothing is measured in it but the decisions' own
 * speed; everything else follows from the seed.
 */
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { CONCURRENCY_DEFAULT, HEARTBEAT_MS, KEEP_ALIVE_MS_DEFAULT } from '../../../sdk/protocol/limits.ts';
import { isOverdue, priorityOf } from '../../../runner/pool/keep-alive.ts';
import { judge, weigh } from '../../../runner/swarm/placement.ts';
import { createMix, gapMs, Random, type SimulatedFunction } from './mix.ts';
import { Timeline } from './timeline.ts';

export interface SimulationOptions {
  readonly nodes: number;
  readonly functions: number;
  /** Virtual. The first part, until sandboxes that are used are there, is not counted. */
  readonly durationMs: number;
  readonly warmUpMs: number;
  readonly nodeMemoryBytes: number;
  readonly seed: number;
}

export interface SimulationResult {
  readonly calls: number;
  readonly coldCalls: number;
  readonly starts: number;
  readonly evictions: number;
  /** Standard deviation of nodes' used memory by its mean, and the most by the mean; averages over time. */
  readonly imbalance: number;
  readonly peak: number;
  /** Nodes that had a function's image when it was started for the last time; average over functions. */
  readonly imagesPerFunction: number;
  readonly decisions: number;
  /** Real time. */
  readonly decisionsPerSecond: number;
  readonly refused: number;
}

interface Sandbox {
  readonly node: SimulatedNode;
  readonly owner: FunctionState;
  busy: number;
  uses: number;
  lastUsedMs: number;
}

interface SimulatedNode {
  readonly record: NodeRecord;
  /** The records of all others. */
  peers: readonly NodeRecord[];
  readonly images: Set<string>;
  readonly sandboxes: Set<Sandbox>;
  usedBytes: number;
  clock: number;
}

interface FunctionState {
  readonly spec: SimulatedFunction;
  /** With a free slot; the last used last. */
  readonly free: Sandbox[];
  waiting: number;
  starting: number;
}

/** Popping an order, and giving it on. */
const HOP_MS = 0.3;
const COLD_MS = 25;
const FETCH_MS = 400;
const PREFETCH_NODES = 2;
const SWEEP_MS = 1_000;

export class Simulation {
  readonly #options: SimulationOptions;
  readonly #random: Random;
  readonly #timeline = new Timeline();
  readonly #nodes: SimulatedNode[];
  #turn = 0;
  #judgeMs = 0;
  readonly #count = { calls: 0, cold: 0, starts: 0, evictions: 0, decisions: 0, refused: 0 };
  readonly #spread = { samples: 0, imbalance: 0, peak: 0 };

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#nodes = Array.from({ length: options.nodes }, (_, i) => createNode(i, options.nodeMemoryBytes));
    for (const node of this.#nodes)
      node.peers = this.#nodes.flatMap((one) => (one === node ? [] : [one.record]));
  }

  run(): SimulationResult {
    const { durationMs, functions } = this.#options;
    const mix = createMix(functions, this.#random);
    for (const spec of mix) {
      const state: FunctionState = { spec, free: [], waiting: 0, starting: 0 };
      this.#prefetch(spec);
      this.#timeline.at(this.#random.next() * gapMs(spec, this.#random), () => this.#arrive(state));
    }
    this.#timeline.every(SWEEP_MS, () => this.#sweep());
    // What nodes know of each other is as old as a heartbeat.
    this.#timeline.every(HEARTBEAT_MS, () => this.#beat());
    this.#timeline.runUntil(durationMs);
    const { calls, cold, starts, evictions, decisions, refused } = this.#count;
    const images = mix.map(({ id }) => this.#nodes.filter((node) => node.images.has(id)).length);
    return {
      calls,
      coldCalls: cold,
      starts,
      evictions,
      imbalance: this.#spread.imbalance / this.#spread.samples,
      peak: this.#spread.peak / this.#spread.samples,
      imagesPerFunction: images.reduce((sum, one) => sum + one, 0) / images.length,
      decisions,
      decisionsPerSecond: decisions / (this.#judgeMs / 1_000),
      refused,
    };
  }

  /** As runner/swarm/prefetch.ts: the first in a function's ranking have its image before it is called. */
  #prefetch({ id }: SimulatedFunction): void {
    const weights = this.#nodes.map((node) => weigh(id, node.record.id));
    const least = weights.toSorted((a, b) => b - a)[PREFETCH_NODES - 1] ?? 0;
    for (const [i, node] of this.#nodes.entries()) if ((weights[i] as number) >= least) node.images.add(id);
  }

  get #isCounted(): boolean {
    return this.#timeline.now >= this.#options.warmUpMs;
  }

  #arrive(state: FunctionState): void {
    this.#timeline.after(gapMs(state.spec, this.#random), () => this.#arrive(state));
    if (this.#isCounted) this.#count.calls++;
    const sandbox = state.free.at(-1);
    if (sandbox) return this.#serve(sandbox);
    if (this.#isCounted) this.#count.cold++;
    state.waiting++;
    // As dispatch.lua: one start for as many calls as a sandbox takes.
    if (state.starting * CONCURRENCY_DEFAULT >= state.waiting) return;
    state.starting++;
    this.#offer(state, new Set());
  }

  #serve(sandbox: Sandbox): void {
    const { free, spec } = sandbox.owner;
    sandbox.busy++;
    sandbox.uses++;
    if (sandbox.busy === CONCURRENCY_DEFAULT) free.splice(free.indexOf(sandbox), 1);
    this.#timeline.after(this.#random.logNormal(spec.runMs, 0.5), () => {
      if (sandbox.busy-- === CONCURRENCY_DEFAULT) free.push(sandbox);
      sandbox.lastUsedMs = this.#timeline.now;
    });
  }

  /** The next node in turn pops the order and judges it. */
  #offer(state: FunctionState, passed: Set<SimulatedNode>): void {
    const node = this.#nodes[this.#turn++ % this.#nodes.length] as SimulatedNode;
    this.#consider(state, node, passed);
  }

  #consider(state: FunctionState, node: SimulatedNode, passed: Set<SimulatedNode>): void {
    // Whoever was given another chance took it meanwhile.
    if (state.starting === 0) return;
    const { spec } = state;
    const capacityBytes = this.#options.nodeMemoryBytes;
    const { record } = node;
    const began = performance.now();
    const verdict = judge({
      deployment: spec.id,
      constraints: [],
      memoryBytes: spec.memoryBytes,
      hasPassed: passed.has(node),
      hasImage: node.images.has(spec.id),
      self: { ...record, freeBytes: capacityBytes - node.usedBytes, capacityBytes },
      peers: node.peers,
    });
    this.#judgeMs += performance.now() - began;
    this.#count.decisions++;
    if (verdict.kind !== 'pass') return this.#start(state, node);
    passed.add(node);
    const orders = state.starting;
    this.#timeline.after(HOP_MS, () => this.#offer(state, passed));
    // It comes back to the queue after its wait, and takes the order if it is still there.
    this.#timeline.after(verdict.waitMs, () => {
      if (state.starting === orders && state.waiting > 0) this.#consider(state, node, passed);
    });
  }

  #start(state: FunctionState, node: SimulatedNode): void {
    state.starting--;
    const { spec } = state;
    if (!this.#makeRoom(node, spec.memoryBytes)) {
      this.#count.refused++;
      state.starting++;
      this.#timeline.after(50, () => this.#offer(state, new Set()));
      return;
    }
    if (this.#isCounted) this.#count.starts++;
    node.usedBytes += spec.memoryBytes;
    const fetchMs = node.images.has(spec.id) ? 0 : FETCH_MS;
    node.images.add(spec.id);
    const sandbox: Sandbox = { node, owner: state, busy: 0, uses: 0, lastUsedMs: this.#timeline.now };
    this.#timeline.after(fetchMs + COLD_MS, () => {
      sandbox.lastUsedMs = this.#timeline.now;
      node.sandboxes.add(sandbox);
      state.free.push(sandbox);
      while (state.waiting > 0 && sandbox.busy < CONCURRENCY_DEFAULT) {
        state.waiting--;
        this.#serve(sandbox);
      }
    });
  }

  #makeRoom(node: SimulatedNode, bytes: number): boolean {
    if (node.usedBytes + bytes <= this.#options.nodeMemoryBytes) return true;
    const idle = [...node.sandboxes]
      .filter(({ busy }) => busy === 0)
      .map((sandbox) => ({
        sandbox,
        priority: priorityOf(node.clock, {
          uses: sandbox.uses,
          coldMs: COLD_MS,
          memoryBytes: sandbox.owner.spec.memoryBytes,
        }),
      }))
      .sort((a, b) => a.priority - b.priority);
    for (const { sandbox, priority } of idle) {
      if (node.usedBytes + bytes <= this.#options.nodeMemoryBytes) break;
      node.clock = Math.max(node.clock, priority);
      this.#end(sandbox);
      if (this.#isCounted) this.#count.evictions++;
    }
    return node.usedBytes + bytes <= this.#options.nodeMemoryBytes;
  }

  #end(sandbox: Sandbox): void {
    const { node, owner } = sandbox;
    node.sandboxes.delete(sandbox);
    node.usedBytes -= owner.spec.memoryBytes;
    owner.free.splice(owner.free.indexOf(sandbox), 1);
  }

  #sweep(): void {
    const { now } = this.#timeline;
    for (const node of this.#nodes) {
      for (const sandbox of node.sandboxes)
        if (sandbox.busy === 0 && isOverdue(sandbox.lastUsedMs, KEEP_ALIVE_MS_DEFAULT, now))
          this.#end(sandbox);
    }
    if (!this.#isCounted) return;
    const used = this.#nodes.map(({ usedBytes }) => usedBytes);
    const mean = used.reduce((sum, one) => sum + one, 0) / used.length;
    const variance = used.reduce((sum, one) => sum + (one - mean) ** 2, 0) / used.length;
    this.#spread.samples++;
    this.#spread.imbalance += Math.sqrt(variance) / mean;
    this.#spread.peak += Math.max(...used) / mean;
  }

  #beat(): void {
    for (const { record, usedBytes, sandboxes } of this.#nodes)
      Object.assign(record.used, { memoryBytes: usedBytes, sandboxes: sandboxes.size });
  }
}

function createNode(number: number, memoryBytes: number): SimulatedNode {
  const record: NodeRecord = {
    id: `node-${number.toString(16).padStart(10, '0')}`,
    hostname: `host-${number}`,
    epoch: 'e',
    startedMs: 0,
    heartbeatMs: 0,
    availability: 'active',
    labels: {},
    version: '0',
    link: '',
    status: 'ready',
    capacity: { memoryBytes, cpus: 8 },
    used: { memoryBytes: 0, sandboxes: 0, busySlots: 0, stems: 0 },
  };
  return { record, peers: [], images: new Set(), sandboxes: new Set(), usedBytes: 0, clock: 0 };
}
