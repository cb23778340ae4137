/**
 * Calls that a sandbox's function makes to others. The runner says who calls, how deep, until when and for which trace,
 * and hands the call to the gateway that waits for the calling invocation; bodies are relayed without being looked at.
 *
 * Invariant: only functions that the deployment's configuration declares can be reached; a call ends at the latest with
 * the invocation that made it; and a guest can neither send more than it was granted nor name a call that it did not open.
 * Deliberately absent: choosing a deployment and running it (the gateway's), and any network.
 */
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { ErrorCode } from '../../sdk/protocol/errors.ts';
import { encodeHead, END, type Frame, FrameType, parseHead } from '../../sdk/protocol/frame.ts';
import type { CallFailure, CallHead, RoutedCall } from '../../sdk/protocol/invocation.ts';
import { CALLS_PER_SANDBOX_MAX, STREAM_WINDOW_BYTES } from '../../sdk/protocol/limits.ts';
import { parseCallTarget } from '../../sdk/protocol/manifest.ts';
import { StreamTable } from '../../sdk/protocol/stream-table.ts';
import { STEPS_TARGET } from '../../sdk/protocol/workflow/steps.ts';
import type { CallLine } from './call-line.ts';
import { mayReach, resolveName } from '../../sdk/protocol/reach/namespaces.ts';
import { tryReadCallHead } from './call-head.ts';

/** The invocation that makes calls. */
export interface CallOrigin {
  /** To the gateway that waits for it. */
  readonly line: CallLine;
  readonly invocation: string;
  readonly depth: number;
  readonly deadlineMs: number;
  /** How far the gateway's clock is behind ours. */
  readonly skewMs?: number;
  readonly traceparent: string | undefined;
  /** It may ask for its steps, whatever it declares. */
  readonly isDurable?: boolean;
}

/** What the channel needs of the guest. */
export interface ChannelGuest {
  send(type: number, stream: number, payload?: Buffer): void;
  chatter(frame: Frame): void;
  violate(what: string): void;
}

interface OpenCall {
  readonly parent: number;
  readonly line: CallLine;
  /** Its number on the line. */
  readonly remote: number;
  /** What the guest may still send. */
  credit: number;
  isSent: boolean;
}

export class Channel {
  readonly #deployment: Deployment;
  readonly #guest: ChannelGuest;
  readonly #targets: ReadonlyMap<string, string>;
  readonly #origins = new StreamTable<CallOrigin>();
  readonly #calls = new Map<number, OpenCall>();

  constructor(deployment: Deployment, guest: ChannelGuest) {
    this.#deployment = deployment;
    this.#guest = guest;
    const targets = new Map(
      deployment.config.calls.map((text) => {
        const { alias, name } = parseCallTarget(text);
        return [alias, resolveName(name, deployment.functionName)] as const;
      }),
    );
    // Refused at deploy as well; a deployment that says otherwise reaches nothing by it.
    const own = [...targets].filter(([, target]) => mayReach(deployment.functionName, target));
    this.#targets = new Map(own);
  }

  /** Nothing needs to be kept of invocations that can make no calls. */
  mayCall(isDurable: boolean): boolean {
    return isDurable || this.#targets.size > 0;
  }

  begin(stream: number, origin: CallOrigin): void {
    this.#origins.set(stream, origin);
  }

