/**
 * One invocation on a runner: relays frames between a gateway's link and a guest's stream, keeps the three clocks
 * (whole duration, time to first byte, idle between bytes), and ends exactly once with an answer or one failure cause.
 * Invariant: `onEnd` is called exactly once, when the slot is free again; after it no frame is sent for this invocation.
 * Bodies are never parsed here, only counted: a guest may not send more than it was granted.
 */
import type { Span } from '@opentelemetry/api';
import { END, FrameType, parseJson, type Frame } from '../../sdk/protocol/frame.ts';
import type { FailureCause } from '../../sdk/protocol/errors.ts';
import {
  encodeTiming,
  type InvocationFailure,
  type Route,
  type RunnerTiming,
} from '../../sdk/protocol/invocation.ts';
import { CANCEL_GRACE_MS, STREAM_WINDOW_BYTES } from '../../sdk/protocol/limits.ts';
import type { FrameConnection } from '../../infra/link/connection.ts';
import type { SandboxExit } from '../../infra/sandbox/contract.ts';
import type { Instance, Slot, StreamSink } from '../pool/instance.ts';
import { describeExit } from '../pool/guest-sandbox.ts';

export interface InvocationEnd {
  readonly cause?: FailureCause;
  readonly message?: string;
  readonly stack?: string;
}

export class Invocation implements StreamSink {
  readonly invocationId: string;
  readonly route: Route;
  readonly link: FrameConnection;
  readonly instance: Instance;
  readonly slot: Slot;
  readonly startedMs = performance.now();
  readonly span: Span | undefined;
  readonly #onEnd: (invocation: Invocation, end: InvocationEnd) => void;
  readonly #queueMs: number;
  readonly #coldMs: number;
  readonly #stream: number;
  #hasResponse = false;
  #isAnnounced = false;
  #isRequestDone: boolean;
  #isEnded = false;
  #guestCredit = STREAM_WINDOW_BYTES;
  /** Request body passed to the guest, and credit it gave for more: it can only have taken what it got. */
  #sentBytes = 0;
  #grantedBytes = 0;
  #lastByteMs = this.startedMs;
  /** Set once the guest was told to stop: when it must have answered, and with what we end then. */
  #cancelledMs = 0;
  #cancelEnd: InvocationEnd | undefined;

  constructor(options: {
    route: Route;
    link: FrameConnection;
    instance: Instance;
    slot: Slot;
    queueMs: number;
    coldMs: number;
    span: Span | undefined;
    onEnd: (invocation: Invocation, end: InvocationEnd) => void;
  }) {
    this.route = options.route;
    this.invocationId = options.route.id;
    this.link = options.link;
    this.instance = options.instance;
    this.slot = options.slot;
    this.span = options.span;
    this.#queueMs = options.queueMs;
    this.#coldMs = options.coldMs;
    this.#onEnd = options.onEnd;
    this.#isRequestDone = !options.route.more;
    this.#stream = this.instance.begin(this.slot, this);
  }

