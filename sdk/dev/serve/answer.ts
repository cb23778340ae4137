/**
 * What a client gets when there is no answer of the function: the same problem document as in production, with the
 * error's text and stack in it, which production keeps in the logs; and a page for people in a browser.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createProblem, ERRORS, type ErrorCode, type FailureCause } from '../../protocol/errors.ts';
import { Header, HOP_BY_HOP, PLATFORM_RESPONSE_HEADERS } from '../../protocol/http.ts';
import type { ResponseHead } from '../../protocol/invocation.ts';

export interface Failure {
  readonly cause: FailureCause;
  readonly message: string;
  readonly stack?: string;
}

const CODE_OF_CAUSE: Readonly<Record<FailureCause, ErrorCode>> = {
  handler_error: 'HANDLER_ERROR',
  timeout: 'TIMEOUT',
  out_of_memory: 'OUT_OF_MEMORY',
  crash: 'CRASHED',
  cold_start_failed: 'COLD_START_FAILED',
  queue_expired: 'QUEUE_EXPIRED',
  throttled: 'OVERLOADED',
  platform: 'INTERNAL',
};

/** Lines of the platform's own code and of Node say nothing to the author of a function. */
export function cleanStack(stack: string): string {
  return stack
    .split('\n')
    .filter((line) => !/^\s+at .*(?:[/(]guest\.cjs:|node:internal\/)/.test(line))
    .join('\n');
}

/** A function cannot set hop-by-hop headers, nor what the platform says of it. */
export function filterHeaders(head: ResponseHead): string[] {
  return head.headers
    .filter(([name]) => !HOP_BY_HOP.has(name) && !PLATFORM_RESPONSE_HEADERS.has(name))
    .flat();
}

export function statusOf(failure: Failure): number {
  return ERRORS[CODE_OF_CAUSE[failure.cause]].status;
}

export function writeFailure(
  request: IncomingMessage,
  response: ServerResponse,
  failure: Failure,
  invocationId: string,
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const code = CODE_OF_CAUSE[failure.cause];
  const { status, summary } = ERRORS[code];
  const isPage = (request.headers.accept ?? '').includes('text/html');
  const { message, stack } = failure;
  const problem = createProblem(code, message, { invocationId, ...(stack === undefined ? {} : { stack }) });
  const body = isPage ? formatPage(summary, failure) : JSON.stringify(problem);
  response.writeHead(status, {
    'content-type': isPage ? 'text/html; charset=utf-8' : 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    // The text is the function's: nothing in it may run.
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
    [Header.cause]: failure.cause,
    [Header.invocationId]: invocationId,
    ...(request.complete ? {} : { connection: 'close' }),
  });
  response.end(body);
}

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

// oxlint-disable-next-line no-control-regex -- the bundler colours its messages for the terminal
const COLOURS = /\u001b\[[0-9;]*m/g;

function formatPage(summary: string, { message, stack }: Failure): string {
  const text = escapeHtml((stack ?? message).replaceAll(COLOURS, ''));
  return `<!doctype html><meta charset="utf-8"><title>${escapeHtml(summary)}</title>
<style>body{font:16px/1.5 system-ui;margin:3rem;color:#222}h1{font-size:1.25rem;color:#b00020}pre{background:#f6f6f4;padding:1rem;overflow:auto;border-left:3px solid #b00020}@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}pre{background:#222}}</style>
<h1>${escapeHtml(summary)}</h1><pre>${text}</pre><p>Save the file and load the page again.</p>`;
}
