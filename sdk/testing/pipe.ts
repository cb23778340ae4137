/** Bodies between web streams and frames, never more under way than the window allows. */
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../protocol/limits.ts';

/** A web stream that is filled from frames. */
export interface Pipe {
  readonly stream: ReadableStream<Uint8Array>;
  push(bytes: Uint8Array): void;
  end(): void;
  fail(error: Error): void;
}

/**
 * @param grant called with the bytes that the reader has taken
 * @param onLeave called when the reader wants no more
 */
export function createPipe(grant: (bytes: number) => void, onLeave: () => void): Pipe {
  let controller: ReadableStreamDefaultController<Uint8Array>;
  let isOver = false;
  const waiting: Uint8Array[] = [];
  let isEnding = false;
  let isWanted = false;
  const pump = (): void => {
    while (isWanted && waiting.length > 0) {
      const bytes = waiting.shift() as Uint8Array;
      isWanted = false;
      controller.enqueue(bytes);
      if (!isEnding) grant(bytes.length);
    }
    if (!isEnding || waiting.length > 0 || isOver) return;
    isOver = true;
    controller.close();
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      start(given) {
        controller = given;
      },
      pull() {
        isWanted = true;
        pump();
      },
      cancel() {
        isOver = true;
        waiting.length = 0;
        if (!isEnding) onLeave();
      },
    },
    { highWaterMark: 0 },
  );
  return {
    stream,
    push(bytes) {
      if (isOver) return;
      waiting.push(bytes);
      pump();
    },
    end() {
      isEnding = true;
      pump();
    },
    fail(error) {
      if (isOver) return;
      isOver = true;
      controller.error(error);
    },
  };
}

/** What may be sent now. */
export interface Credit {
  take(bytesMax: number): Promise<number>;
  grant(bytes: number): void;
  /** Nobody wants the rest. */
  close(): void;
}

export function createCredit(): Credit {
  let left = STREAM_WINDOW_BYTES;
  let isClosed = false;
  let wake: (() => void) | undefined;
  return {
    async take(bytesMax) {
      while (left === 0 && !isClosed) await new Promise<void>((resolve) => (wake = resolve));
      if (isClosed) return 0;
      const taken = Math.min(left, bytesMax, DATA_FRAME_BYTES_MAX);
      left -= taken;
      return taken;
    },
    grant(bytes) {
      left += bytes;
      wake?.();
    },
    close() {
      isClosed = true;
      wake?.();
    },
  };
}

/** Reads the whole stream and hands it on in pieces; the last call has `isEnd`. Stops early when nobody wants it. */
export async function sendBody(
  body: ReadableStream<Uint8Array>,
  credit: Credit,
  send: (bytes: Uint8Array | undefined, isEnd: boolean) => void,
): Promise<void> {
  const reader = body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    for (let at = 0; at < piece.value.length;) {
      const bytes = await credit.take(piece.value.length - at);
      if (bytes === 0) return void reader.cancel().catch(() => {});
      send(piece.value.subarray(at, at + bytes), false);
      at += bytes;
    }
  }
  send(undefined, true);
}

/** Payload of a WINDOW frame. */
export function encodeNumber(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
