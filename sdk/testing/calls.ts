/**
 * Calls that a function under test makes of others, by the runner's rules: only those that the test declares are
 * reached, each one deeper than its caller and not a moment longer; the rest is refused with the runner's words.
 */
import type { ErrorCode } from '../protocol/errors.ts';
import { encodeHead, END, type Frame, FrameType, parseHead } from '../protocol/frame.ts';
import { Header } from '../protocol/http.ts';
import type { CallFailure, CallHead } from '../protocol/invocation.ts';
import { CALL_DEPTH_MAX } from '../protocol/limits.ts';
import { createCredit, createPipe, type Credit, encodeNumber, type Pipe, sendBody } from './pipe.ts';

/** How an invocation came to be, and how long it may take. */
export interface Origin {
  readonly depth: number;
  readonly deadlineMs: number;
  readonly traceparent: string | undefined;
}

/** Answers a call. */
export type Callee = (request: Request, origin: Origin) => Promise<Response>;

export interface CallsOptions {
  readonly caller: string;
  /** Asked for each call, so that functions can be declared that call each other. */
  readonly findCallee: (name: string) => Callee | undefined;
  readonly names: () => readonly string[];
  /** Of the invocation of this stream; undefined when it has ended. */
  readonly originOf: (stream: number) => Origin | undefined;
  readonly send: (type: number, stream: number, payload?: Uint8Array) => void;
}

interface OpenCall {
  readonly body: Pipe;
  readonly credit: Credit;
  readonly controller: AbortController;
}

export class Calls {
  readonly #options: CallsOptions;
  readonly #calls = new Map<number, OpenCall>();

  constructor(options: CallsOptions) {
    this.#options = options;
  }

  onFrame(frame: Frame): void {
    if (frame.type === FrameType.CALL) return this.#open(frame);
    const call = this.#calls.get(frame.stream);
    if (!call) return;
    switch (frame.type) {
      case FrameType.CALL_DATA:
        if (frame.payload.length > 0) call.body.push(Uint8Array.from(frame.payload));
        if (frame.isEnd) call.body.end();
        return;
      case FrameType.CALL_WINDOW:
        return call.credit.grant(frame.payload.readUInt32LE(0));
      case FrameType.CALL_CANCEL:
        this.#calls.delete(frame.stream);
        call.credit.close();
        call.controller.abort(new DOMException('the caller left', 'AbortError'));
    }
  }

  #open({ stream, payload, isEnd }: Frame): void {
    const { caller, findCallee, names, originOf, send } = this.#options;
    const { head, body: first } = parseHead(payload);
    const { parent, target, method, path, headers } = head as CallHead;
    const callee = findCallee(target);
    if (!callee) {
      const known = names().join(', ') || 'none';
      const text = `function "${caller}" does not declare calls of "${target}" (it declares ${known}); add it to calls in its configuration`;
      return this.#refuse(stream, 'FORBIDDEN', text);
    }
    const origin = originOf(parent);
    if (!origin) return this.#refuse(stream, 'BAD_REQUEST', 'the invocation that makes the call has ended');
    const depth = origin.depth + 1;
    if (depth > CALL_DEPTH_MAX) {
      const text = `functions called each other ${depth} deep; the limit is ${CALL_DEPTH_MAX}`;
      return this.#refuse(stream, 'LOOP_DETECTED', text);
    }
    const body = createPipe(
      (bytes) => send(FrameType.CALL_WINDOW, stream, encodeNumber(bytes)),
      () => {},
    );
    const call = { body, credit: createCredit(), controller: new AbortController() };
    this.#calls.set(stream, call);
    if (first.length > 0) body.push(Uint8Array.from(first));
    if (isEnd) body.end();
    const hasBody = (!isEnd || first.length > 0) && method !== 'GET' && method !== 'HEAD';
    const request = new Request(`http://${target}.skiff${path}`, {
      method,
      headers: [...headers, [Header.callDepth, String(depth)], [Header.caller, caller]] as [string, string][],
      signal: call.controller.signal,
      ...(hasBody ? { body: body.stream, duplex: 'half' } : {}),
    });
    void this.#answer(stream, call, callee(request, { ...origin, depth }));
  }

  async #answer(stream: number, call: OpenCall, answer: Promise<Response>): Promise<void> {
    const { send } = this.#options;
    const isOpen = (): boolean => this.#calls.has(stream);
    try {
      const { status, headers, body } = await answer;
      if (!isOpen()) return;
      send(FrameType.CALL_RESPONSE, stream, encodeHead({ status, headers: [...headers] }));
      if (body)
        await sendBody(body, call.credit, (bytes, isEnd) => {
          if (isOpen()) send(isEnd ? FrameType.CALL_DATA | END : FrameType.CALL_DATA, stream, bytes);
        });
      else send(FrameType.CALL_DATA | END, stream);
      this.#calls.delete(stream);
    } catch (error) {
      if (!isOpen()) return;
      this.#calls.delete(stream);
      this.#refuse(stream, 'HANDLER_ERROR', `the call failed: ${(error as Error).message}`);
    }
  }

  #refuse(stream: number, code: ErrorCode, message: string): void {
    const failure: CallFailure = { code, message };
    this.#options.send(FrameType.CALL_ERROR | END, stream, Buffer.from(JSON.stringify(failure)));
  }
}
