/**
 * A request body on its way to a runner, chunk by chunk, as far as the function grants credit.
 * Invariant: nothing is read from the client that cannot be sent on: memory per call is one chunk of the socket.
 */
import type { IncomingMessage } from 'node:http';
import { DATA_FRAME_BYTES_MAX, INLINE_BODY_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import type { CallRequest } from './caller.ts';

export interface BodyHandlers {
  send(chunk: Buffer, isEnd: boolean): void;
  onTooLarge(bytesMax: number): void;
}

const EMPTY = Buffer.alloc(0);

export class RequestBody {
  readonly #request: CallRequest;
  readonly #bytesMax: number;
  readonly #handlers: BodyHandlers;
  #credit = 0;
  #bytes = 0;
  #rest: Buffer = EMPTY;
  #isEnded = false;
  #isStarted = false;
  #isStopped = false;

  constructor(request: CallRequest, bytesMax: number, handlers: BodyHandlers) {
    this.#request = request;
    this.#bytesMax = bytesMax;
    this.#handlers = handlers;
  }

  /** Begins to read. Before this the body waits in the client's socket. */
  start(credit: number): void {
    if (this.#isStarted || this.#isStopped) return;
    this.#isStarted = true;
    this.#credit = credit;
    this.#request.on('data', (chunk: Buffer) => this.#onChunk(chunk));
    this.#request.on('end', () => {
      this.#isEnded = true;
      this.#pump();
    });
  }

  grant(credit: number): void {
    this.#credit += credit;
    if (this.#isStarted) this.#pump();
  }

  /** What the client still sends is read and dropped, so that its connection can be used again. */
  stop(): void {
    this.#isStopped = true;
    this.#rest = EMPTY;
    this.#request.resume();
  }

  #onChunk(chunk: Buffer): void {
    if (this.#isStopped) return;
    this.#bytes += chunk.length;
    if (this.#bytes > this.#bytesMax) return this.#handlers.onTooLarge(this.#bytesMax);
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#pump();
  }

  #pump(): void {
    while (this.#rest.length > 0 && this.#credit > 0 && !this.#isStopped) {
      const bytes = Math.min(this.#rest.length, this.#credit, DATA_FRAME_BYTES_MAX);
      const piece = this.#rest.subarray(0, bytes);
      this.#rest = this.#rest.subarray(bytes);
      this.#credit -= bytes;
      this.#handlers.send(piece, false);
    }
    if (this.#isStopped) return;
    if (this.#rest.length > 0) this.#request.pause();
    else if (this.#isEnded) {
      this.#isStopped = true;
      this.#handlers.send(EMPTY, true);
    } else if (this.#request.isPaused()) this.#request.resume();
  }
}

/** How a request's body will travel. */
export function bodyKind(request: IncomingMessage): 'none' | 'inline' | 'stream' {
  if (request.headers['transfer-encoding'] !== undefined) return 'stream';
  const length = Number(request.headers['content-length'] ?? 0);
  if (length === 0) return 'none';
  return length <= INLINE_BODY_BYTES_MAX ? 'inline' : 'stream';
}

/** Reads a small body whole. `onBody` is not called when the client goes away before its end. */
export function readInline(request: IncomingMessage, onBody: (body: Buffer) => void): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => onBody(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
}
