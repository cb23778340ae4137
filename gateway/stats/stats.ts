/**
 * What goes on in the whole installation: every gateway tells the fast store each second what it saw in the last ten,
 * and any of them adds all up. Invariant: however many look, a gateway reads the store once a second at most.
 * Deliberately absent: history (that is what /metrics and a Prometheus are for).
 */
import type { Redis } from 'ioredis';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import { fast } from '../../infra/contract/keys.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { FunctionStats, StatsSnapshot } from '../../sdk/protocol/api.ts';
import { readLiveNodes } from '../swarm/nodes.ts';
import { type CallCounts, type CallWindow, WINDOW_S } from './call-window.ts';
import { addCounts, type Counts, tryPercentile } from './latencies.ts';

export interface NamedDeployments {
  readonly name: string;
  readonly deployments: readonly string[];
}

/** Of every function, the deployments that an alias names. */
export async function listDeployments(catalog: Pick<Catalog, 'listFunctions'>): Promise<NamedDeployments[]> {
  return (await catalog.listFunctions()).map(({ name, aliases }) => ({
    name,
    deployments: [...new Set(aliases.flatMap(({ targets }) => targets.map(({ deployment }) => deployment)))],
  }));
}

/** What one gateway tells. */
interface GatewayStats {
  readonly atMs: number;
  readonly inFlight: number;
  readonly functions: Readonly<Record<string, CallCounts>>;
}

export interface StatsOptions {
  readonly gateway: string;
  readonly redis: Redis;
  readonly window: CallWindow;
  readonly readInFlight: () => number;
  /** Names of all functions with the deployments that their aliases name. */
  readonly listDeployments: () => Promise<readonly NamedDeployments[]>;
  readonly log: Log;
}

const PUBLISH_MS = 1_000;
const GATEWAY_DEAD_MS = 4_000;
const FRESH_MS = 900;

export class Stats {
  readonly #options: StatsOptions;
  #timer: NodeJS.Timeout | undefined;
  #snapshot: { readonly madeMs: number; readonly value: Promise<StatsSnapshot> } | undefined;

  constructor(options: StatsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#publish(), PUBLISH_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** At most FRESH_MS old. */
  read(): Promise<StatsSnapshot> {
    const now = Date.now();
    if (this.#snapshot && now - this.#snapshot.madeMs < FRESH_MS) return this.#snapshot.value;
    const value = this.#collect();
    this.#snapshot = { madeMs: now, value };
    value.catch(() => (this.#snapshot = undefined));
    return value;
  }

  async #publish(): Promise<void> {
    const { gateway, redis, window, readInFlight, log } = this.#options;
    const atMs = Date.now();
    const stats: GatewayStats = { atMs, inFlight: readInFlight(), functions: window.read(atMs) };
    try {
      await redis
        .multi()
        .hset(fast.stats, gateway, JSON.stringify(stats))
        .pexpire(fast.stats, GATEWAY_DEAD_MS * 10)
        .exec();
    } catch (error) {
      log.debug({ error }, 'statistics could not be told');
    }
  }

  async #collect(): Promise<StatsSnapshot> {
    const { redis, listDeployments } = this.#options;
    const nowMs = Date.now();
    const [told, nodes, functions] = await Promise.all([
      redis.hgetall(fast.stats),
      readLiveNodes(redis),
      listDeployments(),
    ]);
    const gateways: GatewayStats[] = [];
    for (const [gateway, text] of Object.entries(told)) {
      const stats = JSON.parse(text) as GatewayStats;
      if (nowMs - stats.atMs < GATEWAY_DEAD_MS) gateways.push(stats);
      else if (nowMs - stats.atMs > GATEWAY_DEAD_MS * 5) await redis.hdel(fast.stats, gateway);
    }
    const state = await readState(redis, functions, nowMs);
    const rows = [
      ...new Set([
        ...functions.map(({ name }) => name),
        ...gateways.flatMap((one) => Object.keys(one.functions)),
      ]),
    ]
      .map((name) => createRow(name, gateways, state.get(name)))
      .toSorted((a, b) => b.calls - a.calls || (a.name < b.name ? -1 : 1));
    const sum = (read: (row: FunctionStats) => number): number =>
      rows.reduce((total, row) => total + read(row), 0);
    return {
      atMs: nowMs,
      windowMs: WINDOW_S * 1000,
      gateways: gateways.length,
      callsPerSecond: sum((row) => row.calls) / WINDOW_S,
      errorsPerSecond: sum((row) => row.errors) / WINDOW_S,
      inFlight: gateways.reduce((total, { inFlight }) => total + inFlight, 0),
      functions: rows,
      nodes,
    };
  }
}

interface FunctionState {
  sandboxes: number;
  waiting: number;
}

async function readState(
  redis: Redis,
  functions: readonly NamedDeployments[],
  nowMs: number,
): Promise<Map<string, FunctionState>> {
  const cells = cellsOf(redis);
  const state = new Map<string, FunctionState>();
  await Promise.all(
    functions.map(async ({ name, deployments }) => {
      const sum = { sandboxes: 0, waiting: 0 };
      state.set(name, sum);
      for (const id of deployments) {
        const { live, wait } = cells.ofId(id).fast;
        // One that cannot be read counts as none.
        const [sandboxes, waiting] = await Promise.all([
          redis.zcount(live(id), nowMs, '+inf').catch(() => 0),
          redis.llen(wait(id)).catch(() => 0),
        ]);
        sum.sandboxes += sandboxes;
        sum.waiting += waiting;
      }
    }),
  );
  return state;
}

function createRow(
  name: string,
  gateways: readonly GatewayStats[],
  { sandboxes, waiting }: FunctionState = { sandboxes: 0, waiting: 0 },
): FunctionStats {
  const row = { name, calls: 0, errors: 0, coldStarts: 0 };
  const ms: Counts = {};
  for (const { functions } of gateways) {
    const counts = functions[name];
    if (!counts) continue;
    row.calls += counts.calls;
    row.errors += counts.errors;
    row.coldStarts += counts.cold;
    addCounts(ms, counts.ms);
  }
  const percentiles = {
    p50Ms: tryPercentile(ms, 0.5),
    p95Ms: tryPercentile(ms, 0.95),
    p99Ms: tryPercentile(ms, 0.99),
  };
  const known = Object.fromEntries(Object.entries(percentiles).filter(([, value]) => value !== undefined));
  return { ...row, callsPerSecond: row.calls / WINDOW_S, ...known, sandboxes, waiting };
}
