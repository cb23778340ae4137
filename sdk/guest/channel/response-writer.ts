/**
 * Turns what a handler returned into RESPONSE and DATA frames. A body that is at hand leaves in one frame with its
 * head; a stream leaves piece by piece, never more than the other side granted, and its head waits one turn of the
 * event loop for the first piece, no longer: time to first byte belongs to the client.
 */
import { FrameType } from '../../protocol/frame.ts';
import type { HeaderList, ResponseHead } from '../../protocol/invocation.ts';
import { DATA_FRAME_BYTES_MAX, HEAD_BYTES_MAX } from '../../protocol/limits.ts';
import type { FrameWriter } from './frame-writer.ts';
import { LightResponse } from '../web/light-response.ts';

/** Whatever looks like a Response: frameworks bring their own classes. */
interface ResponseLike {
  readonly status: number;
  readonly headers: Iterable<[string, string]>;
  readonly body: ReadableStream<Uint8Array> | null;
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;
type Piece = ReadableStreamReadResult<Uint8Array>;
const NOTHING_YET = Symbol('nothing yet');

export class ResponseWriter {
  readonly #writer: FrameWriter;
  readonly #stream: number;
  readonly #isHead: boolean;
  #credit: number;
  #wake: (() => void) | undefined;
  #reader: Reader | undefined;
  #cancelled: Error | undefined;

  constructor(writer: FrameWriter, stream: number, isHead: boolean, credit: number) {
    this.#writer = writer;
    this.#stream = stream;
    this.#isHead = isHead;
    this.#credit = credit;
  }

  /**
   * Returns nothing when the whole answer has been written, else a promise of the end of the body, which rejects when
   * the body's stream fails. Throws when `result` is not a response.
   */
  write(result: unknown): Promise<void> | undefined {
    if (typeof result !== 'object' || result === null) throw notResponse(result);
    const simple = LightResponse.trySimple(result);
    if (simple) return this.#writeBuffered(encodeHead(simple), simple.body);
    if (!isResponseLike(result)) throw notResponse(result);
    const head = encodeHead({ status: result.status, headers: [...result.headers] });
    const { body } = result;
    if (body === null || body === undefined || this.#isHead) {
      this.#writer.head(FrameType.RESPONSE, this.#stream, true, head, undefined);
      void body?.cancel().catch(() => {});
      return undefined;
    }
    return this.#writeStream(head, body);
  }

  grant(bytes: number): void {
    this.#credit += bytes;
    this.#wakeUp();
  }

  /** Nothing more is written; the body's source is told. */
  cancel(reason: Error): void {
    this.#cancelled = reason;
    void this.#reader?.cancel(reason).catch(() => {});
    this.#wakeUp();
  }

  /** For an answer that came too late: lets go of its body. */
  discard(result: unknown): void {
    if (typeof result !== 'object' || result === null || LightResponse.trySimple(result)) return;
    if (isResponseLike(result)) void result.body?.cancel(this.#cancelled).catch(() => {});
  }

  #writeBuffered(head: string, body: string | Uint8Array | undefined): Promise<void> | undefined {
    if (this.#isHead || body === undefined) {
      this.#writer.head(FrameType.RESPONSE, this.#stream, true, head, undefined);
      return undefined;
    }
    // Every UTF-16 unit is three bytes at most, so this needs no count in the usual case.
    const bytesMax = typeof body === 'string' ? body.length * 3 : body.length;
    if (bytesMax <= DATA_FRAME_BYTES_MAX && bytesMax <= this.#credit) {
      this.#writer.head(FrameType.RESPONSE, this.#stream, true, head, body);
      return undefined;
    }
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    if (bytes.length <= DATA_FRAME_BYTES_MAX && bytes.length <= this.#credit) {
      this.#writer.head(FrameType.RESPONSE, this.#stream, true, head, bytes);
      return undefined;
    }
    this.#writer.head(FrameType.RESPONSE, this.#stream, false, head, undefined);
    return this.#writePiece(bytes, true);
  }

