/**
 * Calls functions: as HTTP, where what a function answers is handed on as it is, and as JSON, with the function's own
 * types. Only the platform's own refusals are retried, and with a key also calls whose answer was lost.
 */
import type { FunctionExport } from '../protocol/context.ts';
import type { InputOf, ItemOf, JsonFunction, OutputOf } from '../protocol/typed/json-function.ts';
import { ClientError, readFailure } from './error.ts';
import { type ClientResponse, readChunks, readJsonLines, type RequestBody } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import type { ApiRequest, Transport } from './transport.ts';

type HeaderInput = Readonly<Record<string, string>> | readonly (readonly [string, string])[];

export interface FetchOptions extends CallOptions {
  /** After the function's name, with its query: `/items/3?full=1`. Default `/`. */
  readonly path?: string;
  /** Default GET, or POST when there is a body. */
  readonly method?: string;
  readonly headers?: HeaderInput;
  readonly body?: RequestBody | undefined;
  /** A body as JSON, with its content type. */
  readonly json?: unknown;
  /** Until the response head. Default none: the function's own time limit holds. */
  readonly timeoutMs?: number;
  /** Default `manual`: a redirect is the function's answer. */
  readonly redirect?: 'manual' | 'follow';
  /**
   * Calls with one key run once, so that a call whose answer was lost is made again by itself: the server gives the
   * answer it has, or runs the function if it had not.
   */
  readonly idempotencyKey?: string | undefined;
}

export interface InvokeOptions extends CallOptions {
  readonly headers?: HeaderInput;
  /** Until the response head. Default none: the function's own time limit holds. */
  readonly timeoutMs?: number;
  /** As in FetchOptions. */
  readonly idempotencyKey?: string | undefined;
}

/** Input and options; the input may be left out where the function needs none. */
export type InvokeArguments<F> = [F] extends [never]
  ? [notAFunctionOfThisServer: never]
  : undefined extends InputOf<F>
    ? [input?: InputOf<F>, options?: InvokeOptions]
    : [input: InputOf<F>, options?: InvokeOptions];

/** By what a function is called when nothing is known of it: anything goes in, and what comes out is unknown. */
type Unknown<Known> = [keyof Known] extends [never] ? JsonFunction<unknown, unknown> : never;

/** @typeParam Known functions by name, as `skiff types` writes them */
export interface Invocations<R extends ClientResponse, Known = object> {
  /**
   * Calls a function of JSON and returns what it returned. Types come from the function: `typeof resize`, or its name
   * when the client was made with the types that `skiff types` writes. Throws ClientError for every failure: BAD_REQUEST
   * when the function refused the input, HANDLER_ERROR when it failed, TIMEOUT, …
   *
   * ```ts
   * import type resize from './functions/resize.ts';
   *
   * const { width } = await skiff.invoke<typeof resize>('resize', { width: 10 });
   * ```
   */
  invoke<Name extends keyof Known & string>(
    name: Name,
    ...rest: InvokeArguments<Known[Name]>
  ): Promise<OutputOf<Known[Name]>>;
  invoke<F extends FunctionExport = Unknown<Known>>(
    name: string,
    ...rest: InvokeArguments<F>
  ): Promise<OutputOf<F>>;
  /**
   * What a function of JSON yields, one at a time, as it yields it. Leaving the loop ends the function's iteration.
   * Throws ClientError when the call failed before its first item; an answer that is cut is an error of the network.
   *
   * ```ts
   * for await (const { line } of skiff.stream<typeof tail>('tail', { lines: 10 })) show(line);
   * ```
   */
  stream<Name extends keyof Known & string>(
    name: Name,
    ...rest: InvokeArguments<Known[Name]>
  ): AsyncGenerator<ItemOf<Known[Name]>, void, undefined>;
  stream<F extends FunctionExport = Unknown<Known>>(
    name: string,
    ...rest: InvokeArguments<F>
  ): AsyncGenerator<ItemOf<F>, void, undefined>;
  /**
   * The function's answer over HTTP, whatever its status. Failures of the function or the platform are answers too:
   * status 4xx or 5xx with `skiff-cause` and a problem document.
   */
  fetch(name: string, options?: FetchOptions): Promise<R>;
  /** The body piece by piece as the function sends it. Throws ClientError when the status is 400 or above. */
  fetchStream(name: string, options?: FetchOptions): AsyncGenerator<Uint8Array, void, undefined>;
}

/**
 * Only these say that the function was not run. A function may answer 503 with Retry-After itself, but it cannot
 * set `skiff-cause`: that header is the platform's word.
 */
const NOT_RUN: ReadonlySet<string> = new Set(['queue_expired', 'throttled']);

export function invocationRequest(name: string, options: FetchOptions): ApiRequest {
  const path = options.path ?? '/';
  const { headers = [], json, idempotencyKey } = options;
  const body = json === undefined ? options.body : JSON.stringify(json);
  const given = isList(headers) ? headers : Object.entries(headers);
  const isTyped = json === undefined || given.some(([key]) => key.toLowerCase() === 'content-type');
  return {
    what: `invoke ${name}`,
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    path: `/f/${encodeURIComponent(name)}${path.startsWith('/') || path.startsWith('?') ? '' : '/'}${path}`,
    headers: [
      ...given,
      ...(isTyped ? [] : [['content-type', 'application/json'] as const]),
      ...(idempotencyKey === undefined ? [] : [['idempotency-key', idempotencyKey] as const]),
    ],
    body,
    signal: options.signal,
    timeoutMs: options.timeoutMs ?? 0,
    redirect: options.redirect ?? 'manual',
    isRead: idempotencyKey !== undefined,
  };
}

export function createInvocations<R extends ClientResponse>(transport: Transport<R>): Invocations<R> {
  function fetch(name: string, options: FetchOptions = {}): Promise<R> {
    return transport.fetch({
      ...invocationRequest(name, options),
      mayRepeat: ({ status, headers }) => {
        if (headers.get('retry-after') === null) return false;
        // With a key: the same call still runs. The function itself would give its answer again.
        if (status === 409) return options.idempotencyKey !== undefined;
        return (status === 503 || status === 429) && NOT_RUN.has(headers.get('skiff-cause') ?? '');
      },
    });
  }

  async function fetchJson(name: string, input: unknown, options: InvokeOptions): Promise<R> {
    const response = await fetch(name, { ...options, method: 'POST', json: input });
    if (response.status >= 400) throw await readFailure(response, `invoke ${name}`);
    return response;
  }

  async function* fetchStream(name: string, options: FetchOptions = {}) {
    const response = await fetch(name, options);
    if (response.status >= 400) throw await readFailure(response, `invoke ${name}`);
    yield* readChunks(response.body);
  }

  async function invoke(name: string, input?: unknown, options: InvokeOptions = {}): Promise<unknown> {
    const response = await fetchJson(name, input, options);
    const text = await response.text();
    return text === '' ? undefined : parseOutput(name, response.status, text);
  }

  async function* stream(name: string, input?: unknown, options: InvokeOptions = {}) {
    yield* readJsonLines((await fetchJson(name, input, options)).body);
  }

  // Their types are those of the functions that are called, which only the compiler knows.
  return { fetch, fetchStream, invoke, stream } as Invocations<R>;
}

function parseOutput(name: string, status: number, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const detail = `invoke ${name}: the answer is not JSON: ${text.slice(0, 100)}; use fetch for functions of HTTP`;
    throw new ClientError({ code: 'BAD_RESPONSE', status, detail, cause });
  }
}

function isList(headers: HeaderInput): headers is readonly (readonly [string, string])[] {
  return Array.isArray(headers);
}
