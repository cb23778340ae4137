/**
 * The gateway's end of the links: finds runners in the fast Redis, keeps one framed connection to each that is alive,
 * and notices when one is gone.
 * Invariant: a runner is used only while its heartbeat is fresh and its link is open; when either ends, `onGone` is
 * called once for that runner and everything that was sent there gets its outcome.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Socket } from 'node:net';
import type { Redis } from 'ioredis';
import type { NodeRecord } from '../../sdk/protocol/api.ts';
import { FrameType, parseJson, type Frame } from '../../sdk/protocol/frame.ts';
import { agreeOn, describeSpoken, LINK_SPOKEN, type Spoken } from '../../sdk/protocol/versions.ts';
import { HEARTBEAT_MS, RUNNER_DEAD_MS, RUNNER_LOOK_MS } from '../../sdk/protocol/limits.ts';
import { fast } from '../../infra/contract/keys.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import type { Log } from '../../infra/lib/log.ts';
import { FrameConnection } from '../../infra/link/connection.ts';
import { isRemote, openLinkSocket } from '../../infra/link/open-socket.ts';

export interface RunnerLink {
  readonly runner: string;
  readonly epoch: string;
  readonly connection: FrameConnection;
  isReady: boolean;
}

export interface LinksOptions {
  readonly gateway: string;
  readonly redis: Redis;
  /** A connection of its own, for pub/sub. */
  readonly subscriber: Redis;
  readonly log: Log;
  /** Of this host: runners whose socket is in there are reached without a network. */
  readonly runDir: string;
  /** Certificates for runners on other hosts. */
  readonly identityDir: string;
  onFrame(runner: string, frame: Frame): void;
  onGone(runner: string): void;
  /** A link stands. */
  onReady(): void;
}

const LINK_POLL_MS = 20;
const LINK_MS_MAX = 1_500;
/** How long a link may take to stand before its runner counts as out of reach. */
const CONNECT_MS = 1_000;

export class Links {
  readonly #options: LinksOptions;
  readonly #links = new Map<string, RunnerLink>();
  /** Runners that live and that have no link, and since when. */
  readonly #unlinked = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #isScanning = false;

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  async open(): Promise<void> {
    const { subscriber, log } = this.#options;
    subscriber.on('message', (channel) => {
      if (channel === fast.runners) this.#scanSoon();
    });
    await subscriber.subscribe(fast.runners);
    await this.#scan().catch((error: unknown) => log.warn({ error }, 'runners could not be listed'));
    this.#timer = setInterval(() => this.#scanSoon(), RUNNER_LOOK_MS);
  }

  get(runner: string): FrameConnection | undefined {
    const link = this.#links.get(runner);
    return link?.isReady ? link.connection : undefined;
  }

  /**
   * Calls `onLate` when there is no link to this runner, and none comes up. This process or the runner may be new: the
   * runner waits for the link of a gateway it does not know, and so do we, a little less long.
   */
  ensure(runner: string, onLate: (runner: string) => void): void {
    if (this.get(runner) === undefined) void this.#await(runner, onLate);
  }

