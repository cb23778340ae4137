/**
 * One invocation of a program that speaks HTTP: frames in, one HTTP/1.1 request out, its response back as frames.
 * Invariant: as a guest's, its frames end with one END and then SETTLED, and it sends no more body than was granted.
 */
import type { Dispatcher } from 'undici';
import { END, FrameType, parseHead } from '../../sdk/protocol/frame.ts';
import { HOP_BY_HOP } from '../../sdk/protocol/http.ts';
import type { HeaderList, InvocationFailure, RequestHead } from '../../sdk/protocol/invocation.ts';
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../sdk/protocol/limits.ts';

/** Saved up: one WINDOW frame for each half window. */
const GRANT_BYTES_MIN = STREAM_WINDOW_BYTES / 2;
/** undici answers `expect` itself; the others are between us and the program. */
const NOT_FORWARDED = new Set([...HOP_BY_HOP, 'expect']);
const BODILESS = new Set(['GET', 'HEAD']);

export interface HttpCallOptions {
  readonly dispatcher: Dispatcher;
  readonly emit: (type: number, payload?: Buffer) => void;
  readonly onSettled: () => void;
}

export class HttpCall {
  readonly #options: HttpCallOptions;
  readonly #body: Buffer[] = [];
  #isBodyEnded = false;
  #wakeBody: (() => void) | undefined;
  #credit = STREAM_WINDOW_BYTES;
  readonly #unsent: Buffer[] = [];
  #isResponseEnded = false;
  #hasBegun = false;
  #isSettled = false;
  #controller: Dispatcher.DispatchController | undefined;

  constructor(options: HttpCallOptions) {
    this.#options = options;
  }

  /** Something was answered. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Payload of REQUEST. Its head was made by our own gateway. */
  start(payload: Buffer, isEnd: boolean): void {
    const { head, body } = parseHead(payload) as { head: RequestHead; body: Buffer };
    this.push(body, isEnd);
    const url = new URL(head.url);
    const hasBody = !(isEnd && (body.length === 0 || BODILESS.has(head.method)));
    try {
      this.#options.dispatcher.dispatch(
        {
          method: head.method as Dispatcher.HttpMethod,
          path: url.pathname + url.search,
          headers: head.headers.filter(([name]) => !NOT_FORWARDED.has(name)).flat(),
          body: hasBody ? (isEnd ? Buffer.from(body) : (this.#read() as never)) : null,
        },
        this.#handler(),
      );
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  push(bytes: Buffer, isEnd: boolean): void {
    if (bytes.length > 0) this.#body.push(Buffer.from(bytes));
    this.#isBodyEnded ||= isEnd;
    this.#wakeBody?.();
  }

  grant(bytes: number): void {
    this.#credit += bytes;
    this.#flush();
  }

  cancel(reason: string): void {
    if (this.#isSettled) return;
    this.#answerError('handler_error', `cancelled: ${reason}`);
    this.#controller?.abort(new Error(reason));
    this.#isBodyEnded = true;
    this.#wakeBody?.();
  }

  async *#read(): AsyncGenerator<Buffer> {
    let taken = 0;
    for (;;) {
      const chunk = this.#body.shift();
      if (chunk) {
        yield chunk;
        taken += chunk.length;
        if (taken >= GRANT_BYTES_MIN && !this.#isBodyEnded && !this.#isSettled) {
          const payload = Buffer.alloc(4);
          payload.writeUInt32LE(taken);
          this.#options.emit(FrameType.WINDOW, payload);
          taken = 0;
        }
      } else if (this.#isBodyEnded) return;
      else await new Promise<void>((resolve) => (this.#wakeBody = resolve));
    }
  }

  #handler(): Dispatcher.DispatchHandler {
    return {
      onRequestStart: (controller) => {
        this.#controller = controller;
        if (this.#isSettled) controller.abort(new Error('cancelled'));
      },
      onResponseStart: (_controller, status, headers) => {
        if (status >= 200) this.#begin(status, headers);
      },
      onResponseData: (controller, chunk) => {
        this.#unsent.push(Buffer.from(chunk));
        this.#flush();
        if (this.#unsent.length > 0) controller.pause();
      },
      onResponseEnd: () => {
        this.#isResponseEnded = true;
        this.#flush();
      },
      onResponseError: (_controller, error) => this.#fail(error),
    };
  }

  #begin(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): void {
    const list: HeaderList = Object.entries(headers).flatMap(([name, value]) => {
      if (value === undefined || NOT_FORWARDED.has(name)) return [];
      return (Array.isArray(value) ? value : [value]).map((each) => [name, each] as const);
    });
    this.#hasBegun = true;
    const head = Buffer.from(JSON.stringify({ status, headers: list }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(head.length);
    if (!this.#isSettled) this.#options.emit(FrameType.RESPONSE, Buffer.concat([length, head]));
  }

  #flush(): void {
    if (this.#isSettled) return;
    while (this.#unsent.length > 0 && this.#credit > 0) {
      const chunk = this.#unsent[0] as Buffer;
      const bytes = Math.min(chunk.length, this.#credit, DATA_FRAME_BYTES_MAX);
      this.#credit -= bytes;
      this.#options.emit(FrameType.DATA, chunk.subarray(0, bytes));
      if (bytes === chunk.length) this.#unsent.shift();
      else this.#unsent[0] = chunk.subarray(bytes);
    }
    if (this.#unsent.length > 0) return;
    if (this.#isResponseEnded) this.#settle(FrameType.DATA);
    else if (this.#controller?.paused) this.#controller.resume();
  }

  #fail(error: Error): void {
    const code = (error as { code?: string }).code ?? '';
    const why = code === 'ECONNREFUSED' ? 'nobody listens on its port any more' : error.message;
    this.#answerError('handler_error', `the program in the container did not answer the request: ${why}`);
  }

  #answerError(cause: InvocationFailure['cause'], message: string): void {
    const failure: InvocationFailure = { cause, message, started: true };
    this.#settle(FrameType.ERROR, Buffer.from(JSON.stringify(failure)));
  }

  #settle(type: number, payload?: Buffer): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#options.emit(type | END, payload);
    this.#options.emit(FrameType.SETTLED);
    this.#options.onSettled();
  }
}
