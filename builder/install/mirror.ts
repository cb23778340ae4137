/**
 * The only way out of an install sandbox: a read-only view of one package registry on a unix socket, one session for
 * each install. TLS, host certificates and registry credentials stay here, on our side; the sandbox speaks plain HTTP
 * to a socket and cannot name another host, write, or reach the registry's account endpoints.
 * Package files never change once published, so they are kept on disk and shared by all installs. That is safe because
 * only the registry's answers get in, and npm and pip check each against the digest they were told for it.
 * Deliberately absent: which paths there are; npm/mirror.ts and pip/mirror.ts know.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { Agent, type Dispatcher, request } from 'undici';
import type { Log } from '../../infra/lib/log.ts';
import { DEPENDENCIES_DOWNLOAD_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import type { TarballCache } from './tarball-cache.ts';

export interface MirrorOptions {
  /** Base URL of the registry; a user and password in it are sent as Basic credentials. */
  readonly registry: string;
  /** PEM certificates to trust beside the usual ones. */
  readonly certificates?: readonly string[] | undefined;
  readonly cache: TarballCache;
  readonly log: Log;
}

export interface MirrorSession {
  /** Downloaded and served from the cache so far. */
  readonly bytes: number;
  /** What the registry answered badly, for the build log: `404 /left-padd`. */
  readonly problems: readonly string[];
  /** Forgets the tarballs of this session: their digests did not match. */
  forget(): Promise<void>;
  close(): Promise<void>;
}

const REQUEST_MS_MAX = 60_000;
const REDIRECTS_MAX = 3;
const PROBLEMS_KEPT = 20;
const PASSED_HEADERS = [
  'content-type',
  'content-length',
  'content-encoding',
  'etag',
  'last-modified',
  'cache-control',
];
export abstract class Mirror {
  readonly #options: MirrorOptions;
  protected readonly base: URL;
  readonly #credentials: string | undefined;
  readonly #agent: Agent;

