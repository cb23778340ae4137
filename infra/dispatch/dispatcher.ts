/**
 * Who runs what: the Lua scripts of this folder as typed calls, for gateways (dispatch, lease) and runners (offer,
 * retract). The scripts hold the rules; this file only names keys and arguments.
 * Invariant: a slot token is in exactly one place: the idle list, an inbox, a lease, or its runner's hands.
 * Token: `runner|epoch|sandbox|slot|generation`.
 */
import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import { createId } from '../../sdk/protocol/ids.ts';
import { QUEUE_DEPTH_MAX } from '../../sdk/protocol/limits.ts';
import type { Cells } from '../contract/cells.ts';
import { absentKey, type FastKeys } from '../contract/keys.ts';
import type { StartOrder } from '../contract/jobs.ts';
import { Batcher } from '../lib/batcher.ts';
import { cellsOf, defineScript } from '../lib/redis.ts';
import { isCluster } from '../lib/redis-cluster.ts';
import { StoreClock } from '../lib/skew.ts';

/** A start order that no runner took in this time is void, and a new one may be given. */
export const START_ORDER_MS = 5_000;
/** A runner that works on an order renews it well within this; one that died frees the place soon. */
const START_CLAIM_MS = 3_000;
/** Gateways look every second for what they miss. */
const GIVEN_MS = 5_000;
/** A live sandbox is renewed by its runner well within this. */
export const LIVE_MS = 15_000;

export interface Scaling {
  readonly deployment: string;
  /** Slots of one sandbox. */
  readonly concurrency: number;
  readonly max: number;
  readonly min: number;
}

export type DispatchResult =
  | { readonly kind: 'sent'; readonly token: string }
  | { readonly kind: 'queued'; readonly waiting: number; readonly isStarting: boolean }
  | { readonly kind: 'full'; readonly waiting: number };

export interface Token {
  readonly runner: string;
  readonly epoch: string;
  readonly sandbox: string;
  readonly slot: number;
  readonly generation: number;
}

export function formatToken(token: Token): string {
  return `${token.runner}|${token.epoch}|${token.sandbox}|${token.slot}|${token.generation}`;
}

export function parseToken(text: string): Token {
  const [runner, epoch, sandbox, slot, generation] = text.split('|') as [
    string,
    string,
    string,
    string,
    string,
  ];
  return { runner, epoch, sandbox, slot: Number(slot), generation: Number(generation) };
}

/** The runner alone. */
export function runnerOf(token: string): string {
  return token.slice(0, token.indexOf('|'));
}

/**
 * For connections that send what is asked in one turn together: these are gathered already (a turn's calls, a turn's
 * slots), and gathering them again would cost each a turn more.
 */
export const GATHERED_SCRIPTS: readonly string[] = ['skiffDispatch', 'skiffOffer'];

interface Dispatch {
  readonly scaling: Scaling;
  readonly envelope: Buffer;
  readonly startByMs: number;
  readonly serviceMs: number;
  readonly coldMs: number;
}

/** Calls of one script at most, and scripts under way: those that come meanwhile share the next one. */
const DISPATCHES_MAX = 64;
const DISPATCHES_UNDER_WAY_MAX = 4;
const BATCHERS_MAX = 1_000;

type Command = (...args: (string | number | Buffer)[]) => Promise<unknown>;

const SCRIPTS = {
  skiffDispatch: ['dispatch.lua', 5],
  skiffWant: ['want.lua', 4],
  skiffOffer: ['offer.lua', 4],
  skiffFailStart: ['fail-start.lua', 3],
  skiffRetract: ['retract.lua', 2],
  skiffRemove: ['remove.lua', 2],
  skiffLease: ['lease.lua', 2],
  skiffRenew: ['renew.lua', 1],
  skiffReturn: ['return.lua', 2],
  skiffReclaim: ['reclaim.lua', 1],
} as const;

function createOrder(deployment: string): StartOrder {
  return { id: createId('sbx'), dep: deployment };
}

function readDispatch(kind: number, value: string | number): DispatchResult {
  if (kind === 1) return { kind: 'sent', token: String(value) };
  if (kind === 4) return { kind: 'full', waiting: Number(value) };
  return { kind: 'queued', waiting: Number(value), isStarting: kind === 3 };
}

/** `redis` is a connection to the fast store; commands of this class may share it with others, blocking ones may not. */
export class Dispatcher {
  readonly #redis: Redis;
  readonly #cells: Cells;
  readonly #isOnCluster: boolean;
  /** By deployment and the runners out of reach. */
  readonly #batchers = new LRUCache<string, Batcher<Dispatch, DispatchResult>>({ max: BATCHERS_MAX });
  /** Scripts compare times with its. */
  readonly clock: StoreClock;

  constructor(redis: Redis) {
    this.#redis = redis;
    this.clock = new StoreClock(redis);
    this.#cells = cellsOf(redis);
    this.#isOnCluster = isCluster(redis);
    for (const [name, [file, keys]] of Object.entries(SCRIPTS)) {
      const url = new URL(file, import.meta.url);
      defineScript(redis, name, url, this.#isOnCluster ? keys + 1 : keys);
    }
  }

  /** Of the cell that a deployment, or anything with an id, is in. */
  #keys(id: string): FastKeys {
    return this.#cells.ofId(id).fast;
  }

