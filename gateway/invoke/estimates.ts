/**
 * What is known about a deployment's times: moving averages that decide between waiting for a busy slot and starting
 * another sandbox (dispatch.lua). Forgets deployments that are not called.
 */
import { LRUCache } from 'lru-cache';
import type { RunnerTiming } from '../../sdk/protocol/invocation.ts';

interface Times {
  serviceMs: number;
  coldMs: number;
}

const WEIGHT = 0.1;
/** Before anything was measured: a claim of a ready stem. */
const COLD_MS_FIRST = 10;

export class Estimates {
  readonly #times = new LRUCache<string, Times>({ max: 10_000 });

  of(deployment: string): { serviceMs: number; coldMs: number } {
    return this.#times.get(deployment) ?? { serviceMs: 0, coldMs: COLD_MS_FIRST };
  }

  note(deployment: string, timing: RunnerTiming): void {
    const times = this.#times.get(deployment);
    if (!times) {
      this.#times.set(deployment, { serviceMs: timing.execMs, coldMs: timing.coldMs || COLD_MS_FIRST });
      return;
    }
    times.serviceMs += (timing.execMs - times.serviceMs) * WEIGHT;
    if (timing.coldMs > 0) times.coldMs += (timing.coldMs - times.coldMs) * WEIGHT;
  }
}
