/**
 * Writes what a client gets: the function's answer, or a problem document (RFC 9457) with exactly one cause.
 * Invariant: a function cannot set hop-by-hop or platform headers, nor break the connection's framing: lengths of
 * whole bodies are ours, lengths of streams are checked against what is written.
 */
import { createProblem, ERRORS, type ErrorCode, type FailureCause } from '../../sdk/protocol/errors.ts';
import { Header, HOP_BY_HOP, PLATFORM_RESPONSE_HEADERS } from '../../sdk/protocol/http.ts';
import type { ResponseHead, RunnerTiming } from '../../sdk/protocol/invocation.ts';
import type { CallResponse } from './caller.ts';

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

/** Checks the shape of a guest's head. Undefined when it is not one. */
export function tryReadHead(value: unknown): ResponseHead | undefined {
  const head = value as Partial<ResponseHead> | null;
  if (!head || !Number.isInteger(head.status) || !Array.isArray(head.headers)) return undefined;
  const status = head.status as number;
  return status >= 200 && status <= 599 ? (head as ResponseHead) : undefined;
}

const CONTENT_LENGTH = /^\d{1,15}$/;

/** Flat name, value list for `writeHead`; undefined when a header is not one. */
export function tryBuildHeaders(
  head: ResponseHead,
  own: { id: string; deployment: string; timing: RunnerTiming; contentLength: number | undefined },
): string[] | undefined {
  const flat: string[] = [];
  let timing = formatServerTiming(own.timing);
  let length: string | undefined;
  for (const pair of head.headers) {
    if (!Array.isArray(pair) || typeof pair[0] !== 'string' || typeof pair[1] !== 'string') return undefined;
    const name = pair[0].toLowerCase();
    if (HOP_BY_HOP.has(name) || PLATFORM_RESPONSE_HEADERS.has(name)) continue;
    if (name === Header.serverTiming) timing = `${pair[1]}, ${timing}`;
    else if (name !== 'content-length') flat.push(name, pair[1]);
    else if (own.contentLength === undefined) {
      // Two, or one that others read in another way, would let a proxy take the body's end for the next answer.
      if (length !== undefined || !CONTENT_LENGTH.test(pair[1])) return undefined;
      length = pair[1];
    }
  }
  if (own.contentLength !== undefined) length = String(own.contentLength);
  if (length !== undefined) flat.push('content-length', length);
  flat.push(Header.invocationId, own.id, Header.deployment, own.deployment, Header.serverTiming, timing);
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
