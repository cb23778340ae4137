/**
 * One invocation in the guest: request frames in, the handler's answer out. States move forward only:
 * running -> answered (RESPONSE with END, or ERROR) -> settled (handler, body and every waitUntil have ended).
 * Invariant: exactly one END leaves for each REQUEST, and SETTLED is the stream's last frame.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { FrameType } from '../../protocol/frame.ts';
import type { FailureCause } from '../../protocol/errors.ts';
import type { GuestLog, InvocationFailure, RequestHead, ResponseHead } from '../../protocol/invocation.ts';
import { STREAM_WINDOW_BYTES } from '../../protocol/limits.ts';
import { SUSPENDED_HEADER, SUSPENDED_STATUS } from '../../protocol/workflow/steps.ts';
import { BodySource } from './body-source.ts';
import { type ContextSource, type FunctionIdentity, InvocationContext } from '../context.ts';
import type { FrameWriter } from './frame-writer.ts';
import type { LogFields } from '../report/log-record.ts';
import type { CallInit, OutgoingCalls } from './outgoing.ts';
import { ResponseWriter } from './response-writer.ts';
import { describeError } from '../report/stack-traces.ts';
import { Steps } from '../steps/steps.ts';
import { LightRequest } from '../web/light-request.ts';

/** The invocation in whose course something runs; how console lines find their stream. */
export const currentInvocation = new AsyncLocalStorage<Invocation>();

/** A handler, whatever shape the module gave it. */
export type Handler = (request: Request, context: InvocationContext) => unknown;

/** What an invocation needs of the process around it. */
export interface InvocationHost {
  readonly writer: FrameWriter;
  readonly identity: FunctionIdentity;
  readonly handler: Handler;
  readonly calls: Pick<OutgoingCalls, 'open' | 'endOf'>;
  log(stream: number, level: GuestLog['level'], message: string, fields?: LogFields): void;
  /** The stream is over; its number may be used again. */
  settled(stream: number): void;
}

const COPY_BYTES_MAX = 16 * 1024;

export class Invocation implements ContextSource {
  readonly stream: number;
  readonly head: RequestHead;
  readonly #host: InvocationHost;
  readonly #source: BodySource | undefined;
  #response: ResponseWriter | undefined;
  #controller: AbortController | undefined;
  #abortReason: Error | undefined;
  #isAnswered = false;
  #isSuspended = false;
  #steps: Steps | undefined;
  /** The handler, the response's body, and each waitUntil. */
  #pending = 1;
  /** Bytes granted by the other side before a response writer existed to count them. */
  #credit = STREAM_WINDOW_BYTES;

