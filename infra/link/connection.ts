/**
 * One framed connection (sdk/protocol/frame.ts) over a socket: reads frames, writes them batched.
 * Frames sent within one turn of the event loop leave in one write: at tens of thousands of calls a second the
 * system call, not the copy, is what costs.
 * Invariant: after `close` or the socket's end no frame is delivered, and `onClose` is called exactly once.
 * Deliberately absent: reconnecting, streams and credit; those who use a connection own them.
 */
import type { Socket } from 'node:net';
import { FRAME_HEADER_BYTES, FrameReader, type Frame } from '../../sdk/protocol/frame.ts';

export interface ConnectionHandlers {
  onFrame(frame: Frame): void;
  /** `error` is set when the peer broke the protocol or the socket failed. */
  onClose(error?: Error): void;
}

/** Payloads from here on are written by themselves, not copied into the batch. */
const COPY_BYTES_MAX = 16 * 1024;
const BATCH_BYTES = 64 * 1024;
/**
 * A connection whose last batch had several frames is busy: its next batch is held back for a few turns of the event
 * loop, so that more frames share the write and the wake-up of the peer. A quiet connection is never held back.
 */
const BUSY_FRAMES = 3;
const FULL_FRAMES = 16;
const HOLD_TURNS_MAX = 8;
/** Frames that follow each other faster than this belong to one row: a call alone takes its caller longer. */
const ROW_GAP_MS = 0.05;
/** Of one UTF-16 code unit. */
const UTF8_BYTES_MAX = 3;

export class FrameConnection {
  readonly socket: Socket;
  readonly #handlers: ConnectionHandlers;
  #batch: Buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);
  #batchBytes = 0;
  #isFlushPlanned = false;
  #isClosed = false;
  /** Frames in this batch, in the one before, and for how many turns this one was held back. */
  #frames = 0;
  #lastFrames = 0;
  #heldTurns = 0;
  /** Frames in a row, and when the last one came. */
  #rowFrames = 0;
  #lastFrameMs = 0;
  readonly #flush = (): void => this.#flushOrHold();

  constructor(socket: Socket, handlers: ConnectionHandlers) {
    this.socket = socket;
    this.#handlers = handlers;
    const reader = new FrameReader((frame) => {
      if (!this.#isClosed) this.#handlers.onFrame(frame);
    });
    socket.setNoDelay?.(true);
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.close(error as Error);
      }
    });
    socket.on('error', (error) => this.close(error));
    socket.on('close', () => this.close());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Bytes accepted by `send` that the kernel has not taken yet. */
  get bufferedBytes(): number {
    return this.socket.writableLength + this.#batchBytes;
  }

  /** Queues one frame. `prefix` and `payload` are copied or written before this returns to the event loop. */
  send(type: number, stream: number, payload?: Buffer, prefix?: Buffer): void {
    if (this.#isClosed) return;
    const prefixBytes = prefix?.length ?? 0;
    const payloadBytes = payload?.length ?? 0;
    const headBytes = FRAME_HEADER_BYTES + prefixBytes;
    const copied = payloadBytes <= COPY_BYTES_MAX;
    const needed = copied ? headBytes + payloadBytes : headBytes;
    if (this.#batchBytes + needed > BATCH_BYTES) this.flush();
    const start = this.#batchBytes;
    const batch = this.#batch;
    writeFrameHeader(batch, start, type, stream, prefixBytes + payloadBytes);
    if (prefix) prefix.copy(batch, start + FRAME_HEADER_BYTES);
    this.#batchBytes += headBytes;
    this.#countFrame();
    if (payload && copied) {
      payload.copy(batch, this.#batchBytes);
      this.#batchBytes += payloadBytes;
    } else if (payload) {
      this.flush();
      // A view into a received chunk may be kept by the socket: Node gives every read a buffer of its own.
      this.socket.write(payload);
      return;
    }
    this.#planFlush();
  }

  /**
   * Queues one frame whose payload is two texts, each with its length in front (u32le), and bytes after them. Written in
   * place: buffers for each part, and their collection, would be a tenth of what a call costs a gateway.
   */
  sendTexts(type: number, stream: number, first: string, second: string, bytes: Buffer): void {
    if (this.#isClosed) return;
    const textBytesMax = (first.length + second.length) * UTF8_BYTES_MAX + 8;
    if (textBytesMax + bytes.length > COPY_BYTES_MAX) {
      const texts = Buffer.allocUnsafe(textBytesMax);
      const end = writeText(texts, second, writeText(texts, first, 0));
      return this.send(type, stream, bytes, texts.subarray(0, end));
    }
    if (this.#batchBytes + FRAME_HEADER_BYTES + textBytesMax + bytes.length > BATCH_BYTES) this.flush();
    const start = this.#batchBytes;
    const batch = this.#batch;
    const textsAt = start + FRAME_HEADER_BYTES;
    let end = writeText(batch, second, writeText(batch, first, textsAt));
    if (bytes.length > 0) end += bytes.copy(batch, end);
    writeFrameHeader(batch, start, type, stream, end - textsAt);
    this.#batchBytes = end;
    this.#countFrame();
    this.#planFlush();
  }

  #countFrame(): void {
    this.#frames++;
    // Asked of the clock: to be told that the turn is over costs a turn of its own, each time.
    const now = performance.now();
    if (now - this.#lastFrameMs > ROW_GAP_MS) this.#rowFrames = 0;
    this.#lastFrameMs = now;
    if (++this.#rowFrames >= BUSY_FRAMES) this.#lastFrames = this.#rowFrames;
  }

  #planFlush(): void {
    if (!this.#isFlushPlanned) {
      this.#isFlushPlanned = true;
      // A frame by itself leaves as soon as its callback ends; the others of a row wait for what else the turn brings.
      if (this.#lastFrames < BUSY_FRAMES && this.#rowFrames === 1) process.nextTick(this.#flush);
      else setImmediate(this.#flush);
    }
  }

  sendJson(type: number, stream: number, value: unknown): void {
    this.send(type, stream, Buffer.from(JSON.stringify(value)));
  }

  #flushOrHold(): void {
    if (this.#lastFrames >= BUSY_FRAMES && this.#frames < FULL_FRAMES && this.#heldTurns < HOLD_TURNS_MAX) {
      this.#heldTurns++;
      setImmediate(this.#flush);
      return;
    }
    this.flush();
  }

  flush(): void {
    this.#isFlushPlanned = false;
    this.#lastFrames = this.#frames;
    this.#frames = 0;
    this.#heldTurns = 0;
    if (this.#batchBytes === 0 || this.#isClosed) return;
    const bytes = this.#batchBytes;
    this.#batchBytes = 0;
    // Small batches are copied out so that the big buffer is kept; a full one is handed over whole.
    if (bytes <= COPY_BYTES_MAX) {
      this.socket.write(Buffer.from(this.#batch.subarray(0, bytes)));
      return;
    }
    this.socket.write(this.#batch.subarray(0, bytes));
    this.#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
  }

  close(error?: Error): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    this.socket.destroy();
    this.#handlers.onClose(error);
  }
}

function writeFrameHeader(
  target: Buffer,
  at: number,
  type: number,
  stream: number,
  payloadBytes: number,
): void {
  target.writeUInt32LE(5 + payloadBytes, at);
  target[at + 4] = type;
  target.writeUInt32LE(stream, at + 5);
}

/** Returns where what follows begins. */
function writeText(target: Buffer, text: string, at: number): number {
  const bytes = target.write(text, at + 4);
  target.writeUInt32LE(bytes, at);
  return at + 4 + bytes;
}
