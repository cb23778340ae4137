/**
 * Calls that the function makes to others, over the same channel on which it is called: no socket, no address, no token.
 * Invariant: a call belongs to an invocation and ends with it; its body is sent only as far as the other side granted.
 * Whether a target may be called is for the runner to say; the names known here only tell calls from other fetches.
 */
import { FrameType, parseHead, parseJson, type Frame } from '../../protocol/frame.ts';
import type { CallFailure, CallHead, HeaderList, ResponseHead } from '../../protocol/invocation.ts';
import { DATA_FRAME_BYTES_MAX, HEAD_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../protocol/limits.ts';
import { LightResponse } from '../web/light-response.ts';
import { BodySource } from './body-source.ts';
import type { FrameWriter } from './frame-writer.ts';

export interface CallInit {
  readonly method: string;
  readonly path: string;
  readonly headers: HeaderList;
  readonly body: Uint8Array | ReadableStream<Uint8Array> | undefined;
  readonly signal: AbortSignal | undefined;
}

interface OpenCall {
  readonly parent: number;
  readonly source: BodySource;
  readonly answer: PromiseWithResolvers<Response>;
  readonly method: string;
  credit: number;
  wake: (() => void) | undefined;
  isAnswered: boolean;
  stopListening: () => void;
}

const STREAM_MAX = 0xffff_fffe;
/** The Fetch Standard's null body statuses, as far as an answer can have them. */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

export class OutgoingCalls {
  readonly #writer: FrameWriter;
  readonly #calls = new Map<number, OpenCall>();
  #targets: ReadonlySet<string> = new Set();
  #lastStream = 0;

  constructor(writer: FrameWriter) {
    this.#writer = writer;
  }

  declare(targets: readonly string[]): void {
    this.#targets = new Set(targets);
  }

  /** `resize.skiff`, and `resize` when it is declared; undefined for hosts that are none of ours. */
  tryTarget(host: string): string | undefined {
    if (host.endsWith('.skiff')) return host.slice(0, -'.skiff'.length);
    return this.#targets.has(host) ? host : undefined;
  }

  /** Resolves with the head of the answer. @throws TypeError, as fetch does; the signal's reason */
  open(parent: number, target: string, init: CallInit): Promise<Response> {
    const { method, path, headers, body, signal } = init;
    signal?.throwIfAborted();
    const head = JSON.stringify({ parent, target, method, path, headers } satisfies CallHead);
    if (head.length > HEAD_BYTES_MAX)
      throw new TypeError(`the head of the call has ${head.length} bytes; the limit is ${HEAD_BYTES_MAX}`);
    const stream = this.#openStream();
    const call: OpenCall = {
      parent,
      method,
      answer: Promise.withResolvers(),
      source: new BodySource((bytes) => this.#writer.number(FrameType.CALL_WINDOW, stream, bytes)),
      credit: STREAM_WINDOW_BYTES,
      wake: undefined,
      isAnswered: false,
      stopListening: () => {},
    };
    this.#calls.set(stream, call);
    if (signal) this.#listen(stream, call, signal);
    const isWhole = body === undefined || (body instanceof Uint8Array && body.length <= DATA_FRAME_BYTES_MAX);
    const first = body instanceof Uint8Array && isWhole ? body : undefined;
    call.credit -= first?.length ?? 0;
    this.#writer.head(FrameType.CALL, stream, isWhole, head, first);
    if (!isWhole)
      void this.#sendBody(stream, call, body).catch((error: unknown) => this.#cancel(stream, error as Error));
    return call.answer.promise;
  }

  onFrame(frame: Frame): void {
    const call = this.#calls.get(frame.stream);
    // One that was cancelled may have an answer under way.
    if (!call) return;
    switch (frame.type) {
      case FrameType.CALL_RESPONSE:
        return this.#onResponse(frame, call);
      case FrameType.CALL_DATA:
        call.source.push(Buffer.from(frame.payload));
        if (frame.isEnd) this.#end(frame.stream, call);
        return;
      case FrameType.CALL_WINDOW:
        call.credit += frame.payload.readUInt32LE(0);
        call.wake?.();
        return;
      case FrameType.CALL_ERROR: {
        const { code, message } = parseJson(frame.payload) as CallFailure;
        this.#drop(frame.stream, call, Object.assign(new TypeError(message), { code }));
      }
    }
  }

  /** The invocation is over, and so are its calls. */
  endOf(parent: number): void {
    if (this.#calls.size === 0) return;
    for (const [stream, call] of this.#calls) {
      if (call.parent === parent)
        this.#cancel(stream, new TypeError('the invocation that made the call has ended'));
    }
  }

  #openStream(): number {
    do this.#lastStream = this.#lastStream >= STREAM_MAX ? 1 : this.#lastStream + 1;
    while (this.#calls.has(this.#lastStream));
    return this.#lastStream;
  }

  #listen(stream: number, call: OpenCall, signal: AbortSignal): void {
    const onAbort = (): void => this.#cancel(stream, signal.reason as Error);
    signal.addEventListener('abort', onAbort);
    call.stopListening = () => signal.removeEventListener('abort', onAbort);
  }

  async #sendBody(
    stream: number,
    call: OpenCall,
    body: Uint8Array | ReadableStream<Uint8Array>,
  ): Promise<void> {
    if (body instanceof Uint8Array) await this.#sendBytes(stream, call, body);
    else {
      const reader = body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        await this.#sendBytes(stream, call, piece.value);
        if (!this.#calls.has(stream)) return void reader.cancel().catch(() => {});
      }
    }
    if (this.#calls.has(stream)) this.#writer.empty(FrameType.CALL_DATA, stream, true);
  }

  async #sendBytes(stream: number, call: OpenCall, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && this.#calls.has(stream);) {
      if (call.credit === 0) {
        await new Promise<void>((resolve) => (call.wake = resolve));
        continue;
      }
      const part = bytes.subarray(at, at + Math.min(call.credit, DATA_FRAME_BYTES_MAX));
      call.credit -= part.length;
      at += part.length;
      this.#writer.bytes(FrameType.CALL_DATA, stream, false, part);
    }
  }

  #onResponse(frame: Frame, call: OpenCall): void {
    const { head, body } = parseHead(frame.payload);
    const { status, headers } = head as ResponseHead;
    const isBodiless = call.method === 'HEAD' || BODILESS.has(status);
    call.isAnswered = true;
    call.answer.resolve(
      new LightResponse(isBodiless ? null : call.source.stream(), {
        status,
        headers: headers as [string, string][],
      }) as unknown as Response,
    );
    call.source.push(Buffer.from(body));
    if (frame.isEnd) this.#end(frame.stream, call);
  }

  #end(stream: number, call: OpenCall): void {
    call.source.end();
    call.stopListening();
    this.#calls.delete(stream);
    // What is left of the request is of no interest to anybody.
    call.wake?.();
  }

  #cancel(stream: number, reason: Error): void {
    const call = this.#calls.get(stream);
    if (!call) return;
    this.#writer.empty(FrameType.CALL_CANCEL, stream, true);
    this.#drop(stream, call, reason);
  }

  #drop(stream: number, call: OpenCall, reason: Error): void {
    call.stopListening();
    this.#calls.delete(stream);
    if (call.isAnswered) call.source.fail(reason);
    else call.answer.reject(reason);
    call.wake?.();
  }
}
