/**
 * One invocation at the gateway, from its dispatch to its answer.
 * Invariant: it runs at most once. It is dispatched again only while that provably did not start it (refused by the
 * runner, or still lying in a dead runner's inbox); when nobody can know, the caller gets OUTCOME_UNKNOWN.
 * States only move forward: sending -> queued | sent -> started -> answering -> done.
 */
import type { Span } from '@opentelemetry/api';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { ERRORS, type FailureCause } from '../../sdk/protocol/errors.ts';
import { END, FrameType, parseJson, splitHead, type Frame } from '../../sdk/protocol/frame.ts';
import {
  parseTiming,
  TIMING_BYTES,
  type InvocationFailure,
  type RunnerTiming,
} from '../../sdk/protocol/invocation.ts';
import { HEAD_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../sdk/protocol/limits.ts';
import type { CallRequest, CallResponse } from './caller.ts';
import { failureOfCause, tryBuildHeaders, writeFailure, type FailureInfo } from './answer/answer.ts';
import type { AnswerHeads } from './answer/answer-heads.ts';
import { RequestBody } from './request-body.ts';

export interface CallOwner {
  readonly heads: AnswerHeads;
  /** Sends a frame to the runner that has this call; false when there is no link. */
  send(call: Call, type: number, payload?: Buffer): boolean;
  /** Sends the call out again. */
  redispatch(call: Call): void;
  /** Takes a call that nobody needs any more out of the queue. */
  withdraw(call: Call): void;
  onDone(call: Call, cause: FailureCause | undefined): void;
}

/** Up to this a copy is cheaper than a second buffer in the system call. */
const STRING_BYTES_MAX = 8 * 1024;

export class Call {
  readonly id: string;
  readonly stream: number;
  readonly deployment: Deployment;
  readonly receivedMs: number;
  readonly startByMs: number;
  readonly request: CallRequest;
  readonly response: CallResponse;
  readonly body: RequestBody | undefined;
  readonly span: Span | undefined;
  state: 'sending' | 'queued' | 'sent' | 'started' | 'answering' | 'done' = 'sending';
  /** REQUEST payload: its head, and the body as far as it is at hand. */
  payload: { readonly head: string; readonly body: Buffer } | undefined;
  /** What was sent into the queue, to find it there again. Leased calls have none. */
  envelope: Buffer | undefined;
  /** Slot and runner, as far as known. */
  token: string | undefined;
  runner: string | undefined;
  /** Set for calls that may not last as long as their function might. */
  deadlineMs = Infinity;
  depth = 0;
  /** Its steps are stored. */
  isDurable = false;
  /** Invocation that makes it, of calls between functions. */
  parent: string | undefined;
  isLeased = false;
  wasRefused = false;
  dispatches = 0;
  /** When its envelope was put into a runner's inbox; 0: it was not, or its runner was asked for it. */
  sentMs = 0;
  /** When it was put into the queue. */
  queuedMs = 0;
  /** For which somebody took it out of the queue, if nothing was heard of it since. */
  givenToken: string | undefined;
  timing: RunnerTiming | undefined;
  failure: Pick<FailureInfo, 'code' | 'detail'> | undefined;
  readonly #owner: CallOwner;
  #owedCredit = 0;
  #isStalled = false;

  constructor(options: {
    id: string;
    stream: number;
    deployment: Deployment;
    receivedMs: number;
    startByMs: number;
    request: CallRequest;
    response: CallResponse;
    isStreaming: boolean;
    span: Span | undefined;
    owner: CallOwner;
  }) {
    this.id = options.id;
    this.stream = options.stream;
    this.deployment = options.deployment;
    this.receivedMs = options.receivedMs;
    this.startByMs = options.startByMs;
    this.request = options.request;
    this.response = options.response;
    this.span = options.span;
    this.#owner = options.owner;
    if (options.isStreaming) {
      this.body = new RequestBody(options.request, options.deployment.config.maxBody, {
        send: (chunk, isEnd) => this.#owner.send(this, FrameType.DATA | (isEnd ? END : 0), chunk),
        onTooLarge: (bytesMax) =>
          this.fail({
            code: 'BODY_TOO_LARGE',
            detail: `the body is larger than ${bytesMax} bytes; raise the function's maxBody`,
          }),
      });
    }
    this.response.on('close', () => {
      if (this.state !== 'done') this.#abandon();
    });
  }

  get isDone(): boolean {
    return this.state === 'done';
  }

  /** From the runner's link. */
  onFrame(frame: Frame): void {
    if (this.state === 'done') return;
    switch (frame.type) {
      case FrameType.WINDOW:
        this.#onStarted();
        this.body?.grant(frame.payload.readUInt32LE(0));
        return;
      case FrameType.RESPONSE:
        this.#onResponse(frame);
        return;
      case FrameType.DATA:
        this.#onData(frame);
        return;
      case FrameType.ERROR:
        this.#onError(frame);
        return;
      case FrameType.REFUSED:
        // It may come before Redis's reply to the dispatch; then the owner looks when that is here.
        if (this.state === 'sending') this.wasRefused = true;
        else if (this.state === 'sent' || this.state === 'queued') this.#owner.redispatch(this);
        return;
      default:
        return;
    }
  }

  #onStarted(): void {
    if (this.state === 'answering') return;
    this.state = 'started';
    this.body?.start(STREAM_WINDOW_BYTES);
  }

  #onResponse(frame: Frame): void {
    if (this.state === 'answering') return;
    this.timing = parseTiming(frame.payload);
    let parsed: { text: string; body: Buffer };
    try {
      parsed = splitHead(frame.payload, TIMING_BYTES);
    } catch {
      return this.#failInvalid();
    }
    const headBytes = frame.payload.length - TIMING_BYTES - 4 - parsed.body.length;
    if (headBytes > HEAD_BYTES_MAX) return this.#failInvalid();
    const head = this.#owner.heads.tryRead(this.deployment.id, parsed.text);
    const isBodiless = this.request.method === 'HEAD' || head?.status === 204 || head?.status === 304;
    const headers =
      head &&
      tryBuildHeaders(head, {
        id: this.id,
        deployment: this.deployment.id,
        timing: this.timing,
        contentLength: frame.isEnd && !isBodiless ? parsed.body.length : undefined,
      });
    if (!head || !headers) return this.#failInvalid();
    try {
      this.response.strictContentLength = !isBodiless;
      this.response.writeHead(head.status, headers);
    } catch {
      return this.#failInvalid();
    }
    this.state = 'answering';
    if (frame.isEnd) return this.#finish(isBodiless ? undefined : parsed.body);
    this.response.flushHeaders();
    if (parsed.body.length > 0) this.#write(parsed.body);
  }

  #onData(frame: Frame): void {
    if (this.state !== 'answering') return;
    if (frame.payload.length > 0) this.#write(frame.payload);
    if (frame.isEnd && !this.isDone) this.#finish(undefined);
  }

  #write(chunk: Buffer): void {
    try {
      this.#owedCredit += chunk.length;
      if (this.response.write(chunk)) this.#payCredit();
      else if (!this.#isStalled) {
        this.#isStalled = true;
        this.response.once('drain', () => {
          this.#isStalled = false;
          this.#payCredit();
        });
      }
    } catch {
      // More bytes than the content-length the function announced: the client must not take them for a next answer.
      this.fail({ code: 'HANDLER_ERROR', detail: 'the body is longer than its content-length' });
    }
  }

  /** The client took the bytes: the function may send as many again. */
  #payCredit(): void {
    if (this.#owedCredit < STREAM_WINDOW_BYTES / 2 || this.state !== 'answering') return;
    const credit = Buffer.allocUnsafe(4);
    credit.writeUInt32LE(this.#owedCredit, 0);
    this.#owedCredit = 0;
    this.#owner.send(this, FrameType.WINDOW, credit);
  }

  #finish(body: Buffer | undefined): void {
    // First: an answer that is not HTTP's closes while it is being ended, which must not count as the caller leaving.
    this.state = 'done';
    try {
      // A string goes out with the head in one write; a buffer would cost a second one.
      if (body !== undefined && body.length <= STRING_BYTES_MAX)
        this.response.end(body.toString('latin1'), 'latin1');
      else this.response.end(body);
    } catch {
      this.response.destroy();
    }
    this.#done(undefined);
  }

  #failInvalid(): void {
    this.#owner.send(this, FrameType.CANCEL, Buffer.from('{"reason":"invalid response"}'));
    this.fail({ code: 'HANDLER_ERROR', detail: 'The function sent a response head that is not valid HTTP.' });
  }

  #onError(frame: Frame): void {
    this.timing = parseTiming(frame.payload);
    const failure = parseJson(frame.payload.subarray(TIMING_BYTES)) as InvocationFailure;
    const outcome = failure.cause === 'timeout' ? 'timeout' : failure.started ? 'failed' : 'not_started';
    this.fail({ ...failureOfCause(failure.cause, failure.message), outcome }, failure.cause);
  }

  /** Answers with a problem. Whoever still works on it is told to stop by the owner of the reason, not here. */
  fail(info: Omit<FailureInfo, 'invocationId' | 'deployment' | 'timing'>, cause?: FailureCause): void {
    if (this.state === 'done') return;
    const mustCancel =
      info.code === 'BODY_TOO_LARGE' && (this.state === 'started' || this.state === 'answering');
    if (mustCancel) this.#owner.send(this, FrameType.CANCEL, Buffer.from('{"reason":"body too large"}'));
    this.state = 'done';
    writeFailure(this.response, {
      ...info,
      invocationId: this.id,
      deployment: this.deployment.id,
      timing: this.timing,
    });
    this.failure = info;
    const row = ERRORS[info.code];
    this.#done(cause ?? ('cause' in row ? row.cause : 'platform'));
  }

  /** The client went away. */
  #abandon(): void {
    if (this.state === 'queued') this.#owner.withdraw(this);
    this.#owner.send(this, FrameType.CANCEL, Buffer.from('{"reason":"client disconnected"}'));
    this.#done(undefined);
  }

  #done(cause: FailureCause | undefined): void {
    this.state = 'done';
    this.body?.stop();
    this.#owner.onDone(this, cause);
  }
}
