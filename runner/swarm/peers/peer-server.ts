/**
 * Gives other nodes of the swarm what this one has of images, as a registry would: GET of blobs and manifests by digest,
 * HTTP/1.1 on connections that LinkServer has taken.
 * Invariant: only members get anything, asked anew for every request; nothing but image layers and documents of the store
 * is here to be had, which every member may fetch from the registry as well. Uploads are few, paced and bounded in time.
 * Deliberately absent: tags, uploads to here, ranges (whoever is cut off asks the next).
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import type { Log } from '../../../infra/lib/log.ts';
import { isDigest } from '../../../infra/oci/digest.ts';
import type { LayerStore } from '../../../infra/oci/store.ts';
import type { UploadPace } from './upload-pace.ts';

export interface PeerServerOptions {
  readonly store: Pick<LayerStore, 'findKept' | 'dropKept'>;
  readonly pace: UploadPace;
  isMember(nodeId: string): Promise<boolean>;
  readonly log: Log;
}

const PATH = /^\/v2\/[a-z0-9/._-]{1,255}\/(?:blobs|manifests)\/(sha256:[0-9a-f]{64})$/;
const CHUNK_BYTES = 64 * 1024;
/** While the layer that is asked for is on its way to here. */
const HOLD_MS_MAX = 15_000;
const HELD_MAX = 64;
/** A reader that takes nothing for so long is given up, and so is one that is slower than this on the whole. */
const IDLE_MS_MAX = 5_000;
const RATE_MIN_BYTES_PER_MS = 512;
/** More are told to come back, and many more are not even told. */
const CONNECTIONS_PER_NODE_MAX = 8;
const CONNECTIONS_PER_NODE_TOLD_MAX = 32;
const CONNECTION_IDLE_MS = 15_000;
/** Without a byte either way, also before a first request: longer than anybody is held. */
const SILENT_MS_MAX = 20_000;

export class PeerServer {
  readonly #options: PeerServerOptions;
  readonly #server: Server;
  readonly #nodes = new WeakMap<object, { readonly nodeId: string; readonly isOneTooMany: boolean }>();
  readonly #connections = new Map<string, number>();
  #held = 0;
  readonly given = { count: 0, bytes: 0 };

  constructor(options: PeerServerOptions) {
    this.#options = options;
    this.#server = createServer(
      { keepAliveTimeout: CONNECTION_IDLE_MS, maxHeaderSize: 8 * 1024 },
      (request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          options.log.debug({ error }, 'an upload to another node was not finished');
          response.destroy();
        });
      },
    );
    this.#server.setTimeout(SILENT_MS_MAX);
  }

  /** A connection of a member of this swarm. */
  accept(socket: TLSSocket, nodeId: string): void {
    const open = this.#connections.get(nodeId) ?? 0;
    if (open >= CONNECTIONS_PER_NODE_TOLD_MAX) {
      socket.destroy();
      return;
    }
    this.#connections.set(nodeId, open + 1);
    socket.once('close', () => {
      const left = (this.#connections.get(nodeId) ?? 0) - 1;
      if (left > 0) this.#connections.set(nodeId, left);
      else this.#connections.delete(nodeId);
    });
    this.#nodes.set(socket, { nodeId, isOneTooMany: open >= CONNECTIONS_PER_NODE_MAX });
    this.#server.emit('connection', socket);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const node = this.#nodes.get(request.socket);
    if (node === undefined || !(await this.#options.isMember(node.nodeId))) {
      request.socket.destroy();
      return;
    }
    if (node.isOneTooMany) {
      response.shouldKeepAlive = false;
      return end(response, 503);
    }
    const digest = PATH.exec(request.url ?? '')?.[1];
    if (request.method !== 'GET') return end(response, 405);
    if (digest === undefined || !isDigest(digest)) return end(response, 404);
    const kept = await this.#find(digest);
    if (!kept) return end(response, 404);
    if (kept.kind === 'document') {
      const { bytes, mediaType } = kept.document;
      response.writeHead(200, { 'content-type': mediaType, 'content-length': bytes.length }).end(bytes);
      return;
    }
    const release = this.#options.pace.tryBegin(node.nodeId);
    if (!release) return end(response, 503);
    try {
      await this.#upload(digest, kept, response);
    } finally {
      release();
    }
  }

  /** What is on its way to here is waited for. */
  async #find(digest: string): Promise<Awaited<ReturnType<LayerStore['findKept']>>> {
    if (this.#held >= HELD_MAX) return undefined;
    this.#held++;
    const stop = new AbortController();
    try {
      return await Promise.race([
        this.#options.store.findKept(digest),
        delay(HOLD_MS_MAX, undefined, { signal: stop.signal }),
      ]);
    } finally {
      this.#held--;
      stop.abort();
    }
  }

  async #upload(
    digest: string,
    { file, bytes }: { readonly file: string; readonly bytes: number },
    response: ServerResponse,
  ): Promise<void> {
    const { pace, store, log } = this.#options;
    const hasher = createHash('sha256');
    let sent = 0;
    const paced = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const chunk of chunks) {
        await pace.take(chunk.length);
        hasher.update(chunk);
        sent += chunk.length;
        yield chunk;
      }
    };
    response.setTimeout(IDLE_MS_MAX, () => response.destroy());
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes });
    const signal = AbortSignal.timeout(IDLE_MS_MAX + Math.ceil(bytes / RATE_MIN_BYTES_PER_MS));
    await pipeline(createReadStream(file, { highWaterMark: CHUNK_BYTES }), paced, response, { signal });
    this.given.count++;
    this.given.bytes += sent;
    if (`sha256:${hasher.digest('hex')}` === digest) return;
    log.warn(
      { digest },
      'a layer that is kept for other nodes was damaged on the disk; it is not given any more',
    );
    await store.dropKept(digest);
  }
}

function end(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-length': 0 }).end();
}