  /** `isFromQueue`: its gateway believes it to lie in the queue. */
  start(payload: Buffer, isFromQueue: boolean): void {
    this.#sentBytes += payload.length - 4 - payload.readUInt32LE(0);
    this.instance.guest.send(FrameType.REQUEST | (this.#isRequestDone ? END : 0), this.#stream, payload);
    // A leased call's gateway knows who has it. Others' are told with the next tick of the clock unless they have an answer
    // by then: each frame that wakes its reader makes a short call longer.
    if (this.route.more || isFromQueue) this.#announce();
    else if (this.route.token !== undefined) this.#isAnnounced = true;
  }

  /** "It has started": the gateway may send body, and knows which runner has it. */
  #announce(): void {
    this.#isAnnounced = true;
    this.link.send(FrameType.WINDOW, this.route.stream, NO_CREDIT);
  }

  get hasResponse(): boolean {
    return this.#hasResponse;
  }

  #timing(): RunnerTiming {
    return { queueMs: this.#queueMs, coldMs: this.#coldMs, execMs: performance.now() - this.startedMs };
  }

  /** From the gateway. */
  onLinkFrame(frame: Frame): void {
    switch (frame.type) {
      case FrameType.DATA:
        if (this.#isRequestDone) return;
        this.#isRequestDone = frame.isEnd;
        this.#sentBytes += frame.payload.length;
        this.instance.guest.send(FrameType.DATA | (frame.isEnd ? END : 0), this.#stream, frame.payload);
        return;
      case FrameType.WINDOW:
        this.#guestCredit += frame.payload.readUInt32LE(0);
        this.instance.guest.send(FrameType.WINDOW, this.#stream, frame.payload);
        return;
      case FrameType.CANCEL:
        this.cancel('the caller went away', {});
        return;
      default:
        return;
    }
  }

  /** From the guest. */
  onFrame(frame: Frame): void {
    switch (frame.type) {
      case FrameType.RESPONSE:
        this.#onResponse(frame);
        return;
      case FrameType.DATA:
        this.#onData(frame);
        return;
      case FrameType.WINDOW:
        if (frame.payload.length !== 4) return this.instance.guest.violate('WINDOW without a number');
        this.#grantedBytes += frame.payload.readUInt32LE(0);
        if (this.#grantedBytes > this.#sentBytes)
          return this.instance.guest.violate('credit for more than it was sent');
        if (!this.#isRequestDone) this.link.send(FrameType.WINDOW, this.route.stream, frame.payload);
        return;
      case FrameType.ERROR:
        this.#onError(frame);
        return;
      default:
        return;
    }
  }

  #onResponse(frame: Frame): void {
    if (this.#hasResponse) return this.instance.guest.violate('two RESPONSE frames for one request');
    if (frame.payload.length < 4) return this.instance.guest.violate('RESPONSE without a head');
    const bodyBytes = frame.payload.length - 4 - frame.payload.readUInt32LE(0);
    if (bodyBytes < 0) return this.instance.guest.violate('RESPONSE head is longer than its frame');
    this.#hasResponse = true;
    this.#lastByteMs = performance.now();
    this.#guestCredit -= bodyBytes;
    if (this.#guestCredit < 0) return this.instance.guest.violate('more body than was granted');
    // Its answer and our CANCEL crossed: nobody reads it, but the slot is free.
    if (this.#cancelEnd) return frame.isEnd ? this.#end(this.#cancelEnd) : undefined;
    this.link.send(
      FrameType.RESPONSE | (frame.isEnd ? END : 0),
      this.route.stream,
      frame.payload,
      encodeTiming(this.#timing()),
    );
    if (frame.isEnd) this.#end({});
  }

  #onData(frame: Frame): void {
    if (!this.#hasResponse) return this.instance.guest.violate('DATA before RESPONSE');
    this.#guestCredit -= frame.payload.length;
    if (this.#guestCredit < 0) return this.instance.guest.violate('more DATA than was granted');
    this.#lastByteMs = performance.now();
    if (this.#cancelEnd) return frame.isEnd ? this.#end(this.#cancelEnd) : undefined;
    this.link.send(FrameType.DATA | (frame.isEnd ? END : 0), this.route.stream, frame.payload);
    if (frame.isEnd) this.#end({});
  }

  #onError(frame: Frame): void {
    if (this.#cancelEnd) return this.#end(this.#cancelEnd);
    const failure = parseJson(frame.payload) as Partial<InvocationFailure> | null;
    this.fail({
      cause: 'handler_error',
      message: String(failure?.message ?? 'the function failed').slice(0, 4096),
      ...(typeof failure?.stack === 'string' ? { stack: failure.stack.slice(0, 16_384) } : {}),
    });
  }

  /** The sandbox ended under us. */
  onGone(exit: SandboxExit, violation: string | undefined): void {
    if (this.#cancelEnd) return this.#end(this.#cancelEnd, true);
    const { config, functionName } = this.instance.deployment;
    const heapDied = /heap out of memory|Reached heap limit/.test(this.instance.guest.stderrTail);
    if (exit.outOfMemory || heapDied) {
      const limit = `${Math.round(config.memory / 1024 ** 2)} MB`;
      this.fail(
        {
          cause: 'out_of_memory',
          message: `function "${functionName}" used more than its memory limit of ${limit}; raise --memory`,
        },
        true,
      );
    } else {
      const why = violation ? 'it broke the protocol with its runner' : describeExit(exit);
      this.fail(
        {
          cause: 'crash',
          message: `the process of function "${functionName}" ended while it handled the request (${why})`,
        },
        true,
      );
    }
  }

  /** Sends ERROR and ends. `isGone`: the slot died with its sandbox. */
  fail(end: InvocationEnd & { cause: FailureCause; message: string }, isGone = false): void {
    if (this.#isEnded) return;
    const failure: InvocationFailure = { cause: end.cause, message: end.message, started: true };
    this.link.send(
      FrameType.ERROR | END,
      this.route.stream,
      Buffer.from(JSON.stringify(failure)),
      encodeTiming(this.#timing()),
    );
    this.#end(end, isGone);
  }

  /** Tells the guest to stop. The slot is free when it answers, or its sandbox is killed after the grace time. */
  cancel(reason: string, end: InvocationEnd): void {
    if (this.#isEnded || this.#cancelEnd) return;
    this.#cancelEnd = end;
    this.#cancelledMs = performance.now();
    this.instance.channel.end(this.#stream);
    this.instance.guest.send(FrameType.CANCEL, this.#stream, Buffer.from(JSON.stringify({ reason })));
  }

  /** Looks at the clocks. Called often by the owner; `now` as performance.now(). */
  tick(now: number): void {
    if (this.#cancelEnd) {
      if (now - this.#cancelledMs > CANCEL_GRACE_MS) this.instance.guest.kill();
      return;
    }
    if (!this.#isAnnounced && !this.#hasResponse) this.#announce();
    const { config } = this.instance.deployment;
    if (now - this.startedMs >= config.timeout) {
      this.#timeOut(`took longer than its time-out of ${config.timeout} ms; raise --timeout`);
    } else if (
      !this.#hasResponse &&
      config.firstByteTimeout !== undefined &&
      now - this.startedMs >= config.firstByteTimeout
    ) {
      this.#timeOut(`sent no response head within its first-byte time-out of ${config.firstByteTimeout} ms`);
    } else if (
      this.#hasResponse &&
      config.idleTimeout !== undefined &&
      now - this.#lastByteMs >= config.idleTimeout
    ) {
      this.#timeOut(`sent nothing for its idle time-out of ${config.idleTimeout} ms`);
    }
  }

  #timeOut(what: string): void {
    const end = {
      cause: 'timeout',
      message: `function "${this.instance.deployment.functionName}" ${what}`,
    } as const;
    const failure: InvocationFailure = { ...end, started: true };
    // The caller is answered now; the slot is free only once the guest has stopped.
    this.link.send(
      FrameType.ERROR | END,
      this.route.stream,
      Buffer.from(JSON.stringify(failure)),
      encodeTiming(this.#timing()),
    );
    this.cancel('timeout', end);
    // Code that overran once may still be running behind its answered CANCEL: this sandbox takes no more work.
    this.instance.drain();
  }

  #end(end: InvocationEnd, isGone = false): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    if (!isGone) {
      if (!this.#isRequestDone && !this.#cancelEnd) {
        this.instance.guest.send(FrameType.CANCEL, this.#stream, Buffer.from('{"reason":"answered"}'));
      }
      this.instance.end(this.slot);
    }
    this.#onEnd(this, end);
  }
}

const NO_CREDIT = Buffer.alloc(4);
