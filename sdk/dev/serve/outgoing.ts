/**
 * Calls of functions by functions, here: over HTTP to this same server, with the runner's rules. Only what `calls`
 * declares is reached, the depth is counted, bodies stream with windows both ways.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { ErrorCode } from '../../protocol/errors.ts';
import { encodeHead, END, type Frame, FrameType, parseHead } from '../../protocol/frame.ts';
import { Header, HOP_BY_HOP } from '../../protocol/http.ts';
import type { CallFailure, CallHead } from '../../protocol/invocation.ts';
import { CALL_DEPTH_MAX, DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../protocol/limits.ts';
import { parseCallTarget } from '../../protocol/manifest.ts';

export interface OutgoingOptions {
  readonly caller: string;
  /** As in the configuration. */
  readonly calls: readonly string[];
  /** URL of a function of this server; undefined when it is not one. */
  readonly urlOf: (name: string) => string | undefined;
  /** How deep the invocation of this stream is; undefined when it has ended. */
  readonly depthOf: (stream: number) => number | undefined;
  readonly send: (type: number, stream: number, payload?: Buffer) => void;
}

interface OpenCall {
  readonly request: ClientRequest;
  credit: number;
  wake: (() => void) | undefined;
  isOver: boolean;
}

export class OutgoingCalls {
  readonly #options: OutgoingOptions;
  readonly #targets: ReadonlyMap<string, string>;
  readonly #calls = new Map<number, OpenCall>();

  constructor(options: OutgoingOptions) {
    this.#options = options;
    this.#targets = new Map(options.calls.map(parseCallTarget).map(({ alias, name }) => [alias, name]));
  }

  onFrame(frame: Frame): void {
    if (frame.type === FrameType.CALL) return this.#open(frame);
    const call = this.#calls.get(frame.stream);
    if (!call) return;
    switch (frame.type) {
      case FrameType.CALL_DATA:
        return this.#sendBody(frame.stream, call, Buffer.from(frame.payload), frame.isEnd);
      case FrameType.CALL_WINDOW:
        call.credit += frame.payload.readUInt32LE(0);
        call.wake?.();
        return;
      case FrameType.CALL_CANCEL:
        this.#close(frame.stream, call);
        call.request.destroy();
    }
  }

  /** The process has ended. */
  close(): void {
    for (const [stream, call] of this.#calls) {
      this.#close(stream, call);
      call.request.destroy();
    }
  }

  #open(frame: Frame): void {
    const { stream } = frame;
    const { head, body } = parseHead(frame.payload);
    const { parent, target, method, path, headers } = head as CallHead;
    const { caller, urlOf, depthOf } = this.#options;
    const name = this.#targets.get(target);
    if (name === undefined) {
      const known = [...this.#targets.keys()].join(', ') || 'none';
      const text = `function "${caller}" does not declare calls of "${target}" (it declares ${known}); add it to calls in its configuration`;
      return this.#refuse(stream, 'FORBIDDEN', text);
    }
    const url = urlOf(name) ?? urlOf(target);
    if (url === undefined)
      return this.#refuse(
        stream,
        'FUNCTION_NOT_FOUND',
        `function "${name}" is not part of this skiff dev; run it on a folder that has both`,
      );
    const depth = depthOf(parent);
    if (depth === undefined)
      return this.#refuse(stream, 'BAD_REQUEST', 'the invocation that makes the call has ended');
    if (depth >= CALL_DEPTH_MAX)
      return this.#refuse(
        stream,
        'LOOP_DETECTED',
        `functions called each other ${depth + 1} deep; the limit is ${CALL_DEPTH_MAX}`,
      );
    const http = process.getBuiltinModule('node:http');
    const request = http.request(`${url}${path}`, {
      method,
      headers: [
        ['host', `${target}.skiff`],
        ...headers,
        [Header.callDepth, String(depth + 1)],
        [Header.caller, caller],
        ...(frame.isEnd ? [['content-length', String(body.length)]] : [['transfer-encoding', 'chunked']]),
      ].flat(),
    });
    const call: OpenCall = { request, credit: STREAM_WINDOW_BYTES, wake: undefined, isOver: false };
    this.#calls.set(stream, call);
    request.on('response', (response) => void this.#answer(stream, call, response));
    request.on('error', (error) => {
      if (!call.isOver) this.#fail(stream, call, 'UNAVAILABLE', `the call failed: ${error.message}`);
    });
    this.#sendBody(stream, call, Buffer.from(body), frame.isEnd);
  }

  #sendBody(stream: number, call: OpenCall, bytes: Buffer, isEnd: boolean): void {
    if (bytes.length > 0) {
      const credit = Buffer.alloc(4);
      credit.writeUInt32LE(bytes.length);
      call.request.write(bytes, () => {
        if (!call.isOver) this.#options.send(FrameType.CALL_WINDOW, stream, credit);
      });
    }
    if (isEnd) call.request.end();
  }

  async #answer(stream: number, call: OpenCall, response: IncomingMessage): Promise<void> {
    const headers: [string, string][] = [];
    for (let i = 0; i + 1 < response.rawHeaders.length; i += 2) {
      const name = (response.rawHeaders[i] as string).toLowerCase();
      if (!HOP_BY_HOP.has(name)) headers.push([name, response.rawHeaders[i + 1] as string]);
    }
    const { send } = this.#options;
    send(FrameType.CALL_RESPONSE, stream, encodeHead({ status: response.statusCode, headers }));
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length && !call.isOver;) {
          if (call.credit === 0) {
            await new Promise<void>((resolve) => (call.wake = resolve));
            continue;
          }
          const part = chunk.subarray(at, at + Math.min(call.credit, DATA_FRAME_BYTES_MAX));
          call.credit -= part.length;
          at += part.length;
          send(FrameType.CALL_DATA, stream, part);
        }
      }
      if (call.isOver) return;
      send(FrameType.CALL_DATA | END, stream);
      this.#close(stream, call);
    } catch (error) {
      if (!call.isOver)
        this.#fail(stream, call, 'HANDLER_ERROR', `the answer was cut: ${(error as Error).message}`);
    }
  }

  #fail(stream: number, call: OpenCall, code: ErrorCode, message: string): void {
    this.#close(stream, call);
    this.#refuse(stream, code, message);
  }

  #refuse(stream: number, code: ErrorCode, message: string): void {
    const failure: CallFailure = { code, message };
    this.#options.send(FrameType.CALL_ERROR | END, stream, Buffer.from(JSON.stringify(failure)));
  }

  #close(stream: number, call: OpenCall): void {
    call.isOver = true;
    call.wake?.();
    this.#calls.delete(stream);
  }
}
