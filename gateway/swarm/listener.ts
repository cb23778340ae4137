/**
 * The swarm port of a manager: joining, renewing, leaving, and the way of nodes to the registry. TLS 1.3 only.
 * Invariants: all but joining needs a certificate of this swarm whose node is a member now; a worker can fetch images
 * and nothing else. The registry's own password never leaves this host.
 */
import { once } from 'node:events';
import { request as requestHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, request as requestHttps, type Server } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { TlsOptions } from '../../infra/oci/transfer/transport.ts';
import { pipeline } from 'node:stream/promises';
import type { z } from 'zod';
import { createProblem, SkiffError } from '../../sdk/protocol/errors.ts';
import { API_BODY_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { describeIssues } from '../../sdk/protocol/manifest.ts';
import { JoinRequest, RenewRequest } from '../../sdk/protocol/swarm/resources.ts';
import type { Admission } from '../../infra/swarm/admission.ts';
import { tryReadIdentity, type PeerIdentity } from '../../infra/swarm/certificates.ts';
import { serverTls, swarmPorts, tryReadNode } from '../../infra/swarm/identity.ts';
import type { Members } from '../../infra/swarm/members.ts';
import type { Log } from '../../infra/lib/log.ts';
import { classify } from '../middleware/problem.ts';

export interface SwarmListenerOptions {
  readonly identityDir: string;
  readonly members: Pick<Members, 'has'>;
  readonly admission: Admission;
  readonly registry: {
    readonly url: string;
    /** Value of the Authorization header. */
    readonly authorization?: string | undefined;
    readonly tls?: TlsOptions | undefined;
  };
  readonly log: Log;
}

/** What a worker fetches: images of functions, and what they are built on. */
const WORKER_PATH =
  /^\/v2\/(?:$|(?:functions\/[^/]+|skiff\/(?!source\/|payloads\/)[^/]+)\/(?:manifests|blobs)\/)/;
/** Of the answer of the registry: it commits a large blob before it says so. */
const REGISTRY_MS_MAX = 60_000;
const HOP_HEADERS = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'authorization',
  'te',
  'upgrade',
]);

export class SwarmListener {
  readonly #options: SwarmListenerOptions;
  #server: Server | undefined;

  constructor(options: SwarmListenerOptions) {
    this.#options = options;
  }

  /** Listens if this host is a manager; to be called again when that, or its certificate, may have changed. */
  async open(): Promise<void> {
    const { identityDir, log } = this.#options;
    const node = tryReadNode(identityDir);
    if (node?.role !== 'manager') return this.close();
    if (this.#server) {
      this.#server.setSecureContext(serverTls(identityDir));
      return;
    }
    const server = createServer(
      { ...serverTls(identityDir), requestCert: true, rejectUnauthorized: false },
      (request, response) => void this.#handle(request, response),
    );
    server.listen(swarmPorts(node.port).join, node.address);
    this.#server = server;
    await once(server, 'listening');
    log.info({ address: node.address, port: swarmPorts(node.port).join }, 'nodes can join');
  }

  close(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
    this.#server = undefined;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const path = (request.url ?? '/').split('?')[0] as string;
      const { admission } = this.#options;
      if (request.method === 'POST' && path === '/swarm/join') {
        const from = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
        return writeJson(response, 201, await admission.join(await readBody(request, JoinRequest), from));
      }
      const peer = await this.#authenticate(request.socket as TLSSocket);
      if (path.startsWith('/v2/')) return await this.#forward(peer, path, request, response);
      if (request.method === 'POST' && path === '/swarm/renew') {
        const { publicKey } = await readBody(request, RenewRequest);
        return writeJson(response, 200, await admission.renew(peer.nodeId, publicKey));
      }
      if (request.method === 'POST' && path === '/swarm/keys')
        return writeJson(response, 200, { secretKeys: admission.readSecretKeys() });
      if (request.method === 'POST' && path === '/swarm/leave') {
        await admission.remove(peer.nodeId);
        return writeJson(response, 200, {});
      }
      throw new SkiffError('NOT_FOUND', `there is no ${request.method} ${path} on the swarm port`);
    } catch (error) {
      this.#fail(error, response);
    }
  }

  async #authenticate(socket: TLSSocket): Promise<PeerIdentity> {
    const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
    const peer = certificate && tryReadIdentity(certificate);
    if (!peer) throw new SkiffError('UNAUTHENTICATED', 'this needs the certificate of a node of this swarm');
    if (!(await this.#options.members.has(peer.nodeId)))
      throw new SkiffError('FORBIDDEN', `node ${peer.nodeId} was removed from this swarm`);
    return peer;
  }

  async #forward(
    peer: PeerIdentity,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (peer.role !== 'manager' && !(isRead && WORKER_PATH.test(path)))
      throw new SkiffError('FORBIDDEN', `a worker cannot ${request.method} ${path}; it can fetch images`);
    const { url, authorization, tls } = this.#options.registry;
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !HOP_HEADERS.has(name)),
    );
    const send = url.startsWith('https:') ? requestHttps : requestHttp;
    const upstream = send(new URL(request.url ?? '/', url), {
      method: request.method,
      // Its links to itself must lead through here: hence the host as the node knows it.
      headers: {
        ...headers,
        'x-forwarded-proto': 'https',
        ...(authorization === undefined ? {} : { authorization }),
      },
      timeout: REGISTRY_MS_MAX,
      ...tls,
    });
    upstream.on('timeout', () => upstream.destroy(new Error('the registry did not answer in time')));
    response.on('close', () => upstream.destroy());
    const answered = once(upstream, 'response') as Promise<[IncomingMessage]>;
    if (isRead) upstream.end();
    else await Promise.all([answered, pipeline(request, upstream)]);
    const [answer] = await answered;
    const kept = Object.entries(answer.headers).filter(([name]) => !HOP_HEADERS.has(name));
    response.writeHead(answer.statusCode ?? 502, Object.fromEntries(kept));
    await pipeline(answer, response);
  }

  #fail(error: unknown, response: ServerResponse): void {
    const known = classify(error);
    if (known.row.fault === 'platform') this.#options.log.warn({ error }, 'a request of a node failed');
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const problem = createProblem(known.code, known.message);
    response
      .writeHead(problem.status, { 'content-type': 'application/problem+json' })
      .end(JSON.stringify(problem));
  }
}

function writeJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

async function readBody<Schema extends z.ZodType>(
  request: IncomingMessage,
  schema: Schema,
): Promise<z.output<Schema>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > API_BODY_BYTES_MAX)
      throw new SkiffError('BODY_TOO_LARGE', `the body is larger than ${API_BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new SkiffError('BAD_REQUEST', 'the body is not JSON', { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new SkiffError('BAD_REQUEST', describeIssues(parsed.error, 'body'));
}
