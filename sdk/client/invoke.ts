/** Calls functions. What a function answers is handed on as it is; only the platform's own refusals are retried. */
import { readFailure } from './error.ts';
import { type ClientResponse, readChunks, type RequestBody } from './fetch.ts';
import type { ApiRequest, Transport } from './transport.ts';

export interface InvokeOptions {
  /** After the function's name, with its query: `/items/3?full=1`. Default `/`. */
  readonly path?: string;
  /** Default GET, or POST when there is a body. */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>> | readonly (readonly [string, string])[];
  readonly body?: RequestBody | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Until the response head. Default none: the function's own time limit holds. */
  readonly timeoutMs?: number;
  /** Default `manual`: a redirect is the function's answer. */
  readonly redirect?: 'manual' | 'follow';
}

export interface Invocations<R extends ClientResponse> {
  /**
   * The function's answer, whatever its status. Failures of the function or the platform are answers too:
   * status 4xx or 5xx with `skiff-cause` and a problem document.
   */
  invoke(name: string, options?: InvokeOptions): Promise<R>;
  /** The body piece by piece as the function sends it. Throws ClientError when the status is 400 or above. */
  invokeStream(name: string, options?: InvokeOptions): AsyncGenerator<Uint8Array, void, undefined>;
}

/**
 * Only these say that the function was not run. A function may answer 503 with Retry-After itself, but it cannot
 * set `skiff-cause`: that header is the platform's word.
 */
const NOT_RUN: ReadonlySet<string> = new Set(['queue_expired', 'throttled']);

export function invocationRequest(name: string, options: InvokeOptions): ApiRequest {
  const path = options.path ?? '/';
  const { headers = [] } = options;
  return {
    what: `invoke ${name}`,
    method: options.method ?? (options.body === undefined ? 'GET' : 'POST'),
    path: `/f/${encodeURIComponent(name)}${path.startsWith('/') || path.startsWith('?') ? '' : '/'}${path}`,
    headers: isList(headers) ? headers : Object.entries(headers),
    body: options.body,
    signal: options.signal,
    timeoutMs: options.timeoutMs ?? 0,
    redirect: options.redirect ?? 'manual',
    isRead: false,
  };
}

export function createInvocations<R extends ClientResponse>(transport: Transport<R>): Invocations<R> {
  function invoke(name: string, options: InvokeOptions = {}): Promise<R> {
    return transport.fetch({
      ...invocationRequest(name, options),
      mayRepeat: (response) =>
        (response.status === 503 || response.status === 429) &&
        response.headers.get('retry-after') !== null &&
        NOT_RUN.has(response.headers.get('skiff-cause') ?? ''),
    });
  }

  async function* invokeStream(name: string, options: InvokeOptions = {}) {
    const response = await invoke(name, options);
    if (response.status >= 400) throw await readFailure(response, `invoke ${name}`);
    yield* readChunks(response.body);
  }

  return { invoke, invokeStream };
}

type HeaderInput = NonNullable<InvokeOptions['headers']>;
const isList = (headers: HeaderInput): headers is readonly (readonly [string, string])[] =>
  Array.isArray(headers);
