/** `/v1/stats` once, and `/v1/stats/events` every second as server-sent events. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { GatewayParts } from '../parts.ts';
import type { LineStreamer } from '../routes/lines.ts';
import type { Handlers } from '../routes/route.ts';

const TICK_MS = 1_000;

export function createStatsHandlers(
  { stats }: GatewayParts,
  streamEvents: LineStreamer,
): Pick<Handlers, 'readStats' | 'followStats'> {
  async function* follow(signal: AbortSignal): AsyncGenerator {
    while (!signal.aborted) {
      yield await stats.read();
      await sleep(TICK_MS, undefined, { signal }).catch(() => {});
    }
  }
  return {
    readStats: () => stats.read(),
    async followStats({ signal }) {
      // Asked first, so that an absent store is an answer and not a broken stream.
      await stats.read();
      return streamEvents(signal, follow);
    },
  };
}
