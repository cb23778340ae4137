/**
 * Layers and documents of images from other nodes of the swarm, before the registry is asked:
 *
 *   1. Nodes that say they have it, one after the other. Busy ones are tried again, as every node that got it gives it on.
 *   2. Nobody has it: the first node that says so in the fast store fetches it from the registry, the others wait at its door.
 *   3. The registry, when that took too long; and if it is away, once more whoever has it, with more patience.
 *
 * Invariant: what a peer sends is taken only with the digest that was asked for; a peer that is slow, dead, wrong or lying
 * costs a bounded time and is left alone for a while. The fast store being away costs the order, not the layer.
 * Deliberately absent: who may fetch from here (peer-server.ts).
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { fast } from '../../../infra/contract/keys.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import type { PeerCall, PeerSource } from '../../../infra/oci/store/sources.ts';
import { isDigestMismatch } from '../../../infra/oci/transfer/pull.ts';
import { nodeName } from '../../../infra/swarm/certificates.ts';
import { clientTls } from '../../../infra/swarm/identity.ts';
import { PeerChoice, type Peer } from './peer-choice.ts';
import { startWatch, type Limits } from './watch.ts';

export interface PeersOptions {
  readonly id: string;
  readonly identityDir: string;
  /** The fast store. */
  readonly redis: Pick<Redis, 'set' | 'get' | 'del'>;
  /** False outside of a swarm, or when it was switched off. */
  isOn(): boolean;
  /** Other nodes that are up, whether they take new work or not. */
  nodes(): readonly NodeRecord[];
  readonly log: Log;
  readonly limits?: PeerLimits | undefined;
}

export interface PeerLimits {
  readonly brief: Limits;
  /** While the node that is asked fetches it itself. */
  readonly led: Limits;
  /** When the registry is away. */
  readonly long: Limits;
  /** For all attempts together, before the registry is asked. */
  readonly totalMs: number;
  readonly pauseMs: number;
}

/** A local network brings 10 MB a second and more; a start that waits for a slower peer had better ask the registry. */
const LIMITS: PeerLimits = {
  brief: { firstMs: 1_500, windowMs: 2_000, windowBytes: 4 * 1024 ** 2 },
  // A little longer than it holds us.
  led: { firstMs: 16_000, windowMs: 2_000, windowBytes: 4 * 1024 ** 2 },
  long: { firstMs: 10_000, windowMs: 10_000, windowBytes: 1024 ** 2 },
  totalMs: 6_000,
  pauseMs: 200,
};
/** Peers that are waited for in vain, for one layer. */
const FAILURES_MAX = 2;
/** By then the registry has given a layer, or never will. */
const PULLING_MS = 30_000;
const PULLED_MS = 3_000;
const CLIENTS_MAX = 16;
/** To one peer, which takes a few more: for the layers that are unpacked at a time, and for documents meanwhile. */
const CONNECTIONS_MAX = 6;
const DISK = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE']);

type Outcome<T> =
  | { readonly kind: 'given'; readonly value: T }
  | { readonly kind: 'busy' | 'absent' | 'failed' };

interface Wanted {
  readonly digest: string;
  readonly size: 'small' | 'large';
}

