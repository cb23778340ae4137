/**
 * The body of a request as it arrives in frames. Credit is granted when bytes are taken, not when they arrive, so
 * a handler that reads slowly holds back the client and never more than one window lies here.
 */
import { FrameError } from '../../protocol/frame.ts';
import { STREAM_WINDOW_BYTES } from '../../protocol/limits.ts';

/** Grants below this are saved up: one WINDOW frame for each half window. */
const GRANT_BYTES_MIN = STREAM_WINDOW_BYTES / 2;

export class BodySource {
  readonly #grant: (bytes: number) => void;
  readonly #chunks: Uint8Array[] = [];
  #isEnded = false;
  #isDiscarded = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;
  #credit = STREAM_WINDOW_BYTES;
  #taken = 0;
  /** Set by the first reader; a body can be read once. */
  isUsed = false;

  constructor(grant: (bytes: number) => void) {
    this.#grant = grant;
  }

  /** Throws FrameError when the sender ignores its window. The bytes are kept: pass a copy. */
  push(bytes: Uint8Array): void {
    this.#credit -= bytes.length;
    if (this.#credit < 0) throw new FrameError(`request body exceeds its window by ${-this.#credit} bytes`);
    if (this.#isDiscarded || bytes.length === 0) return;
    this.#chunks.push(bytes);
    this.#wakeUp();
  }

  end(): void {
    this.#isEnded = true;
    this.#wakeUp();
  }

  fail(error: Error): void {
    if (this.#isEnded) return;
    this.#failure = error;
    this.#wakeUp();
  }

  /** Nobody will read any more; what still comes is dropped and gets no credit. */
  discard(): void {
    this.#isDiscarded = true;
    this.#chunks.length = 0;
  }

  /** The whole body. */
  async collect(): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (let part = await this.#next(); part; part = await this.#next()) parts.push(part);
    return parts.length === 1 ? asBuffer(parts[0] as Uint8Array) : Buffer.concat(parts);
  }

  /** The body when all of it is here already: saves the turns of a promise. */
  tryCollectNow(): Buffer | undefined {
    if (!this.#isEnded || this.#failure || this.#chunks.length > 1) return undefined;
    const [only] = this.#chunks;
    this.#chunks.length = 0;
    return only ? asBuffer(only) : Buffer.alloc(0);
  }

  stream(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const part = await this.#next();
          if (part) controller.enqueue(part);
          else controller.close();
        },
        cancel: () => this.discard(),
      },
      { highWaterMark: 0 },
    );
  }

  async #next(): Promise<Uint8Array | undefined> {
    while (this.#chunks.length === 0) {
      if (this.#failure) throw this.#failure;
      if (this.#isEnded) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const part = this.#chunks.shift() as Uint8Array;
    this.#taken += part.length;
    if (!this.#isEnded && this.#taken >= GRANT_BYTES_MIN) {
      this.#credit += this.#taken;
      this.#grant(this.#taken);
      this.#taken = 0;
    }
    return part;
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
