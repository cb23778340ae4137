/**
 * What a function receives beside its request, and the shapes a function may have: the contract between its author
 * (sdk/authoring publishes these types) and the guest (sdk/guest implements them). Types only.
 */

/** Values that can be written as JSON. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface FunctionLog {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** What `ctx.invoke` sends. */
export interface InvokeInit {
  /** Path and query; default `/`. */
  readonly path?: string;
  /** Default GET, or POST with a body. */
  readonly method?: string;
  readonly headers?: Headers | Readonly<Record<string, string>> | readonly (readonly [string, string])[];
  readonly body?: string | Uint8Array | ReadableStream<Uint8Array>;
  /** A body as JSON, with its content type. */
  readonly json?: unknown;
  /** Aborting it cancels the call. */
  readonly signal?: AbortSignal;
}

export interface MapOptions {
  /** Steps at a time; default 8. */
  readonly concurrency?: number;
}

export interface EventWait {
  /** `'2 days'`, `'30m'` or milliseconds; default 7 days. */
  readonly timeout?: string | number;
  /** Fields, at any depth, that the event's data must have with these values. */
  readonly match?: Readonly<Record<string, unknown>>;
}

export interface FunctionContext {
  /** `inv-…`: in the logs, the traces and the response's `Skiff-Invocation-Id`. */
  readonly invocationId: string;
  readonly functionName: string;
  readonly deployment: string;
  /** 1 for the first try of an invocation, 2 for the next. */
  readonly attempt: number;
  /** W3C trace context of the caller, when there is one. */
  readonly traceparent: string | undefined;
  /** When the invocation is ended for taking too long. */
  readonly deadline: Date;
  /** Milliseconds until `deadline`; never negative. */
  remainingMs(): number;
  /** Aborts when the client went away or the deadline passed. The same as `request.signal`. */
  readonly signal: AbortSignal;
  /** Structured log lines, tied to this invocation. `console` works as well. */
  readonly log: FunctionLog;
  /** The function's variables: `process.env`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * Calls another function that `calls` of the configuration declares, on the platform's own channel: no address, no
   * token, and it works without a network. The call ends with this invocation, and counts against its time. Also
   * `fetch('http://<name>.skiff/path')`. The answer is the function's, whatever its status; rejects with a TypeError
   * when the call could not be made.
   *
   * In an asynchronous invocation it is a durable step as well (unless its body is a stream): an answer below 500 of up
   * to 128 KB is stored, and a repeated attempt gets it without calling again.
   *
   * ```ts
   * const response = await ctx.invoke('resize', { path: '/small', body: image });
   * ```
   */
  invoke(name: string, init?: InvokeInit): Promise<Response>;
  /**
   * A durable step: in an asynchronous invocation the result (anything JSON can say, up to 256 KB) is stored once, and
   * an attempt that comes later gets it without running `run` again. `run` may run twice only when its outcome was lost
   * before it was stored; what it throws is not stored. Steps of one name are told apart by their order. In an
   * invocation that somebody waits for, `run` is run and nothing is stored.
   *
   * ```ts
   * const order = await ctx.step('charge', () => charge(card));
   * await ctx.sleep('2 days');
   * await ctx.step('remind', () => mail(order));
   * ```
   */
  step<Value>(name: string, run: () => Value | Promise<Value>): Promise<Value>;
  /** A step for each item, some at a time; the results in the order of the items. */
  map<Item, Value>(
    name: string,
    items: readonly Item[],
    run: (item: Item, index: number) => Value | Promise<Value>,
    options?: MapOptions,
  ): Promise<Value[]>;
  /**
   * Sleeps for a time (`'2 days'`, `'30s'`, milliseconds) or until a date, a year at most. An asynchronous invocation is
   * suspended: it holds no sandbox, its age does not grow, and afterwards the function is called again and its stored
   * steps are passed over. What it awaits beside its steps is cut off by that. One that somebody waits for just pauses.
   */
  sleep(time: string | number | Date, name?: string): Promise<void>;
  /**
   * Waits, suspended as in `sleep`, for an event of this name (`skiff event send <name> <json>`, `POST /v1/signals`). One
   * that was sent before, but after the invocation was accepted, is kept for an hour and given to the wait at once; no
   * event is given to an invocation twice. Resolves with its data, or undefined when none has come in time. Rejects in
   * an invocation that somebody waits for.
   */
  waitForEvent<Data = unknown>(name: string, options?: EventWait): Promise<Data | undefined>;
  /**
   * Keeps the invocation open for work that goes on after the response. A rejection is logged.
   * Throws when the invocation has already ended.
   */
  waitUntil(promise: Promise<unknown>): void;
}

/** `export default async (request, ctx) => new Response('hello')` */
export type FunctionHandler = (request: Request, ctx: FunctionContext) => Response | Promise<Response>;

/**
 * `export default { fetch(request, ctx) { … } }`. The guest calls `fetch(request, ctx, ctx)`, so that frameworks
 * with the signature `(request, env, executionContext)`, for example a Hono app, work as they are.
 */
export interface FunctionModule {
  fetch(
    request: Request,
    ctx: FunctionContext,
    executionContext: FunctionContext,
  ): Response | Promise<Response>;
}

/** What the default export of an entry module may be. */
export type FunctionExport = FunctionHandler | FunctionModule;