  #call(
    name: keyof typeof SCRIPTS,
    returnsBuffers: boolean,
    args: (string | number | Buffer)[],
  ): Promise<unknown> {
    const commands = this.#redis as unknown as Record<string, Command>;
    if (this.#isOnCluster) args.splice(SCRIPTS[name][1], 0, absentKey(String(args[0])));
    return (commands[returnsBuffers ? `${name}Buffer` : name] as Command).apply(this.#redis, args);
  }

  /**
   * Invocations of one deployment that come in one turn of the event loop share a script: under load a command for each
   * is more than half of what a queued call costs a gateway.
   */
  dispatch(
    scaling: Scaling,
    envelope: Buffer,
    timing: { startByMs: number; serviceMs: number; coldMs: number },
    /** Runners that the caller cannot reach, as `|a|b|`. */
    unreachable = '',
  ): Promise<DispatchResult> {
    const key = `${scaling.deployment} ${unreachable}`;
    let batcher = this.#batchers.get(key);
    if (!batcher) {
      batcher = new Batcher({
        run: (items) => this.#dispatchAll(items, unreachable),
        countMax: DISPATCHES_MAX,
        inFlightMax: DISPATCHES_UNDER_WAY_MAX,
      });
      this.#batchers.set(key, batcher);
    }
    return batcher.add({ scaling, envelope, ...timing });
  }

  async #dispatchAll(items: readonly Dispatch[], unreachable: string): Promise<DispatchResult[]> {
    const { scaling, serviceMs, coldMs } = items[0] as Dispatch;
    const keys = this.#keys(scaling.deployment);
    const flat = (await this.#call('skiffDispatch', false, [
      keys.idle(scaling.deployment),
      keys.wait(scaling.deployment),
      keys.starting(scaling.deployment),
      keys.live(scaling.deployment),
      keys.demand,
      scaling.deployment,
      createId('sbx'),
      scaling.concurrency,
      scaling.max,
      QUEUE_DEPTH_MAX,
      START_ORDER_MS,
      serviceMs,
      coldMs,
      keys.inbox(''),
      keys.alive(''),
      unreachable,
      ...items.flatMap(({ startByMs, envelope }) => [startByMs + this.clock.skewMs, envelope]),
    ])) as (number | string)[];
    return items.map((_, index) => readDispatch(flat[2 * index] as number, flat[2 * index + 1] as string));
  }

  /** Asks for one more sandbox if the queue or the minimum calls for it. */
  want(scaling: Scaling): Promise<boolean> {
    const order = createOrder(scaling.deployment);
    return this.#want(scaling, order.id, JSON.stringify(order));
  }

  /** For a runner that starts one in place of another node's `sandbox`: an order for it, if there may be one more. */
  async takeOver(scaling: Scaling, sandbox: string): Promise<StartOrder | undefined> {
    const order = { ...createOrder(scaling.deployment), instead: sandbox };
    return (await this.#want({ ...scaling, min: scaling.max }, order.id, '')) ? order : undefined;
  }

  async #want(scaling: Scaling, orderId: string, order: string): Promise<boolean> {
    const keys = this.#keys(scaling.deployment);
    const asked = await this.#call('skiffWant', false, [
      keys.wait(scaling.deployment),
      keys.starting(scaling.deployment),
      keys.live(scaling.deployment),
      keys.demand,
      scaling.concurrency,
      scaling.max,
      scaling.min,
      orderId,
      order,
      START_ORDER_MS,
      keys.alive(''),
    ]);
    return asked === 1;
  }

  /** Takes a waiting envelope out of the queue. False: it is not there any more, somebody took it. */
  async withdraw(deployment: string, startByMs: number, envelope: Buffer): Promise<boolean> {
    const entry = Buffer.concat([Buffer.from(`${startByMs + this.clock.skewMs}\n`), envelope]);
    return (await this.#redis.lrem(this.#keys(deployment).wait(deployment), 1, entry)) > 0;
  }

  /** Puts an envelope back that was taken out of the queue and provably not started: it is next. */
  async requeue(deployment: string, invocation: string, startByMs: number, envelope: Buffer): Promise<void> {
    const entry = Buffer.concat([Buffer.from(`${startByMs + this.clock.skewMs}\n`), envelope]);
    const keys = this.#keys(deployment);
    await this.#redis.multi().del(keys.given(invocation)).lpush(keys.wait(deployment), entry).exec();
  }

  /** Who took these out of the queue a moment ago, as far as somebody did, and whether that runner still lives. */
  async findGiven(
    calls: readonly { readonly id: string; readonly deployment: string }[],
  ): Promise<({ token: string; isAlive: boolean } | undefined)[]> {
    const tokens = await Promise.all(
      calls.map(({ id, deployment }) => this.#redis.get(this.#keys(deployment).given(id))),
    );
    return Promise.all(
      tokens.map(async (token, i) => {
        if (token === null) return undefined;
        const { runner, epoch } = parseToken(token);
        const { alive } = this.#keys((calls[i] as { deployment: string }).deployment);
        return { token, isAlive: (await this.#redis.get(alive(runner))) === epoch };
      }),
    );
  }

  /** Takes an envelope out of a dead runner's inbox. True proves that it was never started. */
  async withdrawFromInbox(
    deployment: string,
    runner: string,
    token: string,
    envelope: Buffer,
  ): Promise<boolean> {
    const entry = Buffer.concat([Buffer.from(`${token}\n`), envelope]);
    return (await this.#redis.lrem(this.#keys(deployment).inbox(runner), 1, entry)) > 0;
  }

  /** For another runner, or this one later. `isNext`: before all others. */
  async giveOn(order: StartOrder, text = JSON.stringify(order), isNext = false): Promise<void> {
    await this.#redis[isNext ? 'lpush' : 'rpush'](this.#keys(order.dep).demand, text);
  }

  /** A runner takes an order, or says that it still works on it. False: the order is void. */
  async holdOrder(order: StartOrder): Promise<boolean> {
    // XX CH: changed means that it was there.
    return (
      (await this.#redis.zadd(
        this.#keys(order.dep).starting(order.dep),
        'XX',
        'CH',
        Date.now() + this.clock.skewMs + START_CLAIM_MS,
        order.id,
      )) === 1
    );
  }

  /** Nothing came of an order that nobody waits for. */
  async dropOrder(order: StartOrder): Promise<void> {
    await this.#redis.zrem(this.#keys(order.dep).starting(order.dep), order.id);
  }

  /**
   * Offers free slots. Output: the envelopes to run on the first tokens; the other tokens are idle now.
   * `live` is the sandbox's member of the live set; `orderId` the start order that created it; `unreachable` gateways whose
   * envelopes are not wanted, as `|a|b|`.
   */
  async offer(
    deployment: string,
    tokens: readonly string[],
    options: { live?: string; orderId?: string; unreachable?: string } = {},
  ): Promise<Buffer[]> {
    const keys = this.#keys(deployment);
    return (await this.#call('skiffOffer', true, [
      keys.idle(deployment),
      keys.wait(deployment),
      keys.live(deployment),
      keys.starting(deployment),
      options.live ?? '',
      LIVE_MS,
      options.orderId ?? '',
      keys.given(''),
      GIVEN_MS,
      options.unreachable ?? '',
      ...tokens,
    ])) as Buffer[];
  }

  async failStart(deployment: string, orderId: string): Promise<Buffer[]> {
    const keys = this.#keys(deployment);
    return (await this.#call('skiffFailStart', true, [
      keys.wait(deployment),
      keys.starting(deployment),
      keys.live(deployment),
      orderId,
    ])) as Buffer[];
  }

  async retract(deployment: string, live: string, tokens: readonly string[]): Promise<boolean> {
    const { idle, live: alive } = this.#keys(deployment);
    const keys = [idle(deployment), alive(deployment)];
    return (await this.#call('skiffRetract', false, [...keys, live, tokens.length, ...tokens])) === 1;
  }

  /** For a sandbox that has ended, however that came about. */
  async remove(deployment: string, live: string, tokens: readonly string[]): Promise<void> {
    const keys = this.#keys(deployment);
    await this.#call('skiffRemove', false, [keys.idle(deployment), keys.live(deployment), live, ...tokens]);
  }

  async lease(deployment: string, slotsMax: number, leaseMs: number): Promise<string[]> {
    const keys = this.#keys(deployment);
    return (await this.#call('skiffLease', false, [
      keys.idle(deployment),
      keys.wait(deployment),
      slotsMax,
      leaseMs,
      keys.leases(''),
      keys.alive(''),
    ])) as string[];
  }

  /** For each token: may it be used for another `leaseMs`? */
  async renew(deployment: string, tokens: readonly string[], leaseMs: number): Promise<boolean[]> {
    const keys = this.#keys(deployment);
    const replies = await this.#call('skiffRenew', false, [
      keys.wait(deployment),
      leaseMs,
      keys.leases(''),
      ...tokens,
    ]);
    return (replies as number[]).map((reply) => reply === 1);
  }

  async giveBack(deployment: string, tokens: readonly string[]): Promise<void> {
    if (tokens.length === 0) return;
    const { idle, wait, leases, inbox, given } = this.#keys(deployment);
    const keys = [idle(deployment), wait(deployment)];
    await this.#call('skiffReturn', false, [...keys, leases(''), inbox(''), given(''), GIVEN_MS, ...tokens]);
  }

  /** Tokens of this runner whose lease ran out: each needs a new generation before it is offered again. */
  async reclaim(runner: string): Promise<string[]> {
    const tokens = await Promise.all(
      this.#cells.all.map((cell) => this.#call('skiffReclaim', false, [cell.fast.leases(runner)])),
    );
    return tokens.flat() as string[];
  }
}
