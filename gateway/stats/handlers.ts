/** `/v1/stats` once, and `/v1/stats/events` every second as server-sent events. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatsSnapshot, TokenRecord } from '../../sdk/protocol/api.ts';
import { owns } from '../middleware/auth.ts';
import type { GatewayParts } from '../parts.ts';
import type { LineStreamer } from '../routes/lines.ts';
import type { Handlers } from '../routes/route.ts';

const TICK_MS = 1_000;

export function createStatsHandlers(
  { stats }: GatewayParts,
  streamEvents: LineStreamer,
): Pick<Handlers, 'readStats' | 'followStats'> {
  async function read(token: TokenRecord | undefined): Promise<StatsSnapshot> {
    return keepOwn(await stats.read(), token);
  }
  const follow = (token: TokenRecord | undefined) =>
    async function* (signal: AbortSignal): AsyncGenerator {
      while (!signal.aborted) {
        yield await read(token);
        await sleep(TICK_MS, undefined, { signal }).catch(() => {});
      }
    };
  return {
    readStats: (_input, c) => read(c.var.token),
    async followStats({ signal }, c) {
      // Asked first, so that an absent store is an answer and not a broken stream.
      await stats.read();
      return streamEvents(signal, follow(c.var.token));
    },
  };
}

/** What a team sees: its functions, in numbers of their own, and no hosts. In flight counts those that wait, as who runs is not known by function. */
function keepOwn(snapshot: StatsSnapshot, token: TokenRecord | undefined): StatsSnapshot {
  if (token?.namespace === undefined && token?.functions === undefined) return snapshot;
  const functions = snapshot.functions.filter(({ name }) => owns(token, name));
  const sum = (key: 'callsPerSecond' | 'errors' | 'waiting'): number =>
    functions.reduce((total, one) => total + one[key], 0);
  return {
    ...snapshot,
    functions,
    nodes: [],
    callsPerSecond: sum('callsPerSecond'),
    errorsPerSecond: (sum('errors') * 1_000) / snapshot.windowMs,
    inFlight: sum('waiting'),
  };
}
