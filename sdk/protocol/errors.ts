/**
 * The one table of errors. Every error that leaves Skiff has a row here; `code` is stable, texts are not.
 * `fault` says whose it is: caller (fix the request), function (fix the function), platform (ours).
 * `cause` is the class an invocation reports in `Skiff-Cause` (only rows that end an invocation have one).
 */
export type Fault = 'caller' | 'function' | 'platform';
export type FailureCause =
  | 'handler_error'
  | 'timeout'
  | 'out_of_memory'
  | 'crash'
  | 'cold_start_failed'
  | 'queue_expired'
  | 'throttled'
  | 'platform';

interface ErrorRow {
  readonly status: number;
  readonly fault: Fault;
  readonly retryable: boolean;
  readonly cause?: FailureCause;
  readonly summary: string;
}

// One row a line: it is a table, and is read as one.
// prettier-ignore
export const ERRORS = {
  BAD_REQUEST: { status: 400, fault: 'caller', retryable: false, summary: 'The request is malformed.' },
  INVALID_NAME: { status: 400, fault: 'caller', retryable: false, summary: 'The name is not allowed.' },
  INVALID_CONFIG: { status: 400, fault: 'caller', retryable: false, summary: 'A configuration value is not allowed.' },
  INVALID_SOURCE: { status: 422, fault: 'caller', retryable: false, summary: 'The uploaded source was refused.' },
  BUILD_FAILED: { status: 422, fault: 'function', retryable: false, summary: 'The function could not be built.' },
  UNAUTHENTICATED: { status: 401, fault: 'caller', retryable: false, summary: 'A valid token is needed.' },
  FORBIDDEN: { status: 403, fault: 'caller', retryable: false, summary: 'The token does not allow this.' },
  NOT_FOUND: { status: 404, fault: 'caller', retryable: false, summary: 'There is no such resource.' },
  FUNCTION_NOT_FOUND: { status: 404, fault: 'caller', retryable: false, summary: 'There is no function of this name.' },
  METHOD_NOT_ALLOWED: { status: 405, fault: 'caller', retryable: false, summary: 'The resource does not have this method.' },
  GONE: { status: 410, fault: 'caller', retryable: false, summary: 'The resource was kept for its time and is gone.' },
  CONFLICT: { status: 409, fault: 'caller', retryable: true, summary: 'The resource was changed by somebody else.' },
  IDEMPOTENCY_IN_PROGRESS: { status: 409, fault: 'caller', retryable: true, summary: 'A request with this key is still running.' },
  IDEMPOTENCY_MISMATCH: { status: 422, fault: 'caller', retryable: false, summary: 'The key was used with another request.' },
  BODY_TOO_LARGE: { status: 413, fault: 'caller', retryable: false, summary: 'The body is larger than allowed.' },
  URL_TOO_LONG: { status: 414, fault: 'caller', retryable: false, summary: 'The URL is longer than allowed.' },
  HEAD_TOO_LARGE: { status: 431, fault: 'caller', retryable: false, summary: 'The headers are larger than allowed.' },
  THROTTLED: { status: 429, fault: 'caller', retryable: true, cause: 'throttled', summary: 'Your limit is reached.' },
  LOOP_DETECTED: { status: 508, fault: 'caller', retryable: false, summary: 'Functions call each other too deeply.' },
  HANDLER_ERROR: { status: 500, fault: 'function', retryable: false, cause: 'handler_error', summary: 'The function failed.' },
  CRASHED: { status: 502, fault: 'function', retryable: false, cause: 'crash', summary: 'The function\u2019s process ended.' },
  OUT_OF_MEMORY: { status: 502, fault: 'function', retryable: false, cause: 'out_of_memory', summary: 'The function used more memory than its limit.' },
  TIMEOUT: { status: 504, fault: 'function', retryable: false, cause: 'timeout', summary: 'The function took longer than its limit.' },
  COLD_START_FAILED: { status: 502, fault: 'function', retryable: true, cause: 'cold_start_failed', summary: 'The function could not be started.' },
  QUEUE_EXPIRED: { status: 503, fault: 'platform', retryable: true, cause: 'queue_expired', summary: 'No capacity became free in time; the function was not run.' },
  OVERLOADED: { status: 503, fault: 'platform', retryable: true, cause: 'throttled', summary: 'The platform is busy; the function was not run.' },
  OUTCOME_UNKNOWN: { status: 502, fault: 'platform', retryable: false, cause: 'platform', summary: 'The host was lost; whether the function ran is unknown.' },
  UNAVAILABLE: { status: 503, fault: 'platform', retryable: true, cause: 'platform', summary: 'A service the platform stands on cannot be reached.' },
  NOT_DURABLE: { status: 503, fault: 'platform', retryable: true, cause: 'platform', summary: 'The event could not be made safe; it may or may not have been accepted.' },
  INTERNAL: { status: 500, fault: 'platform', retryable: false, cause: 'platform', summary: 'Skiff failed; the request id is in the logs.' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/**
 * The only error class that may reach a user. `message` and `details` are public; `cause` is for logs only.
 */
export class SkiffError extends Error {
  override name = 'SkiffError';
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details;
  }

  get row(): ErrorRow {
    return ERRORS[this.code];
  }
}

/** RFC 9457 problem details. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly fault: Fault;
  readonly cause?: FailureCause;
  readonly invocationId?: string;
  readonly requestId?: string;
  readonly [extension: string]: unknown;
}

export function createProblem(code: ErrorCode, detail: string, extra: Record<string, unknown> = {}): Problem {
  const row: ErrorRow = ERRORS[code];
  return {
    type: `urn:skiff:error:${code.toLowerCase().replaceAll('_', '-')}`,
    title: row.summary,
    status: row.status,
    detail,
    code,
    fault: row.fault,
    ...(row.cause === undefined ? {} : { cause: row.cause }),
    ...extra,
  };
}

/** Anything thrown becomes a SkiffError; what is not ours becomes INTERNAL with a fixed text. */
export function toSkiffError(error: unknown): SkiffError {
  if (error instanceof SkiffError) return error;
  return new SkiffError('INTERNAL', ERRORS.INTERNAL.summary, { cause: error });
}
