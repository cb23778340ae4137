/**
 * Writes what a client gets: the function's answer, or a problem document (RFC 9457) with exactly one cause.
 * Invariant: a function cannot set hop-by-hop or platform headers, nor break the connection's framing: lengths of
 * whole bodies are ours, lengths of streams are checked against what is written.
 */
import { createProblem, ERRORS, type ErrorCode, type FailureCause } from '../../../sdk/protocol/errors.ts';
import { Header, HOP_BY_HOP, PLATFORM_RESPONSE_HEADERS } from '../../../sdk/protocol/http.ts';
import type { ResponseHead, RunnerTiming } from '../../../sdk/protocol/invocation.ts';
import type { CallResponse } from '../caller.ts';

const CODE_OF_CAUSE: Readonly<Record<FailureCause, ErrorCode>> = {
  handler_error: 'HANDLER_ERROR',
  timeout: 'TIMEOUT',
  out_of_memory: 'OUT_OF_MEMORY',
  crash: 'CRASHED',
  cold_start_failed: 'COLD_START_FAILED',
  queue_expired: 'QUEUE_EXPIRED',
  throttled: 'THROTTLED',
  platform: 'OUTCOME_UNKNOWN',
};

/** What a caller may read about a function's own fault; details are in the function's logs. */
const PUBLIC_TEXT: Partial<Record<FailureCause, string>> = {
  handler_error: 'The function threw an error. Its logs have the stack, under this invocation id.',
  cold_start_failed: 'The function could not be started. Its logs say why, under this invocation id.',
};

export function codeOfCause(cause: FailureCause): ErrorCode {
  return CODE_OF_CAUSE[cause] ?? 'INTERNAL';
}

export function formatServerTiming(timing: RunnerTiming): string {
  return `queue;dur=${round(timing.queueMs)}, cold;dur=${round(timing.coldMs)}, exec;dur=${round(timing.execMs)}`;
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}

/** A function's head, checked, without what is not its to say. */
export interface AnswerHead {
  readonly status: number;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  /** Its own measurements, to stand before ours. */
  readonly serverTiming: string | undefined;
  /** What it says of a body that comes in pieces; undefined when it does not say, `invalid` when it says nothing useful. */
  readonly contentLength: string | undefined;
}

const CONTENT_LENGTH = /^\d{1,15}$/;
const INVALID_LENGTH = 'invalid';

/** Checks a guest's head. Undefined when it is not one. */
export function tryReadHead(value: unknown): AnswerHead | undefined {
  const { status, headers } = (value ?? {}) as Partial<ResponseHead>;
  if (!Number.isInteger(status) || !Array.isArray(headers)) return undefined;
  if ((status as number) < 200 || (status as number) > 599) return undefined;
  const flat: string[] = [];
  let serverTiming: string | undefined;
  let contentLength: string | undefined;
  for (const pair of headers as unknown[]) {
    if (!Array.isArray(pair)) return undefined;
    const [key, text] = pair as unknown[];
    if (typeof key !== 'string' || typeof text !== 'string') return undefined;
    const name = key.toLowerCase();
    if (HOP_BY_HOP.has(name) || PLATFORM_RESPONSE_HEADERS.has(name)) continue;
    if (name === Header.serverTiming) serverTiming = serverTiming ? `${text}, ${serverTiming}` : text;
    else if (name !== 'content-length') flat.push(name, text);
    // Two, or one that others read in another way, would let a proxy take the body's end for the next answer.
    else contentLength = contentLength === undefined && CONTENT_LENGTH.test(text) ? text : INVALID_LENGTH;
  }
  return { status: status as number, headers: flat, serverTiming, contentLength };
}

/**
 * Flat name, value list for `writeHead`. `contentLength` is that of a body which is whole; without one the function's own
 * word counts, and undefined is returned when that is no length.
 */
export function tryBuildHeaders(
  head: AnswerHead,
  own: { id: string; deployment: string; timing: RunnerTiming; contentLength: number | undefined },
): string[] | undefined {
  const flat = [...head.headers];
  const timing = formatServerTiming(own.timing);
  if (own.contentLength !== undefined) flat.push('content-length', String(own.contentLength));
  else if (head.contentLength === INVALID_LENGTH) return undefined;
  else if (head.contentLength !== undefined) flat.push('content-length', head.contentLength);
  flat.push(
    Header.invocationId,
    own.id,
    Header.deployment,
    own.deployment,
    Header.serverTiming,
    head.serverTiming ? `${head.serverTiming}, ${timing}` : timing,
  );
  return flat;
}

export interface FailureInfo {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly invocationId?: string | undefined;
  readonly deployment?: string | undefined;
  readonly timing?: RunnerTiming | undefined;
  readonly outcome?: 'unknown' | 'failed' | 'timeout' | 'not_started' | undefined;
  readonly retryAfterS?: number | undefined;
}

export function failureOfCause(cause: FailureCause, message: string): Pick<FailureInfo, 'code' | 'detail'> {
  return { code: codeOfCause(cause), detail: PUBLIC_TEXT[cause] ?? message };
}

/** Answers with a problem document, or cuts the connection when an answer has already begun. */
export function writeFailure(response: CallResponse, info: FailureInfo): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const row = ERRORS[info.code];
  const cause = 'cause' in row ? row.cause : undefined;
  const { invocationId, deployment, timing, outcome } = info;
  const body = Buffer.from(
    JSON.stringify(createProblem(info.code, info.detail, invocationId ? { invocationId } : {})),
  );
  const headers: string[] = [
    'content-type',
    'application/problem+json',
    'content-length',
    String(body.length),
  ];
  if (invocationId) headers.push(Header.invocationId, invocationId);
  if (deployment) headers.push(Header.deployment, deployment);
  if (cause) headers.push(Header.cause, cause);
  if (outcome) headers.push(Header.outcome, outcome);
  headers.push(Header.serverTiming, formatServerTiming(timing ?? { queueMs: 0, coldMs: 0, execMs: 0 }));
  if (row.status === 429 || row.status === 503) headers.push('retry-after', String(info.retryAfterS ?? 1));
  // What is left of the request would be read as the next one.
  if (!response.req.complete) headers.push('connection', 'close');
  response.writeHead(row.status, headers);
  response.end(body);
}
