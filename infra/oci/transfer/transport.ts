/**
 * HTTP to one registry: connection pool, authorization, redirects, retries, and one mapping of failures to
 * SkiffErrors. Invariant: credentials go to the registry's own origin only, and only requests that are safe to
 * send twice are sent twice. Deliberately absent: what the requests mean (push, pull, documents).
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionOptions } from 'node:tls';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { SkiffError, type ErrorCode } from '../../../sdk/protocol/errors.ts';
import { clip } from '../digest.ts';
import {
  createAuthorizer,
  readLimited,
  refused,
  tryParseChallenge,
  type Authorizer,
  type Credentials,
} from './auth.ts';

export type Reply = Dispatcher.ResponseData;
export type TlsOptions = Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'servername' | 'minVersion'>;

export interface Call {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with query below the registry's origin. */
  readonly path: string;
  /** `repository:<name>:<actions>` for token servers; empty for none. */
  readonly scope: string;
  /** Statuses that are answers; every other one becomes an error. */
  readonly expect: readonly number[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
}

/** How long somebody is waited for. */
export interface Patience {
  readonly connectMs: number;
  /** Until the head of an answer. */
  readonly answerMs: number;
  /** Between two parts of a body. */
  readonly idleMs: number;
  readonly retryDelaysMs: readonly number[];
  readonly connectionsMax: number;
}

export interface Transport {
  readonly url: URL;
  send(call: Call): Promise<Reply>;
  close(): Promise<void>;
}

const REGISTRY_PATIENCE: Patience = {
  connectMs: 3_000,
  // A registry commits a large blob between the last byte and its answer.
  answerMs: 60_000,
  idleMs: 30_000,
  retryDelaysMs: [100, 400],
  connectionsMax: 16,
};
const REDIRECTS_MAX = 5;
const ERROR_BODY_BYTES_MAX = 64 * 1024;
const RETRY_AFTER_MS_MAX = 2_000;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const BUSY = new Set([429, 502, 503, 504]);
/** Nobody is there: trying again at once cannot help, and whoever waits should learn it now. */
const ABSENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENOENT', 'UND_ERR_CONNECT_TIMEOUT']);

/** @throws SkiffError INVALID_CONFIG when the URL is not a bare http(s) origin. */
export function openTransport(
  url: string,
  credentials: Credentials | undefined,
  tls: TlsOptions = {},
  patience: Patience = REGISTRY_PATIENCE,
): Transport {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (!base || !/^https?:$/.test(base.protocol) || base.pathname !== '/' || base.search) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `registry URL "${clip(url)}" is not http(s)://host[:port] without a path`,
    );
  }
  const agent = new Agent({
    connections: patience.connectionsMax,
    pipelining: 1,
    allowH2: false,
    connect: createConnector(tls, patience.connectMs),
    headersTimeout: patience.answerMs,
    bodyTimeout: patience.idleMs,
  });
  const authorizer = createAuthorizer(agent, base, credentials);
  return {
    url: base,
    send: (call) => sendWithRetries(agent, base, authorizer, call, patience.retryDelaysMs),
    close: () => agent.destroy(),
  };
}

/** Options are read for each connection: a certificate may be renewed meanwhile. */
function createConnector(tls: TlsOptions, timeout: number): buildConnector.connector {
  return (options, callback) => buildConnector({ timeout, ...tls })(options, callback);
}

async function sendWithRetries(
  agent: Agent,
  base: URL,
  authorizer: Authorizer,
  call: Call,
  retryDelaysMs: readonly number[],
): Promise<Reply> {
  const isRepeatable = call.method !== 'PATCH' && (call.body === undefined || Buffer.isBuffer(call.body));
  for (let attempt = 0; ; attempt++) {
    const retryDelayMs = isRepeatable ? retryDelaysMs[attempt] : undefined;
    let reply: Reply;
    try {
      reply = await sendAuthorized(agent, base, authorizer, call);
    } catch (error) {
      if (error instanceof SkiffError || call.signal?.aborted) throw error;
      if (retryDelayMs === undefined || !isNetworkFailure(error) || ABSENT.has(codeOf(error))) {
        throw unreachable(base, error);
      }
      await delay(retryDelayMs, undefined, { signal: call.signal });
      continue;
    }
    if (call.expect.includes(reply.statusCode)) return reply;
    if (retryDelayMs !== undefined && BUSY.has(reply.statusCode)) {
      await reply.body.dump();
      await delay(Math.max(retryDelayMs, retryAfterMs(reply)), undefined, { signal: call.signal });
      continue;
    }
    throw await describeRefusal(base, call, reply);
  }
}

