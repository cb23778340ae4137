/**
 * One invocation of a function in this process: a Request into frames, a Response out of them, by the runner's rules:
 * windows both ways, the deadline, CANCEL when the caller leaves. Invariant: `answer` settles exactly once.
 */
import { createProblem, ERRORS, type ErrorCode, type FailureCause } from '../protocol/errors.ts';
import { encodeHead, END, type Frame, FrameType, parseHead, parseJson } from '../protocol/frame.ts';
import { Header, HOP_BY_HOP, PLATFORM_RESPONSE_HEADERS } from '../protocol/http.ts';
import type { InvocationFailure, RequestHead, ResponseHead } from '../protocol/invocation.ts';
import { createCredit, createPipe, encodeNumber, type Pipe, sendBody } from './pipe.ts';

export interface ExchangeOptions {
  readonly stream: number;
  readonly head: RequestHead;
  readonly body: ReadableStream<Uint8Array> | null;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly send: (type: number, stream: number, payload?: Uint8Array) => void;
}

const BODILESS: ReadonlySet<number> = new Set([101, 103, 204, 205, 304]);

const CODE_OF_CAUSE: Readonly<Partial<Record<FailureCause, ErrorCode>>> = {
  handler_error: 'HANDLER_ERROR',
  timeout: 'TIMEOUT',
};

export class Exchange {
  readonly answer: Promise<Response>;
  /** Handler, body and every waitUntil have ended. */
  readonly settled: Promise<void>;
  readonly #options: ExchangeOptions;
  readonly #answer = Promise.withResolvers<Response>();
  readonly #settled = Promise.withResolvers<void>();
  readonly #deadline: ReturnType<typeof setTimeout>;
  readonly #body: Pipe;
  readonly #credit = createCredit();
  readonly #onAbort = (): void => this.#leave();
  #isAnswered = false;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.answer = this.#answer.promise;
    this.settled = this.#settled.promise;
    const { stream, send } = options;
    this.#body = createPipe(
      (bytes) => send(FrameType.WINDOW, stream, encodeNumber(bytes)),
      () => this.#leave(),
    );
    this.#deadline = setTimeout(() => this.#cancel('timeout'), options.timeoutMs);
  }

  start(): void {
    const { stream, head, body, signal, send } = this.#options;
    signal?.addEventListener('abort', this.#onAbort);
    send(body ? FrameType.REQUEST : FrameType.REQUEST | END, stream, encodeHead(head));
    if (!body) return;
    sendBody(body, this.#credit, (bytes, isEnd) =>
      send(isEnd ? FrameType.DATA | END : FrameType.DATA, stream, bytes),
    ).catch(() => this.#cancel('the request was cut'));
  }

  onFrame(frame: Frame): void {
    switch (frame.type) {
      case FrameType.WINDOW:
        return this.#credit.grant(frame.payload.readUInt32LE(0));
      case FrameType.RESPONSE: {
        const { head, body } = parseHead(frame.payload);
        this.#respond(head as ResponseHead);
        return this.#push(body, frame.isEnd);
      }
      case FrameType.DATA:
        return this.#push(frame.payload, frame.isEnd);
      case FrameType.ERROR:
        return this.#fail(parseJson(frame.payload) as InvocationFailure);
      case FrameType.SETTLED:
        this.#end();
        this.#settled.resolve();
    }
  }

  #respond({ status, headers }: ResponseHead): void {
    const { head } = this.#options;
    const kept = headers.filter(([name]) => !HOP_BY_HOP.has(name) && !PLATFORM_RESPONSE_HEADERS.has(name));
    const isBodiless = BODILESS.has(status) || head.method === 'HEAD';
    const response = new Response(isBodiless ? null : this.#body.stream, {
      status,
      headers: [...kept, [Header.invocationId, head.id]] as [string, string][],
    });
    this.#isAnswered = true;
    this.#answer.resolve(response);
  }

  #push(bytes: Uint8Array, isEnd: boolean): void {
    if (bytes.length > 0) this.#body.push(Uint8Array.from(bytes));
    if (!isEnd) return;
    this.#end();
    this.#body.end();
  }

  #fail({ cause, message }: InvocationFailure): void {
    this.#end();
    const { head, timeoutMs } = this.#options;
    const code = CODE_OF_CAUSE[cause] ?? 'INTERNAL';
    if (this.#isAnswered) return this.#body.fail(new TypeError(`the answer was cut: ${message}`));
    this.#isAnswered = true;
    const detail =
      cause === 'timeout' ? `the function took longer than its time-out of ${timeoutMs} ms` : message;
    this.#answer.resolve(
      new Response(JSON.stringify(createProblem(code, detail, { invocationId: head.id })), {
        status: ERRORS[code].status,
        headers: {
          'content-type': 'application/problem+json',
          [Header.cause]: cause,
          [Header.invocationId]: head.id,
        },
      }),
    );
  }

  #leave(): void {
    const reason =
      (this.#options.signal?.reason as Error | undefined) ?? new DOMException('left', 'AbortError');
    this.#answer.reject(reason);
    this.#body.fail(reason);
    this.#cancel('client disconnected');
  }

  #cancel(reason: string): void {
    this.#options.send(FrameType.CANCEL, this.#options.stream, Buffer.from(JSON.stringify({ reason })));
  }

  #end(): void {
    clearTimeout(this.#deadline);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#credit.close();
  }
}
