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

const HEADERS_MS_MAX = 15_000;
/** Longer than the idle time-out of common load balancers (60 s), so that they close first and no request is lost. */
const KEEP_ALIVE_MS = 65_000;

export interface HttpServerOptions {
  readonly app: App;
  readonly invoke: (request: IncomingMessage, response: ServerResponse) => void;
}

export function createHttpServer({ app, invoke }: HttpServerOptions): Server {
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
    },
    (request, response) => {
      const url = request.url ?? '/';
      if (url.startsWith('/f/')) return invoke(request, response);
      if (url.length > URL_BYTES_MAX) return refuseUrl(response, url.length);
      void api(request, response);
    },
  );
  server.on('clientError', refuseConnection);
  return server;
}

function refuseUrl(response: ServerResponse, length: number): void {
  const { text, status } = describe(
    'URL_TOO_LONG',
    `the URL has ${length} bytes; the limit is ${URL_BYTES_MAX}`,
  );
  response.writeHead(status, { 'content-type': 'application/problem+json', connection: 'close' }).end(text);
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