export class Peers implements PeerSource {
  readonly #options: PeersOptions;
  readonly #limits: PeerLimits;
  readonly #choice = new PeerChoice();
  readonly #clients = new LRUCache<string, Registry>({
    max: CLIENTS_MAX,
    dispose: (client) => void client.close().catch(() => {}),
  });
  readonly got = { count: 0, bytes: 0 };
  fromRegistry = 0;
  failed = 0;

  constructor(options: PeersOptions) {
    this.#options = options;
    this.#limits = options.limits ?? LIMITS;
  }

  get isOn(): boolean {
    return this.#options.isOn();
  }

  close(): void {
    this.#clients.clear();
  }

  async fetch<T>(
    wanted: Wanted,
    fromPeer: (call: PeerCall) => Promise<T>,
    fromRegistry: () => Promise<T>,
  ): Promise<T> {
    if (!this.#options.nodes().some(({ peers }) => peers !== undefined)) return fromRegistry();
    const found = await this.#askUntilGiven(wanted, fromPeer);
    if (found.kind === 'given') return found.value;
    let isHere = false;
    try {
      if (wanted.size === 'large') this.fromRegistry++;
      const value = await fromRegistry();
      isHere = true;
      return value;
    } catch (error) {
      if (!isAway(error)) throw error;
      const late = await this.#askAll(wanted, fromPeer, this.#limits.long, true);
      if (late.kind !== 'given') throw error;
      return late.value;
    } finally {
      if (found.isOurs) await this.#release(wanted.digest, isHere);
    }
  }

  async #askUntilGiven<T>(
    wanted: Wanted,
    fromPeer: (call: PeerCall) => Promise<T>,
  ): Promise<{ kind: 'given'; value: T } | { kind: 'not given'; isOurs: boolean }> {
    const { brief, led, totalMs, pauseMs } = this.#limits;
    const until = performance.now() + totalMs;
    for (let pause = pauseMs; performance.now() < until; pause = Math.min(pause * 2, 8 * pauseMs)) {
      let outcome = await this.#askAll(wanted, fromPeer, brief, false);
      if (outcome.kind === 'absent' && wanted.size === 'large') {
        const holder = await this.#claim(wanted.digest);
        if (holder === undefined) return { kind: 'not given', isOurs: true };
        const peer = this.#choice.find(holder, this.#options.nodes());
        outcome = peer ? await this.#ask(peer, fromPeer, led) : outcome;
      }
      if (outcome.kind === 'given') return outcome;
      if (outcome.kind !== 'busy') break;
      // Not all at once again.
      await delay(pause * (0.5 + Math.random()));
    }
    return { kind: 'not given', isOurs: false };
  }

  /** One after the other. `busy` if one of them was, and none had it. */
  async #askAll<T>(
    { digest }: Wanted,
    fromPeer: (call: PeerCall) => Promise<T>,
    limits: Limits,
    isLast: boolean,
  ): Promise<Outcome<T>> {
    let kind: 'busy' | 'absent' | 'failed' = 'absent';
    let failures = 0;
    for (const peer of this.#choice.choose(digest, this.#options.nodes(), isLast)) {
      const outcome = await this.#ask(peer, fromPeer, limits);
      if (outcome.kind === 'given') return outcome;
      if (outcome.kind === 'failed' && ++failures >= FAILURES_MAX) return outcome;
      if (outcome.kind === 'busy') kind = 'busy';
    }
    return { kind };
  }

  async #ask<T>(peer: Peer, fromPeer: (call: PeerCall) => Promise<T>, limits: Limits): Promise<Outcome<T>> {
    const watch = startWatch(limits, () => this.#options.nodes().some(({ id }) => id === peer.id));
    let bytes = 0;
    try {
      const value = await fromPeer({
        peer: this.#client(peer),
        signal: watch.signal,
        onBytes: (count) => {
          bytes += count;
          watch.onBytes(count);
        },
      });
      this.#choice.onGood(peer.id);
      if (bytes > 0) this.got.count++;
      this.got.bytes += bytes;
      return { kind: 'given', value };
    } catch (error) {
      return { kind: this.#judge(peer, watch.signal.aborted ? watch.signal.reason : error) };
    } finally {
      watch.close();
    }
  }

  #judge(peer: Peer, error: unknown): 'busy' | 'absent' | 'failed' {
    const { code, details } = error as { code?: string; details?: Record<string, unknown> };
    if (code === 'NOT_FOUND') return 'absent';
    if (details?.['status'] === 503) return 'busy';
    // Our own disk is no fault of a peer. The registry's pull will say what is wrong with it.
    if (code !== undefined && DISK.has(code)) return 'failed';
    const isLie = isDigestMismatch(error) || code === 'INVALID_SOURCE';
    this.failed++;
    this.#choice.onFailure(peer.id, isLie);
    this.#options.log.warn(
      { error, peer },
      isLie ? 'a node sent something else' : 'a node did not give a layer',
    );
    return 'failed';
  }

  #client({ id, url }: Peer): Registry {
    const key = `${id} ${url}`;
    const known = this.#clients.get(key);
    if (known) return known;
    const { brief, led, long } = this.#limits;
    const client = openRegistry({
      url,
      tls: clientTls(this.#options.identityDir, nodeName(id)),
      patience: {
        connectMs: brief.firstMs,
        // Outer bounds: the watch ends what takes too long.
        answerMs: Math.max(led.firstMs, long.firstMs),
        idleMs: long.windowMs,
        retryDelaysMs: [],
        connectionsMax: CONNECTIONS_MAX,
      },
    });
    this.#clients.set(key, client);
    return client;
  }

  /** Undefined: it is ours to fetch. Otherwise who does. */
  async #claim(digest: string): Promise<string | undefined> {
    const { redis, id } = this.#options;
    const key = fast.pulling(digest);
    try {
      if ((await redis.set(key, id, 'PX', PULLING_MS, 'NX')) !== null) return undefined;
      const holder = await redis.get(key);
      return holder === id ? undefined : (holder ?? undefined);
    } catch {
      return undefined;
    }
  }

  /** Who asks before our next sign of life says that it is here is still sent to us. */
  async #release(digest: string, isHere: boolean): Promise<void> {
    const { redis, id } = this.#options;
    const key = fast.pulling(digest);
    try {
      if ((await redis.get(key)) !== id) return;
      if (isHere) await redis.set(key, id, 'PX', PULLED_MS, 'XX');
      else await redis.del(key);
    } catch {
      // It expires.
    }
  }
}

/** The registry, not our own disk. */
function isAway(error: unknown): boolean {
  if (!(error instanceof SkiffError) || error.code !== 'UNAVAILABLE') return false;
  return !DISK.has(String((error.cause as { code?: unknown } | undefined)?.code ?? ''));
}
