/**
 * The gateway's HTTP server: what begins with /f/ is an invocation, all else is the control API.
 * Invariant: a connection that never gets as far as a request is answered with a problem document too, and none may
 * hold a slot for ever without sending one. Deliberately absent: listening (main.ts) and TLS.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { type ErrorCode, createProblem } from '../sdk/protocol/errors.ts';
import { HEAD_BYTES_MAX, TIMEOUT_MS_MAX, URL_BYTES_MAX } from '../sdk/protocol/limits.ts';
import { createId } from '../sdk/protocol/ids.ts';
import type { App } from './app.ts';
import type { Edge, Refusal } from './edge/edge.ts';

const HEADERS_MS_MAX = 10_000;
/** Longer than the idle time-out of common load balancers (60 s), so that they close first and no request is lost. */
const KEEP_ALIVE_MS = 65_000;

export interface HttpServerOptions {
  readonly app: App;
  readonly edge: Edge;
  /** Absent: functions are not served here. */
  readonly invoke?: (request: IncomingMessage, response: ServerResponse) => void;
}

export function createHttpServer({ app, edge, invoke }: HttpServerOptions): Server {
  // Hono's listener would otherwise replace the global Request and Response of the whole process.
  const api = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer(
    {
      maxHeaderSize: HEAD_BYTES_MAX + URL_BYTES_MAX,
      headersTimeout: HEADERS_MS_MAX,
      // A request may send its body for as long as an invocation may take; stalls are the reader's business.
      requestTimeout: TIMEOUT_MS_MAX,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: 5_000,
      // A request without a body has no stream that ends: `readableEnded` is true from the start. Most calls have none.
      optimizeEmptyRequests: true,
    },
    (request, response) => {
      const refusal = edge.tryRefuse(request, response);
      if (refusal) return refuse(response, refusal);
      if (invoke && request.url?.startsWith('/f/')) return invoke(request, response);
      void api(request, response);
    },
  );
  edge.attach(server);
  server.on('clientError', refuseConnection);
  return server;
}

function refuse(response: ServerResponse, { code, detail, retryAfterS }: Refusal): void {
  const { text, status } = describe(code, detail);
  const headers: Record<string, string> = {
    'content-type': 'application/problem+json',
    'content-length': String(Buffer.byteLength(text)),
  };
  if (retryAfterS !== undefined) headers['retry-after'] = String(retryAfterS);
  // What is left of the request would be read as the next one.
  if (!response.req.complete) headers['connection'] = 'close';
  response.writeHead(status, headers).end(text);
}

/** Before there is a request there is only the socket. */
function refuseConnection(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const isHead = error.code === 'HPE_HEADER_OVERFLOW';
  const { text, status } = isHead
    ? describe('HEAD_TOO_LARGE', `headers and URL have more than ${HEAD_BYTES_MAX} bytes, which is the limit`)
    : describe('BAD_REQUEST', describeParserError(error));
  const head = [
    `HTTP/1.1 ${status} ${isHead ? 'Request Header Fields Too Large' : 'Bad Request'}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`);
}

function describeParserError(error: NodeJS.ErrnoException): string {
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'the request was not sent in time';
  return `this is not HTTP/1.1: ${error.code ?? 'unknown error'}`;
}

function describe(code: ErrorCode, detail: string): { text: string; status: number } {
  const problem = createProblem(code, detail, { requestId: createId('req') });
  return { text: `${JSON.stringify(problem)}\n`, status: problem.status };
}
