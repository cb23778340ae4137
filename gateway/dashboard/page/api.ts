/**
 * The control API as the page needs it. The token lives in sessionStorage of this origin, on which nothing but the
 * dashboard is served; it is sent in a header, never in a URL or cookie.
 */
import type { Problem } from '../../../sdk/protocol/errors.ts';

const TOKEN = 'skiff-token';

export function readToken(): string | undefined {
  return sessionStorage.getItem(TOKEN) ?? undefined;
}

export function keepToken(token: string | undefined): void {
  if (token === undefined) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface Api {
  get<T>(path: string, signal?: AbortSignal): Promise<T>;
  put<T>(path: string, body: unknown): Promise<T>;
  post<T>(path: string, body?: unknown): Promise<T>;
  /** Values of a stream of JSON lines or server-sent events, until it ends or `signal` is aborted. */
  follow<T>(path: string, signal: AbortSignal, onValue: (value: T) => void): Promise<void>;
}

export function createApi(token: string): Api {
  async function send(path: string, init: RequestInit = {}): Promise<Response> {
    const response = await fetch(path, {
      ...init,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      credentials: 'omit',
      cache: 'no-store',
    });
    if (response.ok) return response;
    const text = await response.text();
    throw new ApiError(response.status, readDetail(text) ?? `status ${response.status}`);
  }
  return {
    get: async <T>(path: string, signal?: AbortSignal) =>
      (await send(path, signal ? { signal } : {})).json() as Promise<T>,
    put: async <T>(path: string, body: unknown) =>
      (await send(path, { method: 'PUT', body: JSON.stringify(body) })).json() as Promise<T>,
    post: async <T>(path: string, body?: unknown) => {
      const response = await send(path, {
        method: 'POST',
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return (text === '' ? undefined : JSON.parse(text)) as T;
    },
    async follow<T>(path: string, signal: AbortSignal, onValue: (value: T) => void) {
      const { body } = await send(path, { signal });
      const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
      let pending = '';
      for (;;) {
        const part = await reader?.read();
        if (!part || part.done) return;
        const lines = (pending + part.value).split('\n');
        pending = lines.pop() ?? '';
        for (const line of lines) {
          const json = line.startsWith('data: ') ? line.slice('data: '.length) : line;
          if (json.startsWith('{')) onValue(JSON.parse(json) as T);
        }
      }
    },
  };
}

function readDetail(text: string): string | undefined {
  try {
    return (JSON.parse(text) as Problem).detail;
  } catch {
    return undefined;
  }
}
