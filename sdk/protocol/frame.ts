/**
 * The one wire format of Skiff: frames on a byte stream, many streams multiplexed on one connection.
 * It is spoken between runner and guest (unix socket) and between gateway and runner (the "link").
 *
 * A frame is  u32le length | u8 type | u32le stream | payload   where length counts everything after itself.
 * The high bit of the type, END, says "nothing more comes from this side on this stream".
 * REQUEST and RESPONSE payloads are  u32le headLength | head (JSON, UTF-8) | first body bytes.
 *
 * Flow control is per stream, per direction and end to end: a side may send at most STREAM_WINDOW_BYTES of
 * DATA payload (body bytes inside REQUEST and RESPONSE count as well) beyond what WINDOW frames granted, so a
 * relay in the middle never holds more than one window for each stream.
 *
 * Invariant: the reader trusts nothing. A length over FRAME_BYTES_MAX or below 5 is a FrameError and the
 * connection must be dropped. Deliberately absent: compression, priorities, versions inside frames (HELLO has it).
 */
import { FRAME_BYTES_MAX } from './limits.ts';

export const END = 0x80;

export const FrameType = {
  /** Both ways, once, first. JSON. */
  HELLO: 1,
  /** runner -> guest: become this deployment. JSON `LoadCommand`. */
  LOAD: 2,
  /** guest -> runner: answer to LOAD. JSON `LoadResult`. */
  LOADED: 3,
  /** Start of an invocation. */
  REQUEST: 4,
  /** Body bytes. */
  DATA: 5,
  /** Start of the answer. */
  RESPONSE: 6,
  /** Either way: stop this stream. JSON `{ reason }`. The receiver answers ERROR if it had not finished. */
  CANCEL: 7,
  /** Credit: u32le bytes the receiver may send in addition. */
  WINDOW: 8,
  /** guest -> runner: a log record. JSON `GuestLog`; stream is the invocation's or 0. */
  LOG: 9,
  /** The stream failed. JSON `InvocationFailure`. Always final. */
  ERROR: 10,
  /** guest -> runner: handler, body and every waitUntil of this stream have ended. */
  SETTLED: 11,
  /** runner -> guest: answered with PONG of the same payload. Before LOAD it asks to rehearse first. */
  PING: 12,
  PONG: 13,
  /** runner -> gateway: the request was provably not started; dispatch it again. JSON `{ reason }`. */
  REFUSED: 14,
  /**
   * A function calls another: guest -> runner with a `CallHead`, runner -> gateway with a `RoutedCall`, as REQUEST. Calls
   * have streams of their own, numbered by whoever opens them; windows as for invocations.
   */
  CALL: 15,
  /** Body bytes of a call, either way. */
  CALL_DATA: 16,
  /** Start of a call's answer, as RESPONSE. */
  CALL_RESPONSE: 17,
  /** Credit for a call's body, either way. */
  CALL_WINDOW: 18,
  /** From the caller: nobody waits for this call any more. */
  CALL_CANCEL: 19,
  /** To the caller: there is no answer, or no end of one. JSON `CallFailure`. Always final. */
  CALL_ERROR: 20,
  /**
   * runner -> guest, empty: what did V8 compile so far? Asked once at a time, of a guest whose LOADED names `codeCache`.
   * guest -> runner: the code cache, in pieces; the last has END.
   */
  CODE_CACHE: 21,
  /**
   * gateway -> runner: have you begun this stream? JSON `{ token }`. A runner that has not says REFUSED, and will not begin
   * it: what carried the request was lost on its way. One that has says nothing.
   */
  ASK: 31,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export const FRAME_HEADER_BYTES = 9;
export const EMPTY = Buffer.alloc(0);
/** Pieces of one frame that are held before they are joined: each has some cost of its own. */
const CHUNKS_MAX = 1024;

export class FrameError extends Error {
  override name = 'FrameError';
}

export interface Frame {
  readonly type: number;
  readonly isEnd: boolean;
  readonly stream: number;
  /** A view into the receive buffer: copy it if it must outlive the callback. */
  readonly payload: Buffer;
}

export function encodeFrame(type: number, stream: number, payload: Buffer = EMPTY): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payload.length + 5, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32LE(stream, 5);
  payload.copy(frame, FRAME_HEADER_BYTES);
  return frame;
}

