/**
 * Ends programs that have stopped to answer. A guest of ours that hangs is known by an unanswered CANCEL
 * (runner/invoke); a program that speaks plain HTTP is asked here: where its deployment names a path for that, every
 * HEALTH_INTERVAL_MS while it is a replica; else, and also all others, when a call was given up or cut without an answer.
 * Invariant: nothing is ended that answered between the first question and the last.
 */
import { HEALTH_INTERVAL_MS, HEALTH_RETRIES, HEALTH_TIMEOUT_MS } from '../../sdk/protocol/limits.ts';
import type { Instance } from './instance.ts';

interface Seen {
  checkedMs: number;
  failures: number;
  isAsking: boolean;
}

export class Health {
  readonly #seen = new WeakMap<Instance, Seen>();

  /** Called often; never waits. */
  tick(instances: Iterable<Instance>, nowMs: number): void {
    for (const instance of instances) {
      const { health } = instance.guest;
      if (!health || instance.state !== 'active') continue;
      const seen = this.#seen.get(instance) ?? { checkedMs: nowMs, failures: 0, isAsking: false };
      this.#seen.set(instance, seen);
      const isTime = instance.isPinned && health.isWanted && nowMs - seen.checkedMs >= HEALTH_INTERVAL_MS;
      if (!seen.isAsking && (isTime || health.isSuspect)) void this.#ask(instance, health, seen);
    }
  }

  async #ask(instance: Instance, health: HealthCheck, seen: Seen): Promise<void> {
    seen.isAsking = true;
    const problem = await instance
      .whileAwake(() => health.ask(HEALTH_TIMEOUT_MS))
      .catch((error: unknown) => String(error));
    seen.isAsking = false;
    seen.checkedMs = Date.now();
    seen.failures = problem === undefined ? 0 : seen.failures + 1;
    if (problem !== undefined && seen.failures >= HEALTH_RETRIES)
      instance.condemn(`it failed its health check ${seen.failures} times in a row: ${problem}`);
  }
}

/** What a guest offers that can be asked. */
export interface HealthCheck {
  /** Its deployment says that and how it is to be asked. */
  readonly isWanted: boolean;
  /** A call of it ended without an answer, or a question did, and nothing was heard of it since. */
  readonly isSuspect: boolean;
  /** What is wrong, or undefined. The sandbox is awake. */
  ask(msMax: number): Promise<string | undefined>;
}
