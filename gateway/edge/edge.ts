/**
 * What stands before every request: limits by address and by token, limits of its form, and clocks for slow clients.
 * Invariant: a request refused here has cost no look at a store, and no other caller anything.
 * Deliberately absent: who may do what (middleware/auth.ts), and limits of a function (invoke).
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { ErrorCode } from '../../sdk/protocol/errors.ts';
import { CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, STALL_MS_MAX } from '../../sdk/protocol/limits.ts';
import { capConnections } from './connection-cap.ts';
import { RateLimiter } from './rate-limiter.ts';
import { tryFindFault } from './request-fault.ts';
import { StallGuard } from './stall-guard.ts';

export interface EdgeOptions {
  /** Of one address, and of one token: function calls and events. 0: no limit. */
  readonly callsPerSecond: number;
  /** The same for the rest of the API. */
  readonly apiPerSecond: number;
  /** Whether an Authorization header is one that was found valid a moment ago. */
  readonly isKnown: (authorization: string) => boolean;
}

export interface Refusal {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryAfterS?: number;
}

/** Tokens of one address that are not valid: each costs a look at the store. Guessing one needs 2^255 tries anyway. */
const FAILURES = { ratePerSecond: 10, burst: 100 };
const SWEEP_MS = 5_000;
const CALL_PATH = /^\/(?:f\/|v1\/(?:events|invocations)(?:[/?]|$))/;

export class Edge {
  readonly #options: EdgeOptions;
  readonly #calls: RateLimiter;
  readonly #api: RateLimiter;
  readonly #failures = new RateLimiter(FAILURES);
  readonly #stalls = new StallGuard(STALL_MS_MAX);

  constructor(options: EdgeOptions) {
    this.#options = options;
    this.#calls = new RateLimiter(withBurst(options.callsPerSecond));
    this.#api = new RateLimiter(withBurst(options.apiPerSecond));
  }

  attach(server: Server): void {
    server.maxConnections = CONNECTIONS_MAX;
    capConnections(server, CONNECTIONS_PER_ADDRESS_MAX);
    this.#stalls.attach(server, SWEEP_MS);
  }

  /** Why this request is not let in; undefined when it is, and then it is watched to its end. */
  tryRefuse(request: IncomingMessage, response: ServerResponse): Refusal | undefined {
    const url = request.url ?? '/';
    const refusal = tryFindFault(url, request.rawHeaders) ?? this.#tryThrottle(request, url);
    if (refusal) return refusal;
    this.#stalls.watch(request, response);
    if (request.headers.authorization !== undefined) this.#countFailure(request, response);
    return undefined;
  }

  #tryThrottle(request: IncomingMessage, url: string): Refusal | undefined {
    const now = performance.now();
    const { authorization } = request.headers;
    const address = request.socket.remoteAddress ?? '';
    const limiter = CALL_PATH.test(url) ? this.#calls : this.#api;
    const waitMs = limiter.take(address, now) || (authorization ? limiter.take(authorization, now) : 0);
    if (waitMs > 0) return throttled('too many requests from this address or with this token', waitMs);
    // Who has a good token is not shut out by somebody behind the same address who guesses.
    if (authorization === undefined || this.#options.isKnown(authorization)) return undefined;
    const failureMs = this.#failures.waitOf(address, now);
    return failureMs > 0
      ? throttled('too many tokens that are not valid, from this address', failureMs)
      : undefined;
  }

  #countFailure(request: IncomingMessage, response: ServerResponse): void {
    const address = request.socket.remoteAddress ?? '';
    response.once('finish', () => {
      if (response.statusCode === 401) this.#failures.take(address, performance.now());
    });
  }
}

function withBurst(ratePerSecond: number): { ratePerSecond: number; burst: number } {
  return { ratePerSecond, burst: Math.max(1, ratePerSecond * 2) };
}

function throttled(detail: string, waitMs: number): Refusal {
  return { code: 'THROTTLED', detail, retryAfterS: Math.max(1, Math.ceil(waitMs / 1_000)) };
}
