/** What went wrong between a client and Skiff, with the server's own words where there are any. */
import type { ErrorCode, FailureCause, Fault, Problem } from '../protocol/errors.ts';
import type { ClientResponse } from './fetch.ts';

/**
 * `UNREACHABLE`: no answer came (refused, reset, name not found, timed out); what the request did is unknown
 * unless it was a read. `BAD_RESPONSE`: an answer came that is not Skiff's, for example a proxy's error page.
 */
export type ClientErrorCode = ErrorCode | 'UNREACHABLE' | 'BAD_RESPONSE';

export interface ClientErrorInit {
  readonly code: ClientErrorCode;
  readonly detail: string;
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  readonly fault?: Fault | undefined;
  /** Why an invocation failed. */
  readonly failure?: FailureCause | undefined;
  readonly invocationId?: string | undefined;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly problem?: Problem | undefined;
  readonly cause?: unknown;
}

/** The only error the client throws, besides the reason of an AbortSignal of yours. */
export class ClientError extends Error {
  override name = 'ClientError';
  readonly code: ClientErrorCode;
  readonly status: number;
  readonly detail: string;
  readonly fault: Fault | undefined;
  readonly failure: FailureCause | undefined;
  readonly invocationId: string | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;
  /** The whole problem document (RFC 9457), if the server sent one. */
  readonly problem: Problem | undefined;

  constructor(init: ClientErrorInit) {
    super(init.detail, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.status = init.status;
    this.detail = init.detail;
    this.fault = init.fault;
    this.failure = init.failure;
    this.invocationId = init.invocationId;
    this.requestId = init.requestId;
    this.retryAfterMs = init.retryAfterMs;
    this.problem = init.problem;
  }
}

/** Seconds or an HTTP date (RFC 9110 §10.2.3) as milliseconds from now. */
export function parseRetryAfter(value: string | null, nowMs: number): number | undefined {
  if (value === null) return undefined;
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000;
  const atMs = Date.parse(value);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
}

const TEXT_SHOWN_MAX = 300;

/** Reads the body of a failed answer and makes a ClientError of it. Never throws anything else. */
export async function readFailure(response: ClientResponse, what: string): Promise<ClientError> {
  const text = await response.text().catch(() => '');
  const type = response.headers.get('content-type') ?? '';
  const retryAfterMs = parseRetryAfter(response.headers.get('retry-after'), Date.now());
  const problem = type.startsWith('application/problem+json') ? tryParseProblem(text) : undefined;
  if (problem === undefined) {
    const shown = text.replaceAll(/\s+/g, ' ').trim().slice(0, TEXT_SHOWN_MAX);
    return new ClientError({
      code: 'BAD_RESPONSE',
      status: response.status,
      detail: `${what}: status ${response.status} without a problem document${shown === '' ? '' : `: ${shown}`}`,
      retryAfterMs,
    });
  }
  return new ClientError({
    code: problem.code,
    status: response.status,
    detail: problem.detail,
    fault: problem.fault,
    failure: problem.cause,
    invocationId: problem.invocationId ?? response.headers.get('skiff-invocation-id') ?? undefined,
    requestId: problem.requestId ?? response.headers.get('skiff-request-id') ?? undefined,
    retryAfterMs,
    problem,
  });
}

function tryParseProblem(text: string): Problem | undefined {
  try {
    const value = JSON.parse(text) as Partial<Problem> | null;
    return typeof value?.code === 'string' && typeof value.detail === 'string'
      ? (value as Problem)
      : undefined;
  } catch {
    return undefined;
  }
}

/** A stream that ended like this can be opened again where it stopped: the server went away, it did not refuse. */
export function isCut(error: unknown): boolean {
  return !(error instanceof ClientError) || error.code === 'UNREACHABLE' || error.code === 'UNAVAILABLE';
}