async function sendAuthorized(agent: Agent, base: URL, authorizer: Authorizer, call: Call): Promise<Reply> {
  const reply = await follow(agent, base, call, authorizer.known(call.scope));
  if (reply.statusCode !== 401) return reply;
  // A stream was partly consumed by the refused request: its caller opens the upload first, which earns the token.
  if (call.body !== undefined && !Buffer.isBuffer(call.body)) return reply;
  const headers = [reply.headers['www-authenticate'] ?? []].flat();
  await reply.body.dump();
  const challenge = headers.map(tryParseChallenge).find((found) => found !== undefined);
  if (!challenge) throw refused(base, 'it names no authentication that is known (Basic, Bearer)');
  return follow(agent, base, call, await authorizer.answer(challenge, call.scope));
}

async function follow(
  agent: Agent,
  base: URL,
  call: Call,
  authorization: string | undefined,
): Promise<Reply> {
  let url = new URL(call.path, base);
  for (let hop = 0; ; hop++) {
    const reply = await agent.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: call.method,
      headers: { ...call.headers, ...(authorization && url.origin === base.origin ? { authorization } : {}) },
      ...(call.body === undefined ? {} : { body: call.body as Buffer }),
      ...(call.signal ? { signal: call.signal } : {}),
    });
    const location = reply.headers['location'];
    const isRead = call.method === 'GET' || call.method === 'HEAD';
    if (!isRead || !REDIRECTS.has(reply.statusCode) || typeof location !== 'string') return reply;
    await reply.body.dump();
    const next = URL.canParse(location, url) ? new URL(location, url) : undefined;
    const isDowngrade = url.protocol === 'https:' && next?.protocol !== 'https:';
    if (!next || !/^https?:$/.test(next.protocol) || isDowngrade || hop >= REDIRECTS_MAX) {
      throw new SkiffError(
        'UNAVAILABLE',
        `registry ${base.origin} redirects to "${clip(location)}", which is not followed`,
      );
    }
    url = next;
  }
}

export function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? '');
}

/** The connection broke or stalled, as opposed to an answer that was not wanted or an error of the caller's stream. */
export function isNetworkFailure(error: unknown): boolean {
  if (error instanceof SkiffError) return false;
  return /^(?:E[A-Z_]+|UND_ERR_(?:SOCKET|CONNECT_TIMEOUT|HEADERS_TIMEOUT|BODY_TIMEOUT)|HPE_.*)$/.test(
    codeOf(error),
  );
}

export function unreachable(base: URL, cause: unknown): SkiffError {
  return new SkiffError(
    'UNAVAILABLE',
    `registry ${base.origin} cannot be reached (${codeOf(cause) || 'connection failed'}); check that it runs and SKIFF_REGISTRY_URL`,
    { cause },
  );
}

function retryAfterMs(reply: Reply): number {
  const seconds = Number(reply.headers['retry-after']);
  return Number.isFinite(seconds) ? Math.min(seconds * 1000, RETRY_AFTER_MS_MAX) : 0;
}

async function describeRefusal(base: URL, call: Call, reply: Reply): Promise<SkiffError> {
  const status = reply.statusCode;
  const { code, message } = await readProblem(reply);
  const what = `registry ${base.origin} answered ${status}${code ? ` ${code}` : ''} to ${call.method} ${clip(call.path, 200)}`;
  if (status === 401 || status === 403)
    return refused(base, `it answered ${status} to ${call.method} ${clip(call.path, 200)}`);
  const row: Record<number, ErrorCode> = { 404: 'NOT_FOUND', 413: 'BODY_TOO_LARGE', 429: 'UNAVAILABLE' };
  const kind: ErrorCode = row[status] ?? (status >= 500 ? 'UNAVAILABLE' : 'INTERNAL');
  return new SkiffError(kind, message ? `${what}: ${message}` : what, {
    details: { status, registryCode: code },
  });
}

/** First element of the distribution specification's error body; anything else counts as empty. */
async function readProblem(reply: Reply): Promise<{ code: string; message: string }> {
  try {
    const body = JSON.parse((await readLimited(reply.body, ERROR_BODY_BYTES_MAX)).toString('utf8'));
    const { code, message } = body.errors[0];
    return { code: clip(String(code ?? ''), 60), message: clip(String(message ?? ''), 200) };
  } catch {
    return { code: '', message: '' };
  }
}