  constructor(host: InvocationHost, stream: number, head: RequestHead, firstBytes: Buffer, isEnd: boolean) {
    this.#host = host;
    this.stream = stream;
    this.head = head;
    if (isEnd && firstBytes.length === 0) return;
    this.#source = new BodySource((bytes) => this.#grant(bytes));
    this.pushBody(firstBytes, isEnd);
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#abortReason) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  start(): void {
    currentInvocation.run(this, Invocation.#run, this);
  }

  static #run(self: Invocation): void {
    const { handler, identity } = self.#host;
    // No getter in this literal: V8 would make a new hidden class, and garbage that only full collections find, of it.
    const request = new LightRequest({ head: self.head, body: self.#source, owner: self });
    try {
      const result = handler(request as unknown as Request, new InvocationContext(self, identity));
      if (isThenable(result)) result.then(self.#respond, self.#failHandler);
      else self.#respond(result);
    } catch (error) {
      self.#failHandler(error);
    }
  }

  readonly #respond = (result: unknown): void => {
    if (this.#isSuspended) return;
    const writer = new ResponseWriter(
      this.#host.writer,
      this.stream,
      this.head.method === 'HEAD',
      this.#credit,
    );
    this.#response = writer;
    if (this.#isAnswered) {
      // Cancelled while the handler was still busy: only end what it made.
      writer.cancel(this.#abortReason ?? new Error('cancelled'));
      writer.discard(result);
      this.#release();
      return;
    }
    let body: Promise<void> | undefined;
    try {
      body = writer.write(result);
    } catch (error) {
      this.#failHandler(error);
      return;
    }
    if (body === undefined) {
      this.#isAnswered = true;
      this.#release();
      return;
    }
    body.then(
      () => {
        this.#isAnswered = true;
        this.#release();
      },
      (error: unknown) => this.#failHandler(error),
    );
  };

  readonly #failHandler = (error: unknown): void => {
    if (this.#isSuspended) return;
    const { message, stack } = describeError(error);
    this.#answerError('handler_error', message, stack);
    this.#response?.cancel(error as Error);
    this.#release();
  };

  #answerError(cause: FailureCause, message: string, stack?: string): void {
    if (this.#isAnswered) return;
    this.#isAnswered = true;
    const failure: InvocationFailure = {
      cause,
      message,
      started: true,
      ...(stack === undefined ? {} : { stack }),
    };
    this.#host.writer.text(FrameType.ERROR, this.stream, true, JSON.stringify(failure));
  }

  /** `bytes` may be kept: the socket allocates every read anew. */
  pushBody(bytes: Buffer, isEnd: boolean): void {
    if (!this.#source) return;
    // A small piece would keep the whole read alive, so it moves.
    if (bytes.length > 0) this.#source.push(bytes.length < COPY_BYTES_MAX ? Buffer.from(bytes) : bytes);
    if (isEnd) this.#source.end();
  }

  grantCredit(bytes: number): void {
    if (this.#response) this.#response.grant(bytes);
    else this.#credit += bytes;
  }

  /** The other side gave up. Answers at once; the handler is told by its signal and may take its time to settle. */
  cancel(reason: string): void {
    // The function's abort listeners run in here: what they log is this invocation's.
    currentInvocation.run(this, () => this.#cancel(reason));
  }

  #cancel(reason: string): void {
    this.#abortReason ??= new DOMException(`the invocation was cancelled: ${reason}`, 'AbortError');
    this.#source?.fail(this.#abortReason);
    this.#controller?.abort(this.#abortReason);
    this.#response?.cancel(this.#abortReason);
    this.#answerError(reason === 'timeout' ? 'timeout' : 'platform', `cancelled: ${reason}`);
  }

  log(level: GuestLog['level'], message: string, fields?: LogFields): void {
    this.#host.log(this.stream, level, message, fields);
  }

  /** @throws TypeError when the invocation has ended */
  call(target: string, init: CallInit): Promise<Response> {
    if (this.#pending === 0) throw new TypeError('the invocation has ended; it can make no calls any more');
    return this.#host.calls.open(this.stream, target, init);
  }

  get steps(): Steps | undefined {
    if (this.head.isDurable) this.#steps ??= new Steps(this);
    return this.#steps;
  }

  /** Answers that it sleeps or waits. The handler never goes on: another attempt does. */
  suspend(): void {
    if (this.#isAnswered || this.#pending === 0) return;
    this.#isAnswered = true;
    this.#isSuspended = true;
    const head = { status: SUSPENDED_STATUS, headers: [[SUSPENDED_HEADER, '1']] } satisfies ResponseHead;
    this.#host.writer.head(FrameType.RESPONSE, this.stream, true, JSON.stringify(head), undefined);
    this.#release();
  }

  waitUntil(promise: Promise<unknown>): void {
    if (this.#pending === 0) throw new Error('waitUntil() was called after the invocation had ended');
    this.#pending++;
    Promise.resolve(promise).then(
      () => this.#release(),
      (error: unknown) => {
        const { message, stack } = describeError(error);
        this.log('error', `a promise given to waitUntil() failed: ${stack ?? message}`);
        this.#release();
      },
    );
  }

  #release(): void {
    this.#pending--;
    if (this.#pending > 0) return;
    this.#source?.discard();
    this.#host.calls.endOf(this.stream);
    this.#host.writer.empty(FrameType.SETTLED, this.stream, false);
    this.#host.settled(this.stream);
  }

  #grant(bytes: number): void {
    if (!this.#isAnswered) this.#host.writer.number(FrameType.WINDOW, this.stream, bytes);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function'
  );
}