  /** The invocation is over, or is to stop: nobody waits for its calls any more. */
  end(stream: number): void {
    this.#origins.delete(stream);
    if (this.#calls.size === 0) return;
    for (const [number, call] of this.#calls) {
      if (call.parent !== stream) continue;
      this.#drop(number, call);
      // Who waits for it must not wait for ever.
      this.#refuse(number, 'TIMEOUT', 'the invocation that made the call was ended');
    }
  }

  /** The sandbox is gone. */
  close(): void {
    this.#origins.clear();
    for (const [number, call] of this.#calls) this.#drop(number, call);
  }

  /** CALL, CALL_DATA, CALL_WINDOW and CALL_CANCEL. */
  onGuestFrame(frame: Frame): void {
    if (frame.type === FrameType.CALL) return this.#open(frame);
    const call = this.#calls.get(frame.stream);
    // It may have been answered while this was under way.
    if (!call) return this.#guest.chatter(frame);
    switch (frame.type) {
      case FrameType.CALL_DATA:
        return this.#onData(frame, call);
      case FrameType.CALL_WINDOW:
        if (frame.payload.length !== 4) return this.#guest.violate('CALL_WINDOW without a number');
        return call.line.send(FrameType.CALL_WINDOW, call.remote, frame.payload);
      default:
        this.#drop(frame.stream, call);
    }
  }

  #open(frame: Frame): void {
    const { stream } = frame;
    if (this.#calls.has(stream)) return this.#guest.violate(`call ${stream} is in use`);
    const parsed = parseHead(frame.payload);
    const head = tryReadCallHead(parsed.head);
    if (!head) return this.#guest.violate('a CALL whose head is none');
    if (parsed.body.length > STREAM_WINDOW_BYTES)
      return this.#guest.violate('more call body than was granted');
    const origin = this.#origins.get(head.parent);
    const isOfSteps = head.target === STEPS_TARGET && origin?.isDurable === true;
    const functionName = isOfSteps ? STEPS_TARGET : this.#targets.get(head.target);
    if (functionName === undefined) {
      this.#guest.chatter(frame);
      return this.#refuse(stream, 'FORBIDDEN', this.#describeUndeclared(head.target));
    }
    if (!origin) return this.#refuse(stream, 'BAD_REQUEST', 'the invocation that makes the call has ended');
    if (this.#calls.size >= CALLS_PER_SANDBOX_MAX) {
      const text = `${this.#calls.size} calls are open in this sandbox, which is the limit; await some of them first`;
      return this.#refuse(stream, 'THROTTLED', text);
    }
    if (Date.now() >= origin.deadlineMs)
      return this.#refuse(stream, 'TIMEOUT', 'the time of the invocation that makes the call is over');
    const remote = origin.line.open({
      onFrame: (answer) => this.#onAnswer(stream, answer),
      onGone: () =>
        this.#fail(stream, 'UNAVAILABLE', 'the gateway was lost; whether the call ran is unknown'),
    });
    this.#calls.set(stream, {
      parent: head.parent,
      line: origin.line,
      remote,
      credit: STREAM_WINDOW_BYTES - parsed.body.length,
      isSent: frame.isEnd,
    });
    const routed = this.#route(head, functionName, origin);
    origin.line.send(FrameType.CALL | (frame.isEnd ? END : 0), remote, encodeHead(routed, parsed.body));
  }

  #route({ method, path, headers }: CallHead, functionName: string, origin: CallOrigin): RoutedCall {
    return {
      functionName,
      method,
      path,
      headers,
      caller: this.#deployment.functionName,
      invocation: origin.invocation,
      depth: origin.depth + 1,
      deadlineMs: origin.deadlineMs - (origin.skewMs ?? 0),
      ...(origin.traceparent === undefined ? {} : { traceparent: origin.traceparent }),
    };
  }

  #describeUndeclared(target: string): string {
    const known = [...this.#targets.keys()];
    const list = known.length === 0 ? 'it declares none' : `it declares ${known.join(', ')}`;
    const { functionName } = this.#deployment;
    return `function "${functionName}" does not declare calls of "${target.slice(0, 100)}" (${list}); add it to calls in its configuration`;
  }

  #onData(frame: Frame, call: OpenCall): void {
    if (call.isSent) return this.#guest.violate('more body after the end of a call');
    call.credit -= frame.payload.length;
    if (call.credit < 0) return this.#guest.violate('more call body than was granted');
    call.isSent = frame.isEnd;
    call.line.send(FrameType.CALL_DATA | (frame.isEnd ? END : 0), call.remote, frame.payload);
  }

  /** From the gateway. */
  #onAnswer(stream: number, frame: Frame): void {
    const call = this.#calls.get(stream);
    if (!call) return;
    if (frame.type === FrameType.CALL_WINDOW) call.credit += frame.payload.readUInt32LE(0);
    this.#guest.send(frame.type | (frame.isEnd ? END : 0), stream, frame.payload);
    if (!frame.isEnd) return;
    this.#calls.delete(stream);
    call.line.close(call.remote);
  }

  #fail(stream: number, code: ErrorCode, message: string): void {
    if (this.#calls.delete(stream)) this.#refuse(stream, code, message);
  }

  #refuse(stream: number, code: ErrorCode, message: string): void {
    const failure: CallFailure = { code, message };
    this.#guest.send(FrameType.CALL_ERROR | END, stream, Buffer.from(JSON.stringify(failure)));
  }

  #drop(stream: number, call: OpenCall): void {
    this.#calls.delete(stream);
    call.line.send(FrameType.CALL_CANCEL | END, call.remote);
    call.line.close(call.remote);
  }
}
