/**
 * Serves a function over plain HTTP, for images that run without a Skiff runner. It plays the runner: each request
 * becomes frames for a GuestConnection in the same process, so handlers meet exactly the same behaviour.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import {
  encodeFrame,
  encodeHead,
  END,
  type Frame,
  FrameReader,
  FrameType,
  parseHead,
  parseJson,
} from '../protocol/frame.ts';
import { HOP_BY_HOP } from '../protocol/http.ts';
import type {
  CallFailure,
  GuestLog,
  InvocationFailure,
  RequestHead,
  ResponseHead,
} from '../protocol/invocation.ts';
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, TIMEOUT_MS_MAX } from '../protocol/limits.ts';
import { StreamTable } from '../protocol/stream-table.ts';
import { GuestConnection } from './channel/connection.ts';
import type { Handler } from './channel/invocation.ts';

export interface HttpBridgeOptions {
  readonly handler: Handler;
  readonly functionName: string;
  readonly env: NodeJS.ProcessEnv;
  readonly onLog: (log: GuestLog) => void;
  readonly onDrained: () => void;
}

/** One HTTP exchange: the client's side of a stream. */
interface Exchange {
  readonly id: string;
  readonly stream: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** What of the request's body the guest still allows. */
  credit: number;
  isAnswered: boolean;
}

export class HttpBridge {
  readonly server: Server;
  readonly connection: GuestConnection;
  readonly #options: HttpBridgeOptions;
  readonly #exchanges = new StreamTable<Exchange>();
  #lastStream = 0;

  constructor(options: HttpBridgeOptions) {
    this.#options = options;
    const reader = new FrameReader((frame) => this.#onFrame(frame));
    this.connection = new GuestConnection({
      // The reader keeps a frame that is not whole, and the writer never gives less than whole frames.
      write: (bytes, done) => {
        reader.push(bytes);
        done();
      },
      load: () => Promise.resolve({ handler: options.handler }),
      env: options.env,
      unsentBytes: () => 0,
      onLoadFailed: () => {},
      onDrained: options.onDrained,
    });
    this.connection.serve(options.handler, { functionName: options.functionName, deployment: 'local' });
    const http = process.getBuiltinModule('node:http');
    this.server = http.createServer((request, response) => this.#onRequest(request, response));
  }

  #send(type: number, stream: number, payload: Buffer, isEnd: boolean): void {
    this.connection.receive(encodeFrame(isEnd ? type | END : type, stream, payload));
  }

  #onFrame(frame: Frame): void {
    if (frame.type === FrameType.LOG) return this.#options.onLog(parseJson(frame.payload) as GuestLog);
    if (frame.type === FrameType.CALL) return this.#refuseCall(frame.stream);
    // Of a call that was refused.
    if (frame.type === FrameType.CALL_DATA || frame.type === FrameType.CALL_CANCEL) return;
    const exchange = this.#exchanges.get(frame.stream);
    if (!exchange) return;
    switch (frame.type) {
      case FrameType.WINDOW:
        exchange.credit += frame.payload.readUInt32LE(0);
        exchange.request.resume();
        return;
      case FrameType.ERROR:
        exchange.isAnswered = true;
        return answerFailure(exchange, parseJson(frame.payload) as InvocationFailure);
      case FrameType.RESPONSE: {
        const { head, body } = parseHead(frame.payload);
        writeHead(exchange.response, head as ResponseHead);
        return this.#writeBody(exchange, body, frame.isEnd);
      }
      case FrameType.DATA:
        return this.#writeBody(exchange, frame.payload, frame.isEnd);
      case FrameType.SETTLED:
        this.#exchanges.delete(frame.stream);
    }
  }

  #refuseCall(stream: number): void {
    const failure: CallFailure = {
      code: 'NOT_FOUND',
      message: 'this image runs without a Skiff server: there is no function to call',
    };
    this.#send(FrameType.CALL_ERROR, stream, Buffer.from(JSON.stringify(failure)), true);
  }

  #writeBody(exchange: Exchange, body: Buffer, isEnd: boolean): void {
    const { response, stream } = exchange;
    if (body.length > 0) {
      const credit = Buffer.alloc(4);
      credit.writeUInt32LE(body.length);
      // Credit when the bytes have left: a slow client holds the handler back.
      response.write(Buffer.from(body), () => this.#send(FrameType.WINDOW, stream, credit, false));
    }
    if (!isEnd) return;
    exchange.isAnswered = true;
    response.end();
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const stream = ++this.#lastStream;
    const id = `inv-${process.getBuiltinModule('node:crypto').randomUUID()}`;
    const exchange = { id, stream, request, response, credit: STREAM_WINDOW_BYTES, isAnswered: false };
    this.#exchanges.set(stream, exchange);
    const { 'transfer-encoding': encoding, 'content-length': length } = request.headers;
    const hasBody = encoding !== undefined || Number(length ?? 0) > 0;
    response.on('close', () => {
      if (exchange.isAnswered) return;
      this.#send(FrameType.CANCEL, stream, Buffer.from('{"reason":"client disconnected"}'), false);
    });
    this.#send(FrameType.REQUEST, stream, encodeHead(createHead(id, request)), !hasBody);
    if (hasBody) this.#relayBody(exchange);
  }

  #relayBody(exchange: Exchange): void {
    const { request, stream } = exchange;
    request.on('data', (bytes: Buffer) => {
      for (let at = 0; at < bytes.length; at += DATA_FRAME_BYTES_MAX) {
        this.#send(FrameType.DATA, stream, bytes.subarray(at, at + DATA_FRAME_BYTES_MAX), false);
      }
      exchange.credit -= bytes.length;
      // One more read of the socket may come after the pause: keep room for it.
      if (exchange.credit < DATA_FRAME_BYTES_MAX * 2) request.pause();
    });
    request.on('end', () => this.#send(FrameType.DATA, stream, Buffer.alloc(0), true));
    request.on('error', () => {});
  }
}

function createHead(id: string, request: IncomingMessage): RequestHead {
  const headers: [string, string][] = [];
  const { rawHeaders } = request;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    if (!HOP_BY_HOP.has(name)) headers.push([name, rawHeaders[i + 1] as string]);
  }
  return {
    id,
    method: request.method ?? 'GET',
    url: `http://${request.headers.host ?? 'localhost'}${request.url}`,
    headers,
    deadlineMs: Date.now() + TIMEOUT_MS_MAX,
  };
}

function writeHead(response: ServerResponse, head: ResponseHead): void {
  response.writeHead(head.status, head.headers.filter(([name]) => !HOP_BY_HOP.has(name)).flat());
}

/** The cause and the id; the stack is for the log alone. */
function answerFailure(exchange: Exchange, failure: InvocationFailure): void {
  const { response, id } = exchange;
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(500, { 'content-type': 'application/problem+json', 'skiff-cause': failure.cause });
  response.end(
    JSON.stringify({ status: 500, title: 'The function failed.', cause: failure.cause, invocationId: id }),
  );
}
