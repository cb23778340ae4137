/**
 * Sends requests to one Skiff server: authentication, time limits, retries, errors.
 * Invariant: a request is sent again only if it is a read, or if the server said that it did nothing (503 or 429
 * with Retry-After) and the body can be produced again. Deliberately absent: which paths exist.
 */
import { ClientError, parseRetryAfter, readFailure } from './error.ts';
import type { ClientResponse, FetchInit, FetchLike, RequestBody } from './fetch.ts';
import { RetryBudget, type RetryPolicy, retryWaitMs, wait } from './retry.ts';

export interface TransportOptions<R extends ClientResponse> {
  /** Base URL of the server, for example `https://skiff.example.org`. */
  readonly url: string;
  readonly token?: string | undefined;
  readonly fetch: FetchLike<R>;
  readonly retry: RetryPolicy;
  readonly timeoutMs: number;
}

export interface ApiRequest {
  /** For messages: what the caller wanted, for example `list functions`. */
  readonly what: string;
  readonly method?: string;
  /** With a leading slash, already encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: RequestBody | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Until the response head; 0 for none. */
  readonly timeoutMs?: number;
  readonly redirect?: 'manual' | 'follow';
  /** May it be sent again when no answer came? Default: for GET. An invocation is never, whatever its method. */
  readonly isRead?: boolean;
  /** Given an answer that asks to come again, may it be obeyed? Default: any 429 or 503 with Retry-After. */
  readonly mayRepeat?: (response: ClientResponse) => boolean;
}

export interface Transport<R extends ClientResponse> {
  /** The answer as it is, whatever its status. Throws ClientError UNREACHABLE when there is none. */
  fetch(request: ApiRequest): Promise<R>;
  /** The answer if its status is below 300, otherwise a ClientError. */
  send(request: ApiRequest): Promise<R>;
  json<T>(request: ApiRequest): Promise<T>;
  readonly url: string;
}

const asksToRepeat = (response: ClientResponse): boolean =>
  (response.status === 503 || response.status === 429) && response.headers.get('retry-after') !== null;

const isReplayable = (body: RequestBody | undefined): boolean =>
  body === undefined || typeof body === 'string' || typeof body === 'function' || body instanceof Uint8Array;

export function createTransport<R extends ClientResponse>(options: TransportOptions<R>): Transport<R> {
  const base = options.url.replace(/\/+$/, '');
  const budget = new RetryBudget();

  function buildUrl(request: ApiRequest): string {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) query.set(name, String(value));
    }
    const text = query.toString();
    return `${base}${request.path}${text === '' ? '' : `${request.path.includes('?') ? '&' : '?'}${text}`}`;
  }

  async function tryOnce(request: ApiRequest): Promise<R> {
    const limitMs = request.timeoutMs ?? options.timeoutMs;
    const limit = createLimit(limitMs, request.signal);
    try {
      return await options.fetch(buildUrl(request), buildInit(request, options.token, limit.signal));
    } catch (error) {
      request.signal?.throwIfAborted();
      const reason = limit.isExpired() ? `no answer within ${limitMs} ms` : describeNetworkError(error);
      const detail = `${request.what}: ${base} cannot be reached: ${reason}`;
      throw new ClientError({ code: 'UNREACHABLE', status: 0, detail, cause: error });
    } finally {
      limit.clear();
    }
  }

  async function fetchWithRetries(request: ApiRequest): Promise<R> {
    const isRead = request.isRead ?? (request.method === undefined || request.method === 'GET');
    const mayRepeat = request.mayRepeat ?? asksToRepeat;
    budget.earn();
    for (let attempt = 1; ; attempt++) {
      const outcome = await tryOnce(request).catch((error: unknown) => error as ClientError);
      const isError = outcome instanceof Error;
      const canRepeat = isError
        ? isRead && outcome instanceof ClientError && isReplayable(request.body)
        : mayRepeat(outcome) && isReplayable(request.body);
      const retryAfterMs = isError
        ? undefined
        : parseRetryAfter(outcome.headers.get('retry-after'), Date.now());
      const isWaitShort = (retryAfterMs ?? 0) <= options.retry.waitMsMax;
      if (!canRepeat || !isWaitShort || attempt >= options.retry.attemptsMax || !budget.trySpend()) {
        if (isError) throw outcome;
        return outcome;
      }
      if (!isError) await outcome.text().catch(() => '');
      await wait(retryWaitMs(options.retry, attempt, retryAfterMs), request.signal);
    }
  }

  async function send(request: ApiRequest): Promise<R> {
    const response = await fetchWithRetries(request);
    if (response.status >= 300) throw await readFailure(response, request.what);
    return response;
  }

  async function json<T>(request: ApiRequest): Promise<T> {
    const response = await send(request);
    const text = await response.text();
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      const detail = `${request.what}: the answer of ${base} is not JSON; is that a Skiff server?`;
      throw new ClientError({ code: 'BAD_RESPONSE', status: response.status, detail, cause: error });
    }
  }

  return { fetch: fetchWithRetries, send, json, url: base };
}

function buildInit(
  request: ApiRequest,
  token: string | undefined,
  signal: AbortSignal | undefined,
): FetchInit {
  const headers = (request.headers ?? []).map(([name, value]): [string, string] => [name, value]);
  const isGiven = headers.some(([name]) => name.toLowerCase() === 'authorization');
  if (token !== undefined && !isGiven) headers.push(['authorization', `Bearer ${token}`]);
  const body = typeof request.body === 'function' ? request.body() : request.body;
  const isStream = body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array);
  return {
    method: request.method ?? 'GET',
    headers,
    redirect: request.redirect ?? 'manual',
    ...(body === undefined ? {} : { body }),
    ...(isStream ? { duplex: 'half' as const } : {}),
    ...(signal === undefined ? {} : { signal }),
  };
}

/**
 * A signal that is aborted with the caller's, or after `ms` unless `clear` came first. The caller's signal stays
 * connected after `clear`, as it must still stop a response body that streams.
 */
function createLimit(ms: number, outer: AbortSignal | undefined) {
  if (ms === 0) return { signal: outer, clear: () => {}, isExpired: () => false };
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(new Error(`no answer within ${ms} ms`)), ms);
  const signal = outer === undefined ? controller.signal : AbortSignal.any([outer, controller.signal]);
  return { signal, clear: () => clearTimeout(timer), isExpired: () => controller.signal.aborted };
}

/** Node and Bun hide the useful words in `cause`. */
function describeNetworkError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const inner = error.cause instanceof Error ? error.cause : error;
  const code = (inner as { code?: unknown }).code;
  const text = inner.message === '' ? inner.name : inner.message;
  return typeof code === 'string' && !text.includes(code) ? `${text} (${code})` : text;
}
