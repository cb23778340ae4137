/**
 * Where the answer of an event's attempt goes in place of a client: a small body is kept, a large one streams into the
 * registry as it comes, and what is longer than RESULT_BYTES_MAX is cut and marked.
 * Invariant: `done` resolves once, whatever happens, and never rejects.
 */
import { EVENT_INLINE_BYTES_MAX, RESULT_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import type { HeaderList } from '../../../sdk/protocol/invocation.ts';
import type { BlobReference } from '../../../infra/events/record.ts';
import type { StoredResult } from '../../../infra/events/store.ts';
import type { CallResponse } from '../../invoke/caller.ts';

export interface SunkAnswer {
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Buffer;
  readonly blob: BlobReference | undefined;
  /** Of the whole body, also when not all of it was kept. */
  readonly bytes: number;
  readonly isCut: boolean;
  /** The answer ended before its end, or there was none. */
  readonly isBroken: boolean;
}

/** Written by the platform into every answer; a stored one gets them from elsewhere. */
const NOT_KEPT: ReadonlySet<string> = new Set([
  Header.invocationId,
  Header.serverTiming,
  'content-length',
  'date',
  'connection',
]);

export function toStoredResult({ status, headers, bytes, isCut, body, blob }: SunkAnswer): StoredResult {
  const kept = headers.filter(([name]) => !NOT_KEPT.has(name));
  return { head: { status, headers: kept, bytes, ...(isCut ? { isCut } : {}) }, body, blob };
}

export type PutBody = (body: AsyncIterable<Uint8Array>) => Promise<BlobReference>;

export class AnswerSink implements CallResponse {
  readonly req = { complete: true };
  readonly done: Promise<SunkAnswer>;
  strictContentLength = false;
  statusCode = 0;
  headersSent = false;
  readonly #put: PutBody;
  readonly #resolve: (answer: SunkAnswer) => void;
  #headers: HeaderList = [];
  #chunks: Buffer[] = [];
  #bytes = 0;
  #upload: { blob: Promise<BlobReference | undefined>; pipe: ChunkPipe } | undefined;
  #isSettled = false;
  #onClose: () => void = () => {};

  constructor(put: PutBody) {
    this.#put = put;
    const { promise, resolve } = Promise.withResolvers<SunkAnswer>();
    this.done = promise;
    this.#resolve = resolve;
  }

  /** The call is not wanted any more: its function is told to stop. */
  cancel(): void {
    this.#onClose();
    void this.#settle(true);
  }

  writeHead(status: number, headers: string[]): void {
    this.statusCode = status;
    this.headersSent = true;
    const pairs: [string, string][] = [];
    for (let i = 0; i + 1 < headers.length; i += 2)
      pairs.push([headers[i] as string, headers[i + 1] as string]);
    this.#headers = pairs;
  }

  flushHeaders(): void {}

  /** The bytes are copied: a frame's payload is only a view. */
  write(chunk: Buffer): boolean {
    this.#bytes += chunk.length;
    if (this.#bytes > RESULT_BYTES_MAX) return true;
    if (this.#upload) return this.#upload.pipe.push(Buffer.from(chunk));
    this.#chunks.push(Buffer.from(chunk));
    if (this.#bytes <= EVENT_INLINE_BYTES_MAX) return true;
    const pipe = new ChunkPipe();
    for (const kept of this.#chunks.splice(0)) pipe.push(kept);
    const blob = this.#put(pipe).catch(() => {
      pipe.close();
      return undefined;
    });
    this.#upload = { blob, pipe };
    return pipe.hasRoom;
  }

  end(body?: Buffer | string, encoding?: 'latin1'): void {
    if (body !== undefined) this.write(typeof body === 'string' ? Buffer.from(body, encoding) : body);
    void this.#settle(false);
  }

  destroy(): void {
    void this.#settle(true);
  }

  on(_event: 'close', listener: () => void): void {
    this.#onClose = listener;
  }

  once(_event: 'drain', listener: () => void): void {
    if (this.#upload) this.#upload.pipe.onDrain(listener);
    else listener();
  }

  async #settle(isBroken: boolean): Promise<void> {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#upload?.pipe.close();
    const blob = await this.#upload?.blob;
    // An upload that failed costs the result, not the outcome.
    const isLost = this.#upload !== undefined && blob === undefined;
    this.#resolve({
      status: this.statusCode,
      headers: this.#headers,
      body: Buffer.concat(this.#chunks),
      blob,
      bytes: this.#bytes,
      isCut: isLost || this.#bytes > RESULT_BYTES_MAX,
      isBroken,
    });
  }
}

const PIPE_BYTES_MAX = 256 * 1024;

/** Chunks pushed on one side and iterated on the other. */
class ChunkPipe implements AsyncIterable<Buffer> {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #isClosed = false;
  #wake: () => void = () => {};
  #drain: (() => void) | undefined;

  get hasRoom(): boolean {
    return this.#bytes < PIPE_BYTES_MAX;
  }

  push(chunk: Buffer): boolean {
    if (this.#isClosed) return true;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    this.#wake();
    return this.hasRoom;
  }

  close(): void {
    this.#isClosed = true;
    this.#wake();
    this.#drained();
  }

  onDrain(listener: () => void): void {
    if (this.hasRoom || this.#isClosed) listener();
    else this.#drain = listener;
  }

  #drained(): void {
    const drain = this.#drain;
    this.#drain = undefined;
    drain?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk) {
        this.#bytes -= chunk.length;
        if (this.hasRoom) this.#drained();
        yield chunk;
      } else if (this.#isClosed) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
