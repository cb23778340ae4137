/**
 * Listens for other hosts, once this host is in a swarm: for gateways, and for runners that want layers of images (who says
 * by ALPN that it speaks HTTP/1.1 is one of these). Invariant: a link is taken only from a manager, a connection for layers
 * from any node of this swarm (by its certificate) that is still a member (by the members' record); when it is removed,
 * its connections end. Deliberately absent: what is said on them (runner/invoke/links.ts, peers/peer-server.ts).
 */
import { once } from 'node:events';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { tryReadIdentity } from '../../infra/swarm/certificates.ts';
import { serverTls, swarmPorts, tryReadNode, type NodeFile } from '../../infra/swarm/identity.ts';
import type { Members } from '../../infra/swarm/members.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Links } from '../invoke/links.ts';
import type { PeerServer } from './peers/peer-server.ts';

export interface LinkServerOptions {
  readonly identityDir: string;
  /** Told to others in place of the node's address. */
  readonly host?: string | undefined;
  readonly links: Pick<Links, 'accept'>;
  readonly peers: Pick<PeerServer, 'accept'>;
  readonly members: Pick<Members, 'has'>;
  readonly log: Log;
}

const LAYERS = 'http/1.1';

export class LinkServer {
  readonly #options: LinkServerOptions;
  readonly #sockets = new Map<TLSSocket, string>();
  #server: Server | undefined;
  #node: NodeFile | undefined;

  constructor(options: LinkServerOptions) {
    this.#options = options;
  }

  get node(): NodeFile | undefined {
    return this.#node;
  }

  /** What other hosts connect to; undefined outside of a swarm. */
  get address(): string | undefined {
    if (!this.#node) return undefined;
    const host = this.#options.host ?? this.#node.address;
    return `tcp:${host.includes(':') ? `[${host}]` : host}:${swarmPorts(this.#node.port).link}`;
  }

  /** Listens if this host is in a swarm; to be called again when that may have changed. */
  async open(): Promise<void> {
    const node = tryReadNode(this.#options.identityDir);
    if (!node) return this.close();
    if (this.#server) {
      this.#server.setSecureContext(serverTls(this.#options.identityDir));
      return;
    }
    const server = createServer({
      ...serverTls(this.#options.identityDir),
      requestCert: true,
      rejectUnauthorized: true,
      noDelay: true,
      ALPNProtocols: [LAYERS],
    });
    server.on('secureConnection', (socket) => void this.#accept(socket));
    server.on('tlsClientError', (error) =>
      this.#options.log.warn({ error: error.message }, 'a stranger was refused a link'),
    );
    server.listen(swarmPorts(node.port).link, node.address);
    await once(server, 'listening');
    this.#server = server;
    this.#node = node;
    this.#options.log.info({ address: this.address }, 'links from other hosts are taken');
  }

  /** Ends the links of nodes that are members no more. */
  async review(): Promise<void> {
    for (const [socket, nodeId] of this.#sockets) if (!(await this.isMember(nodeId))) socket.destroy();
  }

  close(): void {
    this.#server?.close();
    for (const socket of this.#sockets.keys()) socket.destroy();
    this.#server = undefined;
    this.#node = undefined;
  }

  async #accept(socket: TLSSocket): Promise<void> {
    socket.on('error', () => {});
    const certificate = socket.getPeerX509Certificate();
    const peer = certificate && tryReadIdentity(certificate);
    const isForLayers = socket.alpnProtocol === LAYERS;
    const mayEnter = peer !== undefined && (isForLayers || peer.role === 'manager');
    if (!mayEnter || !(await this.isMember(peer.nodeId))) {
      this.#options.log.warn(
        { peer },
        isForLayers
          ? 'layers were refused: not a node of this swarm'
          : 'a link was refused: not a manager of this swarm',
      );
      socket.destroy();
      return;
    }
    this.#sockets.set(socket, peer.nodeId);
    socket.on('close', () => this.#sockets.delete(socket));
    if (socket.destroyed) return;
    if (isForLayers) this.#options.peers.accept(socket, peer.nodeId);
    else this.#options.links.accept(socket);
  }

  /** Who cannot be asked for is not let in. */
  async isMember(nodeId: string): Promise<boolean> {
    return this.#options.members.has(nodeId).catch(() => false);
  }
}
