/**
 * Writes frames into one growing batch and hands the batch over once per turn of the event loop: under load many
 * answers share one system call. Bytes are copied in, so callers may reuse their buffers. The batches' memory is used
 * again once it was written: as garbage it would be external to the heap, where the collector looks late.
 */
import { END, FRAME_HEADER_BYTES } from '../../protocol/frame.ts';

const CHUNK_BYTES = 128 * 1024;
const SPARE_CHUNKS_MAX = 4;
/** UTF-8 needs at most three bytes for each UTF-16 unit. */
const UTF8_BYTES_PER_UNIT_MAX = 3;

/** Takes bytes and says when they have left. */
export type WriteBytes = (bytes: Buffer, done: () => void) => void;

interface Chunk {
  readonly bytes: Buffer;
  /** Writes of it that are under way. */
  writing: number;
  isFull: boolean;
}

export class FrameWriter {
  readonly #write: WriteBytes;
  readonly #spare: Chunk[] = [];
  #current = createChunk(CHUNK_BYTES);
  #chunk = this.#current.bytes;
  #start = 0;
  #end = 0;
  #isScheduled = false;
  readonly #flush = (): void => this.flush();

  constructor(write: WriteBytes) {
    this.#write = write;
  }

  /** A frame with a payload of bytes. */
  bytes(type: number, stream: number, isEnd: boolean, payload: Uint8Array): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + payload.length);
    this.#chunk.set(payload, at + FRAME_HEADER_BYTES);
    this.#finish(at, type, stream, isEnd, payload.length);
  }

  empty(type: number, stream: number, isEnd: boolean): void {
    this.#finish(this.#reserve(FRAME_HEADER_BYTES), type, stream, isEnd, 0);
  }

  /** A frame whose payload is one u32le. */
  number(type: number, stream: number, value: number): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 4);
    this.#chunk.writeUInt32LE(value, at + FRAME_HEADER_BYTES);
    this.#finish(at, type, stream, false, 4);
  }

  text(type: number, stream: number, isEnd: boolean, text: string): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + text.length * UTF8_BYTES_PER_UNIT_MAX);
    const bytes = this.#chunk.write(text, at + FRAME_HEADER_BYTES, 'utf8');
    this.#finish(at, type, stream, isEnd, bytes);
  }

  /** REQUEST and RESPONSE: a head in JSON and the first piece of the body. */
  head(
    type: number,
    stream: number,
    isEnd: boolean,
    head: string,
    body: string | Uint8Array | undefined,
  ): void {
    const bodyBytesMax =
      typeof body === 'string' ? body.length * UTF8_BYTES_PER_UNIT_MAX : (body?.length ?? 0);
    const at = this.#reserve(FRAME_HEADER_BYTES + 4 + head.length * UTF8_BYTES_PER_UNIT_MAX + bodyBytesMax);
    const headAt = at + FRAME_HEADER_BYTES + 4;
    const headBytes = this.#chunk.write(head, headAt, 'utf8');
    this.#chunk.writeUInt32LE(headBytes, headAt - 4);
    let bodyBytes = 0;
    if (typeof body === 'string') bodyBytes = this.#chunk.write(body, headAt + headBytes, 'utf8');
    else if (body !== undefined) {
      this.#chunk.set(body, headAt + headBytes);
      bodyBytes = body.length;
    }
    this.#finish(at, type, stream, isEnd, 4 + headBytes + bodyBytes);
  }

  flush(): void {
    this.#isScheduled = false;
    if (this.#end === this.#start) return;
    const batch = this.#chunk.subarray(this.#start, this.#end);
    this.#start = this.#end;
    const chunk = this.#current;
    chunk.writing++;
    this.#write(batch, () => {
      chunk.writing--;
      this.#recycle(chunk);
    });
  }

  /** Place for `bytes`; the batch so far leaves first when they do not fit. */
  #reserve(bytes: number): number {
    if (this.#chunk.length - this.#end < bytes) {
      this.flush();
      const full = this.#current;
      full.isFull = true;
      this.#recycle(full);
      this.#current =
        (bytes <= CHUNK_BYTES && this.#spare.pop()) || createChunk(Math.max(CHUNK_BYTES, bytes));
      this.#current.isFull = false;
      this.#chunk = this.#current.bytes;
      this.#start = 0;
      this.#end = 0;
    }
    return this.#end;
  }

  #recycle(chunk: Chunk): void {
    const isFree = chunk.isFull && chunk.writing === 0;
    if (isFree && chunk.bytes.length === CHUNK_BYTES && this.#spare.length < SPARE_CHUNKS_MAX) {
      this.#spare.push(chunk);
    }
  }

  #finish(at: number, type: number, stream: number, isEnd: boolean, payloadBytes: number): void {
    const chunk = this.#chunk;
    chunk.writeUInt32LE(payloadBytes + 5, at);
    chunk[at + 4] = isEnd ? type | END : type;
    chunk.writeUInt32LE(stream, at + 5);
    this.#end = at + FRAME_HEADER_BYTES + payloadBytes;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Ticks run when the microtasks of this turn are done: what they answer still gets into this batch.
    process.nextTick(this.#flush);
  }
}

function createChunk(bytes: number): Chunk {
  return { bytes: Buffer.allocUnsafeSlow(bytes), writing: 0, isFull: false };
}
