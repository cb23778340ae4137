/**
 * Runs a function in this process, on the guest that it has in a sandbox: the same context, streams, deadline, signal,
 * waitUntil and failures. Deliberately absent: what only a sandbox has (isolation, limits of memory and of the network),
 * for which there is `deployTestFunction`, and reading the function's configuration: say here what matters to the test.
 */
import { GuestConnection } from '../guest/channel/connection.ts';
import type { Handler } from '../guest/channel/invocation.ts';
import { resolveHandler } from '../guest/loader.ts';
import { LightRequest } from '../guest/web/light-request.ts';
import type { FunctionExport } from '../protocol/context.ts';
import { encodeFrame, type Frame, FrameReader, FrameType, parseJson } from '../protocol/frame.ts';
import { Header } from '../protocol/http.ts';
import { createId } from '../protocol/ids.ts';
import type { GuestLog } from '../protocol/invocation.ts';
import type { InputOf, OutputOf } from '../protocol/typed/json-function.ts';
import { TIMEOUT_MS_DEFAULT } from '../protocol/limits.ts';
import { type Callee, Calls, type Origin } from './calls.ts';
import { Exchange } from './exchange.ts';
import { routeNames } from './globals.ts';
import { parseAnswer } from './answer.ts';

/** One line of the function's log: of `context.log` or of `console`. */
export interface TestLog {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Epoch milliseconds. */
  readonly atMs: number;
  /** Id of the invocation; absent for lines of work that outlived it. */
  readonly invocation?: string;
}

export interface TestFunctionOptions {
  /** `context.functionName`. Default `function`. */
  readonly name?: string;
  /** `context.env`. Default: nothing. `process.env` is this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds until the signal aborts and the caller gets status 504. Default 30,000. */
  readonly timeoutMs?: number;
  /** `context.attempt`. Default 1. */
  readonly attempt?: number;
  /** Functions that `context.invoke(name)` and `fetch('http://<name>.skiff')` reach. Others are refused. */
  readonly calls?: Readonly<Record<string, TestTarget | TestFunction>>;
}

/** A function that runs in this process. */
export interface TestFunction<F = unknown> {
  /**
   * Calls it over HTTP. A path is taken as one of `http://<name>.test`. Failures are answers, as from a server: status
   * 500 with `skiff-cause: handler_error` when the handler throws, 504 after the time-out. Rejects with the reason of
   * `init.signal` when that is aborted, as a client that goes away; the function's signal is then aborted as well.
   */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;
  /** Calls a function of JSON, with the types of the handler. Throws ClientError for every failure. */
  invoke(
    ...input: undefined extends InputOf<F> ? [input?: InputOf<F>] : [input: InputOf<F>]
  ): Promise<OutputOf<F>>;
  /** All that was logged, oldest first. */
  readonly logs: readonly TestLog[];
  /** Resolves when nothing runs any more: handlers, bodies and every `waitUntil`. */
  settled(): Promise<void>;
}

/** What a module may export by default: also an application of a framework, whose `fetch` takes more than a request. */
export type TestTarget =
  | FunctionExport
  | { fetch(request: Request, ...more: never[]): Response | Promise<Response> };

/** Who is asked when functions under test call each other: depth and deadline travel with the call. */
const CALLEES = new WeakMap<object, Callee>();

/**
 * Runs `handler` in this process. What it exports by default is what to give: a function, an object with `fetch`, what
 * `defineFunction` returns, or a Hono application.
 *
 * ```ts
 * import { createTestFunction } from 'skiff/testing';
 * import greet from './functions/greet.ts';
 *
 * const fn = createTestFunction(greet, { env: { GREETING: 'Hello' } });
 * const response = await fn.fetch('/?name=Ada');
 * ```
 */
export function createTestFunction<F extends TestTarget>(
  handler: F,
  options: TestFunctionOptions = {},
): TestFunction<F> {
  const name = options.name ?? 'function';
  const runner = new InProcessRunner(resolveHandler(handler, name), name, options);
  const fetch: TestFunction['fetch'] = (input, init) => {
    const isPath = typeof input === 'string' && !/^[a-z]+:\/\//i.test(input);
    const given = isPath ? new URL(input, `http://${name}.test`) : input;
    return runner.run(new Request(given, init), undefined, init?.signal ?? undefined);
  };
  const fn = {
    fetch,
    invoke: async (input?: unknown) => {
      const body = input === undefined ? null : JSON.stringify(input);
      const headers = { 'content-type': 'application/json' };
      return parseAnswer(await fetch('/', { method: 'POST', headers, body }), name);
    },
    logs: runner.logs,
    settled: () => runner.settled(),
  } as TestFunction<F>;
  CALLEES.set(fn, (request, origin) => runner.run(request, origin, request.signal));
  return fn;
}