  constructor(options: MirrorOptions) {
    this.#options = options;
    this.base = new URL(options.registry.endsWith('/') ? options.registry : `${options.registry}/`);
    if (this.base.username !== '') {
      const pair = `${decodeURIComponent(this.base.username)}:${decodeURIComponent(this.base.password)}`;
      this.#credentials = `Basic ${Buffer.from(pair).toString('base64')}`;
    }
    const { certificates } = options;
    this.#agent = new Agent({
      connections: 16,
      headersTimeout: REQUEST_MS_MAX,
      bodyTimeout: REQUEST_MS_MAX,
      ...(certificates ? { connect: { ca: [...certificates] } } : {}),
    });
  }

  /** Listens on `socketPath` until the session is closed. */
  async open(socketPath: string): Promise<MirrorSession> {
    const state: SessionState = { bytes: 0, problems: [], cached: new Set(), answering: new Set() };
    const server = createServer((incoming, outgoing) => {
      const answer = this.answer(incoming, outgoing, state).catch((error: unknown) => {
        this.#options.log.warn({ error, path: incoming.url }, 'the package registry could not be asked');
        note(state.problems, `no answer ${incoming.url}${describeCode(error)}`);
        if (outgoing.headersSent) outgoing.destroy();
        else outgoing.writeHead(502).end();
      });
      state.answering.add(answer);
      void answer.then(() => state.answering.delete(answer));
    });
    server.listen(socketPath);
    await once(server, 'listening');
    return {
      get bytes() {
        return state.bytes;
      },
      problems: state.problems,
      forget: async () => {
        // The reader may have ended before we kept what it read.
        await Promise.all(state.answering);
        for (const path of state.cached) await this.#options.cache.remove(path);
      },
      close: () => closeServer(server),
    };
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  /** Answers one request; a rejection becomes 502. */
  protected abstract answer(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    state: SessionState,
  ): Promise<void>;

  /** Ends a request that is not allowed, or comes after too many bytes. */
  protected refuse(incoming: IncomingMessage, outgoing: ServerResponse, state: SessionState): boolean {
    if (state.bytes <= DEPENDENCIES_DOWNLOAD_BYTES_MAX) return false;
    note(state.problems, `more than ${DEPENDENCIES_DOWNLOAD_BYTES_MAX} bytes of packages`);
    outgoing.writeHead(413).end();
    incoming.resume();
    return true;
  }

  protected forbid(incoming: IncomingMessage, outgoing: ServerResponse, state: SessionState): void {
    note(state.problems, `refused ${incoming.method} ${incoming.url}`);
    outgoing.writeHead(403).end();
  }

  /** A file that never changes: from the cache, or from the registry and kept. */
  protected async passFile(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    url: URL,
    state: SessionState,
  ): Promise<void> {
    const cached = incoming.method === 'GET' ? await this.#options.cache.tryOpen(url.pathname) : undefined;
    if (!cached) return this.pass(incoming, outgoing, url, state, incoming.method === 'GET');
    outgoing.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': cached.bytes });
    await pipeline(cached.stream, count(state), outgoing);
    state.cached.add(url.pathname);
  }

  protected async pass(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    url: URL,
    state: SessionState,
    isFile = false,
  ): Promise<void> {
    const reply = await this.send(
      incoming.method as 'GET' | 'HEAD',
      url,
      pickHeaders(incoming.headers, ['accept', 'accept-encoding', 'if-none-match']),
    );
    if (reply.statusCode >= 400) note(state.problems, `${reply.statusCode} ${incoming.url}`);
    outgoing.writeHead(reply.statusCode, pickHeaders(reply.headers, PASSED_HEADERS));
    const isKept = isFile && reply.statusCode === 200 && reply.headers['content-encoding'] === undefined;
    if (!isKept) return pipeline(reply.body, count(state), outgoing);
    const length = reply.headers['content-length'];
    await this.#options.cache.keep(
      url.pathname,
      length === undefined ? undefined : Number(length),
      reply.body,
      async (chunks) => {
        await pipeline(Readable.from(chunks), count(state), outgoing);
      },
    );
    state.cached.add(url.pathname);
  }

  /** Follows redirects by itself, so that credentials go to the registry's own host only. */
  protected async send(
    method: 'GET' | 'HEAD',
    url: URL,
    headers: Record<string, string>,
  ): Promise<Dispatcher.ResponseData> {
    let at = url;
    for (let redirects = 0; ; redirects++) {
      const isHome = at.origin === this.base.origin;
      const authorization =
        isHome && this.#credentials !== undefined ? { authorization: this.#credentials } : {};
      const target = new URL(at);
      target.username = target.password = '';
      const reply = await request(target, {
        method,
        headers: { ...headers, ...authorization },
        dispatcher: this.#agent,
      });
      const location = reply.headers['location'];
      if (
        reply.statusCode < 300 ||
        reply.statusCode >= 400 ||
        typeof location !== 'string' ||
        redirects >= REDIRECTS_MAX
      )
        return reply;
      await reply.body.dump();
      at = new URL(location, at);
      if (at.protocol !== 'https:' && at.origin !== this.base.origin)
        throw new Error(`redirect to ${at.origin}, which is not encrypted`);
    }
  }
}

export interface SessionState {
  bytes: number;
  readonly problems: string[];
  readonly cached: Set<string>;
  readonly answering: Set<Promise<void>>;
}

function count(state: SessionState) {
  return async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      state.bytes += chunk.length;
      if (state.bytes > DEPENDENCIES_DOWNLOAD_BYTES_MAX) {
        note(state.problems, `more than ${DEPENDENCIES_DOWNLOAD_BYTES_MAX} bytes of packages`);
        throw new Error('too many bytes for one install');
      }
      yield chunk;
    }
  };
}

export function note(problems: string[], text: string): void {
  if (problems.length < PROBLEMS_KEPT) problems.push(text.slice(0, 300));
}

function pickHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  names: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
}

async function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  if (server.listening) await once(server, 'close');
}

/** Such as ECONNREFUSED or SELF_SIGNED_CERT_IN_CHAIN; a message could name what only the operator may know. */
function describeCode(error: unknown): string {
  const { code } = error as { readonly code?: unknown };
  return typeof code === 'string' ? `: ${code}` : '';
}
