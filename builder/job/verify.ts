/**
 * Proves that a deployment starts: orders one sandbox from whichever runner has room and waits for its word.
 * Invariant: an order nobody took is taken back, so that a build that gave up starts nothing later.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { StartOrder, StartResult } from '../../infra/contract/jobs.ts';
import { fast } from '../../infra/contract/keys.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import { type ErrorCode, ERRORS, SkiffError } from '../../sdk/protocol/errors.ts';
import { COLD_START_MS_MAX } from '../../sdk/protocol/limits.ts';

export interface VerifierOptions {
  /** Fail-fast connection to the fast store. */
  readonly redis: Redis;
  /** Opens a connection that may block; one is needed for each build that waits. */
  readonly openBlocking: () => Redis;
  /** How long a start may take before the answer is given up; the runner's own limit ends sooner. */
  readonly waitMsMax?: number;
}

const WAIT_MS_MAX = COLD_START_MS_MAX + 5_000;
const FULL_PAUSE_MS = 100;
const FOREIGN_FRAME = /^\s+at .*(?:\/skiff\/guest\.cjs|node:internal\/)/;

export class Verifier {
  readonly #options: VerifierOptions;
  readonly #idle: Redis[] = [];
  readonly #busy = new Set<Redis>();

  constructor(options: VerifierOptions) {
    this.#options = options;
  }

  /**
   * Resolves with the runner's word when the function started.
   * @throws SkiffError COLD_START_FAILED (or the runner's own code) when it did not; UNAVAILABLE when no runner answered.
   */
  async verify(deploymentId: string, signal: AbortSignal): Promise<StartResult> {
    const deadline = Date.now() + (this.#options.waitMsMax ?? WAIT_MS_MAX);
    const connection = this.#idle.pop() ?? this.#options.openBlocking();
    this.#busy.add(connection);
    const stop = (): void => connection.disconnect();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for (;;) {
        const result = await this.#order(connection, deploymentId, deadline);
        if (result.ok) return result;
        // A full runner says so instead of waiting: another one, or the same a moment later, may have room.
        const isFull = result.code === 'OVERLOADED' && Date.now() + FULL_PAUSE_MS < deadline;
        if (!isFull) throw createStartError(result);
        await sleep(FULL_PAUSE_MS, undefined, { signal });
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SkiffError) throw error;
      throw new SkiffError(
        'UNAVAILABLE',
        'the start of the function could not be verified: Redis cannot be reached',
        { cause: error },
      );
    } finally {
      signal.removeEventListener('abort', stop);
      this.#busy.delete(connection);
      if (signal.aborted) connection.disconnect();
      else this.#idle.push(connection);
    }
  }

  close(): void {
    for (const connection of [...this.#idle, ...this.#busy]) connection.disconnect();
  }

  async #order(connection: Redis, deploymentId: string, deadline: number): Promise<StartResult> {
    const order: StartOrder = {
      id: `ver-${randomBytes(10).toString('hex')}`,
      dep: deploymentId,
      reply: true,
    };
    const text = JSON.stringify(order);
    const { redis } = this.#options;
    try {
      await redis.rpush(this.#demandOf(order.dep), text);
      const reply = await connection.blpop(
        fast.startResult(order.id),
        Math.max(0.1, (deadline - Date.now()) / 1_000),
      );
      if (reply !== null) return JSON.parse(reply[1]) as StartResult;
    } catch (error) {
      await redis.lrem(this.#demandOf(order.dep), 0, text).catch(() => {});
      throw error;
    }
    throw await this.#createSilenceError(order.dep, text);
  }

  #demandOf(deployment: string): string {
    return cellsOf(this.#options.redis).ofId(deployment).fast.demand;
  }

  async #createSilenceError(deployment: string, order: string): Promise<SkiffError> {
    const wasWaiting = await this.#options.redis.lrem(this.#demandOf(deployment), 0, order);
    const why = wasWaiting > 0 ? 'no runner had room for it' : 'the runner that took it did not answer';
    return new SkiffError(
      'UNAVAILABLE',
      `the function was built but not started within ${(this.#options.waitMsMax ?? WAIT_MS_MAX) / 1_000} s: ${why}; deploy again, and see "skiff doctor"`,
    );
  }
}

/** With the function's own stack, as only that tells its author where loading failed; frames of ours are left out. */
function createStartError(result: StartResult): SkiffError {
  const { code = '', message, stack = '' } = result;
  const known: ErrorCode = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'COLD_START_FAILED';
  const summary = message ?? ERRORS[known].summary;
  const frames = stack
    .split('\n')
    .filter((line) => !FOREIGN_FRAME.test(line) && !summary.includes(line.trim()));
  return new SkiffError(known, [summary, ...frames].join('\n').trimEnd());
}
