/**
 * The two ends of a call as the call sees them. Request and response of a node:http exchange fit as they are; who calls
 * without HTTP (the consumer of events, idempotent calls) brings its own.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { RequestHead } from '../../sdk/protocol/invocation.ts';

export interface CallRequest {
  readonly method?: string | undefined;
  readonly headers: IncomingHttpHeaders;
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
  pause(): unknown;
  resume(): unknown;
  isPaused(): boolean;
}

export interface CallResponse {
  readonly headersSent: boolean;
  readonly statusCode: number;
  strictContentLength: boolean;
  /** Whether the request has been read to its end. */
  readonly req: { readonly complete: boolean };
  writeHead(status: number, headers: string[]): unknown;
  flushHeaders(): unknown;
  /** False: wait for `drain` before more. */
  write(chunk: Buffer): boolean;
  end(body: string, encoding: 'latin1'): unknown;
  end(body?: Buffer): unknown;
  /** Cuts an answer that has begun. */
  destroy(): unknown;
  /** The caller went away, or has been answered. */
  on(event: 'close', listener: () => void): unknown;
  once(event: 'drain', listener: () => void): unknown;
}

/** A call that the platform makes. */
export interface PlatformCall {
  readonly id: string;
  readonly deployment: Deployment;
  readonly head: Omit<RequestHead, 'id' | 'deadlineMs'>;
  /** The whole body, up to INLINE_BODY_BYTES_MAX; absent: it is read from `request`. */
  readonly body: Buffer | undefined;
  readonly request: CallRequest;
  readonly response: CallResponse;
  /** Epoch ms after which nobody waits; absent: the function's own time-out. */
  readonly deadlineMs?: number;
  /** Of functions that called each other. */
  readonly depth?: number;
  /** Invocation that makes it. */
  readonly parent?: string;
}
