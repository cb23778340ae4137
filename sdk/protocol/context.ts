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
   * ```ts
   * const response = await ctx.invoke('resize', { path: '/small', body: image });
   * ```
   */
  invoke(name: string, init?: InvokeInit): Promise<Response>;
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