export function encodeJsonFrame(type: number, stream: number, value: unknown): Buffer {
  return encodeFrame(type, stream, Buffer.from(JSON.stringify(value)));
}

/** Payload of REQUEST and RESPONSE. */
export function encodeHead(head: unknown, body: Buffer = EMPTY): Buffer {
  return encodeHeadText(JSON.stringify(head), body);
}

/** The same of a head that is JSON already. */
export function encodeHeadText(json: string, body: Buffer = EMPTY): Buffer {
  const headBytes = Buffer.byteLength(json);
  const payload = Buffer.allocUnsafe(4 + headBytes + body.length);
  payload.writeUInt32LE(headBytes, 0);
  payload.write(json, 4, headBytes, 'utf8');
  body.copy(payload, 4 + headBytes);
  return payload;
}

/**
 * Splits a REQUEST or RESPONSE payload, which begins `at` this byte. Throws FrameError when the lengths or the JSON are
 * wrong.
 */
export function parseHead(payload: Buffer, at = 0): { head: unknown; body: Buffer } {
  const { text, body } = splitHead(payload, at);
  try {
    return { head: JSON.parse(text), body };
  } catch {
    throw new FrameError('head is not JSON');
  }
}

/** The same without parsing the head. */
export function splitHead(payload: Buffer, at = 0): { text: string; body: Buffer } {
  const length = payload.length - at;
  if (length < 4) throw new FrameError(`head frame of ${length} bytes; at least 4 are needed`);
  const headBytes = payload.readUInt32LE(at);
  if (headBytes > length - 4) throw new FrameError(`head of ${headBytes} bytes in a payload of ${length}`);
  const bodyAt = at + 4 + headBytes;
  const text = payload.toString('utf8', at + 4, bodyAt);
  return { text, body: bodyAt === payload.length ? EMPTY : payload.subarray(bodyAt) };
}

export function parseJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'));
  } catch {
    throw new FrameError('payload is not JSON');
  }
}

/**
 * Turns chunks of bytes into frames. `push` calls `onFrame` for every whole frame, in order, and throws
 * FrameError on a bad length. After a throw the reader must not be used again.
 */
export class FrameReader {
  /** What came of a frame that is not whole yet, and how many bytes make it so. */
  #chunks: Buffer[] = [];
  #pendingBytes = 0;
  #neededBytes = 4;
  readonly #onFrame: (frame: Frame) => void;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    const buffer = this.#gather(chunk);
    if (!buffer) return;
    let offset = 0;
    while (buffer.length - offset >= 4) {
      const length = buffer.readUInt32LE(offset);
      if (length < 5 || length > FRAME_BYTES_MAX) {
        throw new FrameError(`frame length ${length}; allowed are 5 to ${FRAME_BYTES_MAX}`);
      }
      if (buffer.length - offset < 4 + length) break;
      const type = buffer[offset + 4] as number;
      this.#onFrame({
        type: type & ~END,
        isEnd: (type & END) !== 0,
        stream: buffer.readUInt32LE(offset + 5),
        payload: buffer.subarray(offset + FRAME_HEADER_BYTES, offset + 4 + length),
      });
      offset += 4 + length;
    }
    this.#keep(buffer.subarray(offset));
  }

  /** Undefined while the next frame is not whole: joining the pieces each time would cost the square of its length. */
  #gather(chunk: Buffer): Buffer | undefined {
    if (this.#pendingBytes === 0) return chunk;
    this.#chunks.push(chunk);
    this.#pendingBytes += chunk.length;
    const isWhole = this.#pendingBytes >= this.#neededBytes;
    if (!isWhole && this.#chunks.length < CHUNKS_MAX) return undefined;
    const buffer = Buffer.concat(this.#chunks, this.#pendingBytes);
    if (isWhole) return buffer;
    this.#chunks = [buffer];
    return undefined;
  }

  #keep(rest: Buffer): void {
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#pendingBytes = rest.length;
    this.#neededBytes = rest.length >= 4 ? 4 + rest.readUInt32LE(0) : 4;
  }
}
