/**
 * The two ends of a call that came over a runner's link, as the invoker wants them: a request that is read from frames
 * and a response that is written into frames. Windows hold both ways, so that nothing piles up here.
 */
import { EventEmitter } from 'node:events';
import { Readable } from 'node:stream';
import { encodeHead, END, type Frame, FrameType } from '../../sdk/protocol/frame.ts';
import { HOP_BY_HOP } from '../../sdk/protocol/http.ts';
import type { CallFailure, HeaderList, ResponseHead } from '../../sdk/protocol/invocation.ts';
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../sdk/protocol/limits.ts';
import type { CallRequest, CallResponse } from '../invoke/caller.ts';

export type SendFrame = (type: number, payload?: Buffer) => void;

/** A body that comes in CALL_DATA frames; credit is given back as it is read. */
export function createCallBody(first: Buffer, send: SendFrame): Readable {
  let owed = 0;
  const body = new Readable({
    highWaterMark: STREAM_WINDOW_BYTES,
    read() {
      if (owed < STREAM_WINDOW_BYTES / 2) return;
      const credit = Buffer.alloc(4);
      credit.writeUInt32LE(owed);
      owed = 0;
      send(FrameType.CALL_WINDOW, credit);
    },
  });
  const push = body.push.bind(body);
  body.push = (chunk: Buffer | null) => {
    owed += chunk?.length ?? 0;
    return push(chunk);
  };
  // A frame is a view into what was received.
  if (first.length > 0) body.push(Buffer.from(first));
  return body;
}

export function createCallRequest(method: string, headers: HeaderList, body: Readable): CallRequest {
  const joined: Record<string, string> = {};
  for (const [name, value] of headers)
    joined[name] = joined[name] === undefined ? value : `${joined[name]}, ${value}`;
  return Object.assign(body, { method, headers: joined });
}

/** Writes the answer into CALL_RESPONSE and CALL_DATA frames, never more than was granted. */
export class CallAnswer extends EventEmitter implements CallResponse {
  headersSent = false;
  statusCode = 0;
  strictContentLength = false;
  readonly req: { complete: boolean };
  readonly #send: SendFrame;
  #head: ResponseHead | undefined;
  #credit = STREAM_WINDOW_BYTES;
  #waiting: Buffer[] = [];
  #isEnding = false;
  #isClosed = false;

  constructor(send: SendFrame, isRequestWhole: boolean) {
    super();
    this.#send = send;
    this.req = { complete: isRequestWhole };
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  writeHead(status: number, flat: string[]): void {
    const headers: [string, string][] = [];
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const name = flat[i] as string;
      if (!HOP_BY_HOP.has(name)) headers.push([name, flat[i + 1] as string]);
    }
    this.headersSent = true;
    this.statusCode = status;
    this.#head = { status, headers };
  }

  flushHeaders(): void {
    if (this.#head) this.#send(FrameType.CALL_RESPONSE, encodeHead(this.#head));
    this.#head = undefined;
  }

  write(chunk: Buffer): boolean {
    this.flushHeaders();
    this.#waiting.push(Buffer.from(chunk));
    this.#pump();
    return this.#waiting.length === 0;
  }

  end(body?: Buffer | string, encoding?: BufferEncoding): void {
    const bytes = typeof body === 'string' ? Buffer.from(body, encoding) : body;
    if (this.#head && (bytes === undefined || bytes.length <= Math.min(this.#credit, DATA_FRAME_BYTES_MAX))) {
      this.#send(FrameType.CALL_RESPONSE | END, encodeHead(this.#head, bytes));
      this.#close();
      return;
    }
    this.flushHeaders();
    if (bytes && bytes.length > 0) this.#waiting.push(bytes);
    this.#isEnding = true;
    this.#pump();
  }

  /** An answer that has begun cannot be ended well any more. */
  destroy(): void {
    this.fail({ code: 'HANDLER_ERROR', message: 'the answer was cut before its end' });
  }

  fail(failure: CallFailure): void {
    if (this.#isClosed) return;
    this.#send(FrameType.CALL_ERROR | END, Buffer.from(JSON.stringify(failure)));
    this.#close();
  }

  /** The caller does not wait any more. */
  abandon(): void {
    this.#close();
  }

  grant(frame: Frame): void {
    this.#credit += frame.payload.readUInt32LE(0);
    const wasWaiting = this.#waiting.length > 0;
    this.#pump();
    if (wasWaiting && this.#waiting.length === 0 && !this.#isClosed) this.emit('drain');
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#credit > 0) {
      const [chunk = Buffer.alloc(0)] = this.#waiting;
      const part = chunk.subarray(0, Math.min(this.#credit, DATA_FRAME_BYTES_MAX));
      this.#credit -= part.length;
      if (part.length === chunk.length) this.#waiting.shift();
      else this.#waiting[0] = chunk.subarray(part.length);
      const isLast = this.#isEnding && this.#waiting.length === 0;
      this.#send(FrameType.CALL_DATA | (isLast ? END : 0), part);
      if (isLast) return this.#close();
    }
    if (!this.#isEnding || this.#waiting.length > 0 || this.#isClosed) return;
    this.#send(FrameType.CALL_DATA | END);
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiting = [];
    this.emit('close');
  }
}