class InProcessRunner {
  readonly logs: TestLog[] = [];
  readonly #options: TestFunctionOptions;
  readonly #connection: GuestConnection;
  readonly #calls: Calls;
  readonly #exchanges = new Map<number, { exchange: Exchange; id: string; origin: Origin }>();
  /** Until they are settled: the signal of a Request that nobody holds is collected before it could abort. */
  readonly #requests = new Map<string, Request>();
  #lastStream = 0;

  constructor(handler: Handler, name: string, options: TestFunctionOptions) {
    this.#options = options;
    const { calls = {} } = options;
    const names = (): string[] => Object.keys(calls);
    routeNames(names());
    const reader = new FrameReader((frame) => this.#onFrame(frame));
    const nativeHandler: Handler = (light, context) => {
      const request = LightRequest.unwrap(light) as Request;
      this.#requests.set(context.invocationId, request);
      return handler(request, context);
    };
    this.#connection = new GuestConnection({
      write: (bytes, done) => {
        reader.push(bytes);
        done();
      },
      load: () => Promise.resolve({ handler: nativeHandler }),
      env: options.env ?? {},
      unsentBytes: () => 0,
      onLoadFailed: () => {},
      onDrained: () => {},
    });
    this.#connection.calls.declare(names());
    this.#connection.serve(nativeHandler, { functionName: name, deployment: 'dep-test' });
    this.#calls = new Calls({
      caller: name,
      findCallee: (target) =>
        Object.hasOwn(calls, target)
          ? asCallee(calls[target] as TestTarget | TestFunction, target)
          : undefined,
      names,
      originOf: (stream) => this.#exchanges.get(stream)?.origin,
      send: this.#send,
    });
  }

  run(request: Request, caller: Origin | undefined, signal: AbortSignal | undefined): Promise<Response> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const { timeoutMs: ownMs = TIMEOUT_MS_DEFAULT, attempt = 1 } = this.#options;
    const nowMs = Date.now();
    const deadlineMs = Math.min(nowMs + ownMs, caller?.deadlineMs ?? Infinity);
    const traceparent = request.headers.get(Header.traceparent) ?? caller?.traceparent;
    const id = createId('inv', nowMs);
    const stream = ++this.#lastStream;
    const origin = { depth: caller?.depth ?? 0, deadlineMs, traceparent };
    const exchange = new Exchange({
      stream,
      head: {
        id,
        method: request.method,
        url: request.url,
        headers: [...request.headers, [Header.invocationId, id]],
        deadlineMs,
        attempt,
        ...(traceparent === undefined ? {} : { traceparent }),
      },
      body: request.body,
      signal,
      timeoutMs: Math.max(0, deadlineMs - nowMs),
      send: this.#send,
    });
    this.#exchanges.set(stream, { exchange, id, origin });
    exchange.start();
    return exchange.answer;
  }

  async settled(): Promise<void> {
    while (this.#exchanges.size > 0) {
      await Promise.all([...this.#exchanges.values()].map(({ exchange }) => exchange.settled));
    }
  }

  readonly #send = (type: number, stream: number, payload?: Uint8Array): void => {
    this.#connection.receive(
      encodeFrame(type, stream, payload === undefined ? undefined : Buffer.from(payload)),
    );
  };

  #onFrame(frame: Frame): void {
    const open = this.#exchanges.get(frame.stream);
    switch (frame.type) {
      case FrameType.LOG: {
        const log = parseJson(frame.payload) as GuestLog;
        this.logs.push(open ? { ...log, invocation: open.id } : log);
        return;
      }
      case FrameType.CALL:
      case FrameType.CALL_DATA:
      case FrameType.CALL_WINDOW:
      case FrameType.CALL_CANCEL:
        return this.#calls.onFrame(frame);
      case FrameType.SETTLED:
        this.#exchanges.delete(frame.stream);
        if (open) this.#requests.delete(open.id);
    }
    open?.exchange.onFrame(frame);
  }
}

function asCallee(to: TestTarget | TestFunction, name: string): Callee {
  const known = CALLEES.get(to);
  if (known) return known;
  const callee = CALLEES.get(createTestFunction(to as TestTarget, { name })) as Callee;
  CALLEES.set(to, callee);
  return callee;
}
