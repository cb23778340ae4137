/**
 * Where calls of functions by functions come in: over the links on which their invocations went out. Each becomes an
 * ordinary call of the invoker, with the caller's trace, one deeper, and not a moment longer than its caller has.
 *
 * Invariant: a runner is believed who calls and that it is declared, so that private functions can be called like this;
 * what a call's function answers goes back as it is, also when it is a failure. A call ends with its link.
 */
import type { Readable } from 'node:stream';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError, toSkiffError } from '../../sdk/protocol/errors.ts';
import { type Frame, FrameType, parseHead } from '../../sdk/protocol/frame.ts';
import { Header } from '../../sdk/protocol/http.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { HeaderList, RoutedCall } from '../../sdk/protocol/invocation.ts';
import { StreamTable } from '../../sdk/protocol/stream-table.ts';
import { CALL_DEPTH_MAX, DATA_FRAME_BYTES_MAX, STEP_COMMAND_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { STEPS_TARGET } from '../../sdk/protocol/workflow/steps.ts';
import { mayReach } from '../../sdk/protocol/reach/namespaces.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Call } from '../invoke/call.ts';
import type { PlatformCall } from '../invoke/caller.ts';
import { chooseTarget, type Routes } from '../invoke/routes.ts';
import { CallAnswer, createCallBody, createCallRequest, type SendFrame } from './call-ends.ts';

export interface EntranceOptions {
  readonly routes: Pick<Routes, 'get'>;
  readonly run: (call: PlatformCall) => Call;
  /** Sends a frame to a runner. */
  readonly send: (runner: string, type: number, stream: number, payload?: Buffer) => void;
  /** Answers what an invocation asks about its durable steps, as JSON. Absent where none are run. */
  readonly steps?: (invocation: string, body: Buffer, traceparent?: string) => Promise<unknown>;
  readonly log: Log;
}

interface OpenCall {
  readonly answer: CallAnswer;
  readonly body: Readable;
}

/** The calling invocation's own runner ends it, and its calls, on time; this is for calls of work after its answer. */
const GRACE_MS = 250;

export class ChannelEntrance {
  readonly #options: EntranceOptions;
  /** By runner. */
  readonly #calls = new Map<string, StreamTable<OpenCall>>();

  constructor(options: EntranceOptions) {
    this.#options = options;
  }

  /** A frame of a call, from a runner's link. */
  onFrame(runner: string, frame: Frame): void {
    if (frame.type === FrameType.CALL) return this.#open(runner, frame);
    const call = this.#calls.get(runner)?.get(frame.stream);
    if (!call) return;
    switch (frame.type) {
      case FrameType.CALL_DATA:
        if (frame.payload.length > 0) call.body.push(Buffer.from(frame.payload));
        if (!frame.isEnd) return;
        call.answer.req.complete = true;
        call.body.push(null);
        return;
      case FrameType.CALL_WINDOW:
        return call.answer.grant(frame);
      case FrameType.CALL_CANCEL:
        return call.answer.abandon();
    }
  }

  onRunnerGone(runner: string): void {
    const calls = this.#calls.get(runner);
    this.#calls.delete(runner);
    for (const { answer } of calls?.values() ?? []) answer.abandon();
  }

  #open(runner: string, frame: Frame): void {
    const { stream, isEnd } = frame;
    const { head, body: first } = parseHead(frame.payload);
    const routed = head as RoutedCall;
    const send: SendFrame = (type, payload) => this.#options.send(runner, type, stream, payload);
    const answer = new CallAnswer(send, isEnd);
    const body = createCallBody(isEnd ? Buffer.alloc(0) : first, send);
    const late = setTimeout(
      () =>
        answer.fail({ code: 'TIMEOUT', message: 'the time of the invocation that made the call is over' }),
      Math.max(0, routed.deadlineMs - Date.now()) + GRACE_MS,
    );
    const calls = this.#calls.get(runner) ?? new StreamTable<OpenCall>();
    this.#calls.set(runner, calls);
    calls.set(stream, { answer, body });
    answer.on('close', () => {
      clearTimeout(late);
      calls.delete(stream);
      body.destroy();
    });
    void this.#run(routed, isEnd ? Buffer.from(first) : undefined, body, answer);
  }

  async #run(
    routed: RoutedCall,
    whole: Buffer | undefined,
    body: Readable,
    answer: CallAnswer,
  ): Promise<void> {
    try {
      if (routed.depth > CALL_DEPTH_MAX) {
        const message = `functions called each other ${routed.depth} deep; the limit is ${CALL_DEPTH_MAX}`;
        return answer.fail({ code: 'LOOP_DETECTED', message });
      }
      if (routed.functionName === STEPS_TARGET) return await this.#answerSteps(routed, whole, body, answer);
      if (!mayReach(routed.caller, routed.functionName)) {
        const message = `"${routed.caller}" cannot call "${routed.functionName}", which is of another namespace`;
        return answer.fail({ code: 'FORBIDDEN', message });
      }
      const route = await this.#options.routes.get(routed.functionName);
      if (!route) {
        const message = `there is no function "${routed.functionName}"; "${routed.caller}" declares calls of it`;
        return answer.fail({ code: 'FUNCTION_NOT_FOUND', message });
      }
      if (route.refusal !== undefined) return answer.fail({ code: 'QUEUE_EXPIRED', message: route.refusal });
      if (answer.isClosed) return;
      this.#start(routed, chooseTarget(route, Math.random()), whole, body, answer);
    } catch (error) {
      this.#options.log.warn(
        { error, function: routed.functionName },
        'a call between functions could not be made',
      );
      answer.fail({
        code: toSkiffError(error).code,
        message: 'the call could not be made; the platform failed',
      });
    }
  }

  async #answerSteps(
    { invocation, traceparent }: RoutedCall,
    whole: Buffer | undefined,
    body: Readable,
    answer: CallAnswer,
  ): Promise<void> {
    const { steps } = this.#options;
    if (!steps)
      return answer.fail({ code: 'NOT_FOUND', message: 'only asynchronous invocations have durable steps' });
    try {
      const command = whole ?? (await collect(body, STEP_COMMAND_BYTES_MAX));
      const reply = await steps(invocation, command, traceparent);
      if (answer.isClosed) return;
      answer.writeHead(200, ['content-type', 'application/json']);
      answer.end(Buffer.from(JSON.stringify(reply)));
    } catch (error) {
      if (!(error instanceof SkiffError)) throw error;
      answer.fail({ code: error.code, message: error.message });
    }
  }

  #start(
    routed: RoutedCall,
    deployment: Deployment,
    whole: Buffer | undefined,
    body: Readable,
    answer: CallAnswer,
  ): void {
    const id = createId('inv');
    const { method, path, traceparent, functionName } = routed;
    const own: HeaderList = [
      [Header.callDepth, String(routed.depth)],
      [Header.caller, routed.caller],
      [Header.invocationId, id],
      ...(traceparent === undefined ? [] : [[Header.traceparent, traceparent] as const]),
    ];
    const headers = [['host', `${functionName}.skiff`] as const, ...routed.headers, ...own];
    if (whole === undefined || whole.length > DATA_FRAME_BYTES_MAX) {
      if (whole) body.push(whole);
      if (whole) body.push(null);
    } else body.push(null);
    this.#options.run({
      id,
      deployment,
      head: {
        method,
        url: `http://${functionName}.skiff${path}`,
        headers,
        ...(traceparent === undefined ? {} : { traceparent }),
      },
      body: whole !== undefined && whole.length <= DATA_FRAME_BYTES_MAX ? whole : undefined,
      request: createCallRequest(method, headers, body),
      response: answer,
      deadlineMs: routed.deadlineMs,
      depth: routed.depth,
      parent: routed.invocation,
    });
  }
}

async function collect(body: Readable, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > bytesMax)
      throw new SkiffError('BODY_TOO_LARGE', `a step has more than ${bytesMax} bytes, which is the limit`);
  }
  return Buffer.concat(chunks);
}
