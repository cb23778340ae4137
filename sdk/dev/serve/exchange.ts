/**
 * One HTTP exchange with a function: the request into frames, the answer out of them, with the gateway's and runner's
 * rules: windows both ways, the three clocks, CANCEL when the client leaves, and a process that does not obey it killed.
 * Invariant: resolves exactly once, when the answer has left or failed; the slot is free then.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { encodeHead, END, type Frame, FrameType, parseHead, parseJson } from '../../protocol/frame.ts';
import type { InvocationFailure, RequestHead, ResponseHead } from '../../protocol/invocation.ts';
import { CANCEL_GRACE_MS, DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../protocol/limits.ts';
import type { FunctionConfig } from '../../protocol/manifest.ts';
import { cleanStack, type Failure, filterHeaders } from './answer.ts';
import { describeExit, type GuestExit, type GuestProcess, type StreamSink } from './guest-process.ts';

/** Exactly one of them. */
export interface ExchangeEnd {
  readonly status?: number;
  readonly failure?: Failure;
  /** The caller left before the answer was whole. */
  readonly isAbandoned?: true;
}

export interface ExchangeOptions {
  readonly guest: GuestProcess;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly head: RequestHead;
  /** Undefined: no time-outs, as under a debugger. */
  readonly clocks: Pick<FunctionConfig, 'timeout' | 'firstByteTimeout' | 'idleTimeout'> | undefined;
  readonly onStream: (stream: number) => void;
  /** Headers of ours for the answer. */
  readonly ownHeaders: () => Readonly<Record<string, string>>;
}

export function runExchange(options: ExchangeOptions): Promise<ExchangeEnd> {
  return new Promise((resolve) => new Exchange(options, resolve).start());
}

class Exchange implements StreamSink {
  readonly #options: ExchangeOptions;
  readonly #resolve: (end: ExchangeEnd) => void;
  readonly #stream: number;
  #credit = STREAM_WINDOW_BYTES;
  #wake: (() => void) | undefined;
  #status: number | undefined;
  #isEnded = false;
  #wasCancelled = false;
  #timers: NodeJS.Timeout[] = [];
  #idle: NodeJS.Timeout | undefined;
  #kill: NodeJS.Timeout | undefined;

  constructor(options: ExchangeOptions, resolve: (end: ExchangeEnd) => void) {
    this.#options = options;
    this.#resolve = resolve;
    this.#stream = options.guest.openStream(this);
    options.onStream(this.#stream);
  }

  start(): void {
    const { guest, request, response, head } = this.#options;
    const hasBody =
      request.headers['transfer-encoding'] !== undefined ||
      Number(request.headers['content-length'] ?? 0) > 0;
    guest.send(hasBody ? FrameType.REQUEST : FrameType.REQUEST | END, this.#stream, encodeHead(head));
    response.on('close', () => {
      if (!response.writableFinished) this.#cancel('the caller went away', { isAbandoned: true });
    });
    this.#startClocks();
    if (hasBody)
      void this.#sendBody().catch(() => this.#cancel('the request was cut', { isAbandoned: true }));
  }

  async #sendBody(): Promise<void> {
    const { guest, request } = this.#options;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length;) {
        while (this.#credit === 0) {
          if (this.#isEnded) return;
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
        const bytes = chunk.subarray(at, at + Math.min(this.#credit, DATA_FRAME_BYTES_MAX));
        this.#credit -= bytes.length;
        at += bytes.length;
        guest.send(FrameType.DATA, this.#stream, bytes);
      }
    }
    guest.send(FrameType.DATA | END, this.#stream);
  }

  #startClocks(): void {
    const { clocks } = this.#options;
    if (!clocks) return;
    const limit = (ms: number, what: string): void => {
      this.#timers.push(setTimeout(() => this.#timeOut(what), ms));
    };
    limit(clocks.timeout, `took longer than its time-out of ${clocks.timeout} ms`);
    if (clocks.firstByteTimeout !== undefined) {
      const text = `sent no response head within its first-byte time-out of ${clocks.firstByteTimeout} ms`;
      this.#timers.push(
        setTimeout(() => {
          if (this.#status === undefined) this.#timeOut(text);
        }, clocks.firstByteTimeout),
      );
    }
  }

  #restartIdleClock(): void {
    const ms = this.#options.clocks?.idleTimeout;
    if (ms === undefined) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#timeOut(`sent nothing for its idle time-out of ${ms} ms`), ms);
  }

  #timeOut(message: string): void {
    this.#cancel('timeout', { failure: { cause: 'timeout', message: `the function ${message}` } });
  }

  onFrame(frame: Frame): void {
    // It stopped, or its answer and our CANCEL crossed.
    if (frame.isEnd) clearTimeout(this.#kill);
    switch (frame.type) {
      case FrameType.WINDOW:
        this.#credit += frame.payload.readUInt32LE(0);
        return this.#wakeUp();
      case FrameType.RESPONSE: {
        const { head, body } = parseHead(frame.payload);
        this.#writeHead(head as ResponseHead);
        return this.#writeBody(body, frame.isEnd);
      }
      case FrameType.DATA:
        return this.#writeBody(frame.payload, frame.isEnd);
      case FrameType.ERROR: {
        const { message, stack } = parseJson(frame.payload) as InvocationFailure;
        const failure = {
          cause: 'handler_error' as const,
          message,
          ...(stack === undefined ? {} : { stack: cleanStack(stack) }),
        };
        return this.#end({ failure });
      }
    }
  }

  onGone(exit: GuestExit): void {
    clearTimeout(this.#kill);
    const message = `the process of the function ended while it handled the request (${describeExit(exit)})`;
    this.#end({ failure: { cause: 'crash', message } });
  }

  #writeHead(head: ResponseHead): void {
    this.#status = head.status;
    const { response, ownHeaders } = this.#options;
    if (this.#isEnded) return;
    response.writeHead(head.status, [...filterHeaders(head), ...Object.entries(ownHeaders()).flat()]);
    this.#restartIdleClock();
  }

  #writeBody(payload: Buffer, isLast: boolean): void {
    const { response, guest } = this.#options;
    if (this.#isEnded) return;
    this.#restartIdleClock();
    if (payload.length > 0) {
      const credit = Buffer.alloc(4);
      credit.writeUInt32LE(payload.length);
      // Credit when the bytes have left: a slow client holds the function back.
      response.write(Buffer.from(payload), () => {
        if (!isLast) guest.send(FrameType.WINDOW, this.#stream, credit);
      });
    } else if (!isLast) response.flushHeaders();
    if (!isLast) return;
    response.end();
    this.#end({ status: this.#status ?? 0 });
  }

  /** The caller is answered at once; a guest that does not stop in time is killed with all that runs in it. */
  #cancel(reason: string, end: ExchangeEnd): void {
    if (this.#isEnded) return;
    const { guest } = this.#options;
    this.#wasCancelled = true;
    guest.send(FrameType.CANCEL, this.#stream, Buffer.from(JSON.stringify({ reason })));
    this.#kill = setTimeout(() => guest.kill(), CANCEL_GRACE_MS);
    this.#end(end);
  }

  #end(end: ExchangeEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const timer of this.#timers) clearTimeout(timer);
    clearTimeout(this.#idle);
    this.#wakeUp();
    const { request, guest } = this.#options;
    if (!this.#wasCancelled && !request.complete)
      guest.send(FrameType.CANCEL, this.#stream, Buffer.from('{"reason":"answered"}'));
    this.#resolve(end);
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