  async #writeStream(head: string, body: ReadableStream<Uint8Array>): Promise<void> {
    const reader = body.getReader();
    this.#reader = reader;
    let next = reader.read();
    const first = await Promise.race([next, turnOfLoop()]);
    if (
      first === NOTHING_YET ||
      first.done ||
      bytesOf(first).length > Math.min(DATA_FRAME_BYTES_MAX, this.#credit)
    ) {
      const isEnd = first !== NOTHING_YET && first.done;
      if (this.#cancelled) throw this.#cancelled;
      this.#writer.head(FrameType.RESPONSE, this.#stream, isEnd, head, undefined);
      if (isEnd) return;
    } else {
      const bytes = bytesOf(first);
      next = reader.read();
      const second = await Promise.race([next, turnOfLoop()]);
      const isEnd = second !== NOTHING_YET && second.done;
      if (this.#cancelled) throw this.#cancelled;
      this.#credit -= bytes.length;
      this.#writer.head(FrameType.RESPONSE, this.#stream, isEnd, head, bytes);
      if (isEnd) return;
    }
    await this.#pump(reader, next);
  }

  async #pump(reader: Reader, first: Promise<Piece>): Promise<void> {
    for (let piece = await first; ; piece = await reader.read()) {
      if (this.#cancelled) throw this.#cancelled;
      if (piece.done) {
        this.#writer.empty(FrameType.DATA, this.#stream, true);
        return;
      }
      const waiting = this.#writePiece(bytesOf(piece), false, reader);
      if (waiting) await waiting;
    }
  }

  /** Writes at once what the window allows, the rest as credit comes. */
  #writePiece(bytes: Uint8Array, isLast: boolean, reader?: Reader): Promise<void> | undefined {
    let offset = 0;
    while (offset < bytes.length) {
      if (this.#credit === 0) return this.#writeRest(bytes, offset, isLast, reader);
      offset = this.#writeSome(bytes, offset, isLast);
    }
    return undefined;
  }

  async #writeRest(
    bytes: Uint8Array,
    start: number,
    isLast: boolean,
    reader: Reader | undefined,
  ): Promise<void> {
    let offset = start;
    while (offset < bytes.length) {
      if (this.#cancelled) {
        void reader?.cancel(this.#cancelled).catch(() => {});
        throw this.#cancelled;
      }
      if (this.#credit === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
      else offset = this.#writeSome(bytes, offset, isLast);
    }
  }

  #writeSome(bytes: Uint8Array, offset: number, isLast: boolean): number {
    const end = Math.min(bytes.length, offset + Math.min(DATA_FRAME_BYTES_MAX, this.#credit));
    this.#credit -= end - offset;
    this.#writer.bytes(
      FrameType.DATA,
      this.#stream,
      isLast && end === bytes.length,
      bytes.subarray(offset, end),
    );
    return end;
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function turnOfLoop(): Promise<typeof NOTHING_YET> {
  return new Promise((resolve) => setImmediate(resolve, NOTHING_YET));
}

function encodeHead(head: { readonly status: number; readonly headers: HeaderList }): string {
  const json = JSON.stringify({ status: head.status, headers: head.headers } satisfies ResponseHead);
  if (json.length > HEAD_BYTES_MAX) {
    throw new TypeError(`the response headers have ${json.length} bytes; the limit is ${HEAD_BYTES_MAX}`);
  }
  return json;
}

function bytesOf(piece: Piece): Uint8Array {
  const { value } = piece as { value: unknown };
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`a response body gave ${describe(value)}; a stream must give Uint8Array pieces`);
}

function isResponseLike(value: object): value is ResponseLike {
  const { status, headers, body } = value as Partial<ResponseLike>;
  return (
    typeof status === 'number' &&
    typeof headers === 'object' &&
    Symbol.iterator in headers &&
    (body === null || body === undefined || typeof body.getReader === 'function')
  );
}

function notResponse(value: unknown): TypeError {
  return new TypeError(`the handler returned ${describe(value)}; it must return a Response`);
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  const name = typeof value === 'object' ? (value.constructor?.name ?? 'an object') : typeof value;
  return `a value of type ${name}`;
}