  async #await(runner: string, onLate: (runner: string) => void): Promise<void> {
    const deadline = performance.now() + LINK_MS_MAX;
    while (this.get(runner) === undefined) {
      if (performance.now() > deadline) return onLate(runner);
      this.#scanSoon();
      await delay(LINK_POLL_MS);
    }
  }

  /** Runners that say that they live and that this gateway cannot reach, as `|a|b|`; '' for none. */
  get unreachable(): string {
    if (this.#unlinked.size === 0) return '';
    const now = performance.now();
    const ids = [...this.#unlinked].filter(([, sinceAt]) => now - sinceAt > CONNECT_MS).map(([id]) => id);
    return ids.length === 0 ? '' : `|${ids.join('|')}|`;
  }

  get count(): number {
    return this.#links.size;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const link of this.#links.values()) link.connection.close();
  }

  #scanSoon(): void {
    if (this.#isScanning) return;
    this.#isScanning = true;
    this.#scan()
      .catch(() => {
        // Redis is away. Links that are open stay: leased slots go on working.
      })
      .finally(() => (this.#isScanning = false));
  }

  async #scan(): Promise<void> {
    const { redis } = this.#options;
    const ids = await redis.zrange(fast.nodes, 0, '-1');
    if (ids.length === 0) this.#unlinked.clear();
    if (ids.length === 0) return this.#keepOnly(new Map());
    const epochs = await redis.mget(ids.map(cellsOf(redis).first.fast.alive));
    const alive = new Map(ids.flatMap((id, i) => (epochs[i] ? [[id, epochs[i]] as const] : [])));
    this.#keepOnly(alive);
    for (const id of this.#unlinked.keys()) if (!alive.has(id)) this.#unlinked.delete(id);
    // Only those: looks are frequent, and records are many and large.
    const fresh = [...alive].filter(([id]) => !this.#links.has(id));
    if (fresh.length === 0) return;
    const records = await redis.mget(fresh.map(([id]) => fast.node(id)));
    for (const [i, [id, epoch]] of fresh.entries()) {
      const record = records[i];
      if (record && !this.#links.has(id)) this.#connect({ ...(JSON.parse(record) as NodeRecord), epoch });
    }
  }

  #keepOnly(alive: ReadonlyMap<string, string>): void {
    for (const link of this.#links.values()) {
      if (alive.get(link.runner) !== link.epoch)
        link.connection.close(new Error('the runner gave no sign of life'));
    }
  }

  #connect(node: NodeRecord): void {
    if (!this.#unlinked.has(node.id)) this.#unlinked.set(node.id, performance.now());
    const { gateway, log } = this.#options;
    const socket = this.#tryOpen(node);
    if (!socket) return;
    const connection: FrameConnection = new FrameConnection(socket, {
      onFrame: (frame) => {
        if (frame.type === FrameType.HELLO) this.#onHello(link, frame);
        else this.#options.onFrame(node.id, frame);
      },
      onClose: (error) => {
        if (this.#links.get(node.id) === link) this.#links.delete(node.id);
        // One that stood and broke is not counted on from now; a new one gets a moment to stand.
        if (link.isReady) this.#unlinked.set(node.id, Number.NEGATIVE_INFINITY);
        log.info({ runner: node.id, error }, 'link closed');
        this.#options.onGone(node.id);
        // One that never stood is tried again at the next look, not in a circle.
        if (link.isReady) this.#scanSoon();
      },
    });
    const link: RunnerLink = { runner: node.id, epoch: node.epoch, connection, isReady: false };
    this.#links.set(node.id, link);
    connection.sendJson(FrameType.HELLO, 0, {
      ...LINK_SPOKEN,
      role: 'gateway',
      id: gateway,
      nowMs: Date.now(),
    });
    if (isRemote(node, this.#options.runDir)) this.#watch(link);
  }

  #tryOpen(node: NodeRecord): Socket | undefined {
    try {
      return openLinkSocket(node, this.#options);
    } catch (error) {
      // No certificate, or none that can be read: the runner is tried again at the next look.
      this.#options.log.warn({ error, runner: node.id }, 'no link to this runner');
      return undefined;
    }
  }

  /** A network that swallows everything closes nothing: who does not answer in time is gone for us. */
  #watch(link: RunnerLink): void {
    let heardAt = performance.now();
    let askedAt = Number.NEGATIVE_INFINITY;
    link.connection.socket.on('data', () => (heardAt = performance.now()));
    const timer = setInterval(() => {
      if (link.connection.isClosed) return clearInterval(timer);
      const now = performance.now();
      if (now - heardAt > RUNNER_DEAD_MS)
        return link.connection.close(new Error(`nothing heard for ${RUNNER_DEAD_MS} ms`));
      if (now - askedAt < HEARTBEAT_MS - RUNNER_LOOK_MS / 2) return;
      askedAt = now;
      link.connection.sendJson(FrameType.PING, 0, { nowMs: Date.now() });
    }, RUNNER_LOOK_MS);
    timer.unref();
  }

  #onHello(link: RunnerLink, frame: Frame): void {
    const hello = parseJson(frame.payload) as Partial<Spoken> | null;
    if (agreeOn(LINK_SPOKEN, hello) !== undefined) {
      link.isReady = true;
      this.#unlinked.delete(link.runner);
      this.#options.onReady();
    } else
      link.connection.close(
        new Error(
          `the runner speaks link protocol ${describeSpoken(hello)}, this gateway ${describeSpoken(LINK_SPOKEN)}; upgrade the older one`,
        ),
      );
  }
}
