/**
 * The runner's end of the links: gateways connect, say who they are, and from then on answers of their invocations
 * go to them here.
 * Invariant: one link for each gateway id; a newer one replaces an older one. When a link ends, everything that
 * runs for its gateway is cancelled: nobody waits for it any more.
 */
import type { Server, Socket } from 'node:net';
import { LRUCache } from 'lru-cache';
import { FrameType, parseJson, type Frame } from '../../sdk/protocol/frame.ts';
import { StreamTable } from '../../sdk/protocol/stream-table.ts';
import { agreeOn, describeSpoken, LINK_SPOKEN, type Spoken } from '../../sdk/protocol/versions.ts';
import { FrameConnection } from '../../infra/link/connection.ts';
import type { Log } from '../../infra/lib/log.ts';
import { skewOf } from '../../infra/lib/skew.ts';
import { CallLine } from '../channel/call-line.ts';
import type { Invocation } from './invocation.ts';

export interface LinkHello extends Spoken {
  readonly role: 'gateway';
  readonly id: string;
  /** What its clock says. */
  readonly nowMs?: number;
}

const REFUSED_MAX = 10_000;

export class GatewayLink {
  readonly gateway: string;
  readonly connection: FrameConnection;
  readonly invocations = new StreamTable<Invocation>();
  /** Calls that functions here make to others. */
  readonly calls: CallLine;
  /** How far the gateway's clock is behind ours: to be added to its times. */
  skewMs = 0;
  /** `stream token` of calls that it was told are not begun here, and that must not be: it sends them elsewhere. */
  readonly refused = new LRUCache<string, true>({ max: REFUSED_MAX });

  constructor(gateway: string, connection: FrameConnection) {
    this.gateway = gateway;
    this.connection = connection;
    this.calls = new CallLine(connection);
  }
}

export interface LinksOptions {
  readonly log: Log;
  /** A leased call: REQUEST straight from a gateway. */
  onRequest(link: GatewayLink, frame: Frame): void;
  /** Whether a call has begun here. */
  onAsk(link: GatewayLink, frame: Frame): void;
}

const HELLO_MS_MAX = 5_000;
/** For so long work of a gateway is left to others after its link was waited for in vain. */
const MISSING_MS = 5_000;
const MISSING_MAX = 100;

export class Links {
  readonly #options: LinksOptions;
  readonly #links = new Map<string, GatewayLink>();
  readonly #waiters = new Set<() => void>();
  readonly #missing = new LRUCache<string, true>({ max: MISSING_MAX, ttl: MISSING_MS });

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** Serves a private unix socket. */
  serve(server: Server): void {
    server.on('connection', (socket) => this.accept(socket));
  }

  get(gateway: string): GatewayLink | undefined {
    return this.#links.get(gateway);
  }

  /** A gateway that is new may have sent work before it reached us: wait a moment for its link. */
  async waitFor(gateway: string, ms: number): Promise<GatewayLink | undefined> {
    const deadline = Date.now() + ms;
    while (!this.#links.has(gateway) && Date.now() < deadline) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, deadline - Date.now());
      this.#waiters.add(resolve);
      await promise;
      clearTimeout(timer);
      this.#waiters.delete(resolve);
    }
    const link = this.#links.get(gateway);
    if (!link) this.#missing.set(gateway, true);
    return link;
  }

  /** Gateways whose links did not come, as `|a|b|`; '' for none. */
  get unreachable(): string {
    if (this.#missing.size === 0) return '';
    const ids = [...this.#missing.keys()].filter((id) => !this.#links.has(id));
    return ids.length === 0 ? '' : `|${ids.join('|')}|`;
  }

  *invocations(): IterableIterator<Invocation> {
    for (const link of this.#links.values()) yield* link.invocations.values();
  }

  get inFlight(): number {
    let count = 0;
    for (const link of this.#links.values()) count += link.invocations.size;
    return count;
  }

  close(): void {
    for (const link of this.#links.values()) link.connection.close();
  }

  /** Takes a connection of somebody who is known to be a gateway. */
  accept(socket: Socket): void {
    let link: GatewayLink | undefined;
    const timer = setTimeout(() => connection.close(new Error('no HELLO in time')), HELLO_MS_MAX);
    const connection: FrameConnection = new FrameConnection(socket, {
      onFrame: (frame) => {
        if (link) return this.#onFrame(link, frame);
        clearTimeout(timer);
        link = this.#greet(connection, frame);
      },
      onClose: (error) => {
        clearTimeout(timer);
        if (error) this.#options.log.warn({ error, gateway: link?.gateway }, 'link failed');
        if (link) this.#drop(link);
      },
    });
  }

  #greet(connection: FrameConnection, frame: Frame): GatewayLink | undefined {
    const hello = (frame.type === FrameType.HELLO ? parseJson(frame.payload) : undefined) as
      | Partial<LinkHello>
      | undefined;
    if (agreeOn(LINK_SPOKEN, hello) === undefined || typeof hello?.id !== 'string') {
      connection.close(
        new Error(
          `a peer speaks link protocol ${describeSpoken(hello)}, this runner ${describeSpoken(LINK_SPOKEN)}; upgrade the older one`,
        ),
      );
      return undefined;
    }
    const link = new GatewayLink(hello.id, connection);
    link.skewMs = skewOf(hello.nowMs);
    this.#links.get(hello.id)?.connection.close();
    this.#links.set(hello.id, link);
    connection.sendJson(FrameType.HELLO, 0, { ...LINK_SPOKEN, role: 'runner' });
    for (const wake of this.#waiters) wake();
    return link;
  }

  #onFrame(link: GatewayLink, frame: Frame): void {
    if (frame.type === FrameType.REQUEST) this.#options.onRequest(link, frame);
    else if (frame.type === FrameType.ASK) this.#options.onAsk(link, frame);
    else if (frame.type === FrameType.PING) this.#onPing(link, frame);
    else if (frame.type >= FrameType.CALL) link.calls.onFrame(frame);
    else link.invocations.get(frame.stream)?.onLinkFrame(frame);
  }

  #onPing(link: GatewayLink, { payload }: Frame): void {
    if (payload.length > 0) link.skewMs = skewOf((parseJson(payload) as { nowMs?: number } | null)?.nowMs);
    link.connection.send(FrameType.PONG, 0);
  }

  #drop(link: GatewayLink): void {
    if (this.#links.get(link.gateway) === link) this.#links.delete(link.gateway);
    for (const invocation of link.invocations.values()) invocation.cancel('the gateway is gone', {});
    link.calls.end();
  }
}
