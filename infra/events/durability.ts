/**
 * Whether the durable store keeps what it is told, and whether it is the one that promises were made in.
 * Invariant: nothing is acknowledged while this says no. The store's epoch (a random value, written once) is remembered
 * in the data folder: an emptied, replaced or foreign Redis has another one, or none.
 *
 * Classes: `single` (one server that fsyncs every write), `replicated` (that, and every replica has the write before the
 * answer: any of them may take over), `fast` (fsync each second: a power failure can lose one second of accepted work).
 */
import { randomBytes } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import type { Redis } from 'ioredis';
import { durable } from '../contract/keys.ts';
import type { Log } from '../lib/log.ts';
import { findForeignLayout } from '../lib/layout.ts';
import { cellsOf } from '../lib/redis.ts';
import { primariesOf } from '../lib/redis-cluster.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';

export const DURABILITY_CLASSES = ['single', 'replicated', 'fast'] as const;
export type DurabilityClass = (typeof DURABILITY_CLASSES)[number];

export interface DurabilityOptions {
  readonly redis: Redis;
  readonly class: DurabilityClass;
  /** Where the epoch is remembered. */
  readonly epochFile: string;
  readonly log: Log;
}

const CHECK_MS = 5_000;
const REPLICA_MS_MAX = 200;

export class Durability {
  readonly class: DurabilityClass;
  readonly #options: DurabilityOptions;
  #epoch: string | undefined;
  #problem: string | undefined = 'the store has not been checked yet';
  #memory = { used: 0, max: 0, cellMax: 0 };
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  /** How many must have a write: all there are, as the store itself demands. */
  #replicas = 1;

  constructor(options: DurabilityOptions) {
    this.#options = options;
    this.class = options.class;
  }

  /** Checks now, after every reconnect, and from time to time. Does not reject: a store that is away is checked later. */
  async open(): Promise<void> {
    this.#options.redis.on('ready', () => void this.check());
    this.#timer = setInterval(() => void this.check(), CHECK_MS);
    this.#timer.unref();
    await this.check();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Why nothing can be acknowledged now; undefined when it can. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /**
   * Of the store, as of the last check; `max` is 0 when it has no limit. Of a cluster, the fullest primary's. `cellMax` is
   * a cell's part of all there is.
   */
  get memory(): { readonly used: number; readonly max: number; readonly cellMax: number } {
    return this.#memory;
  }

  /** The epoch to accept with. Checks first when the last check failed. @throws SkiffError NOT_DURABLE */
  async assertDurable(): Promise<string> {
    if (this.#problem !== undefined || this.#epoch === undefined) await this.check();
    if (this.#problem === undefined && this.#epoch !== undefined) return this.#epoch;
    throw new SkiffError('NOT_DURABLE', `nothing was accepted: ${this.#problem}`, {
      details: { maybeAccepted: false },
    });
  }

  /** In class `replicated`: every replica has what this connection wrote. @throws SkiffError NOT_DURABLE */
  async assertReplicated(): Promise<void> {
    if (this.class !== 'replicated') return;
    const primaries = primariesOf(this.#options.redis);
    const wanted = this.#replicas;
    const replicas = await Promise.all(primaries.map((primary) => primary.wait(wanted, REPLICA_MS_MAX)));
    const least = Math.min(...replicas);
    if (least >= wanted) return;
    const had = wanted === 1 ? 'no replica' : `${least} of ${wanted} replicas`;
    throw new SkiffError('NOT_DURABLE', `${had} had the event within ${REPLICA_MS_MAX} ms`, {
      details: { maybeAccepted: true },
    });
  }

  /** The store said that it has another epoch. */
  reportForeign(): void {
    this.#problem = 'the durable store is not the one that earlier promises were made in';
    this.#options.log.error({ problem: this.#problem }, 'durable store');
  }

  async check(): Promise<void> {
    this.#checking ??= this.#check().finally(() => (this.#checking = undefined));
    await this.#checking;
  }

  async #check(): Promise<void> {
    const before = this.#problem;
    try {
      this.#problem = (await this.#findProblem()) ?? (await this.#findForeignEpoch());
    } catch (error) {
      this.#problem = `the durable store cannot be asked (${(error as Error).message})`;
    }
    if (this.#problem !== undefined && this.#problem !== before) {
      this.#options.log.error({ problem: this.#problem }, 'events are refused');
    }
  }

  async #findProblem(): Promise<string | undefined> {
    const { redis } = this.#options;
    const checked = await Promise.all(primariesOf(redis).map((primary) => this.#inspect(primary)));
    if (checked.length === 0) return 'none of its servers is known';
    const fullness = ({ used, max }: (typeof checked)[number]): number => (max === 0 ? 0 : used / max);
    const fullest = checked.toSorted((a, b) => fullness(b) - fullness(a))[0] as (typeof checked)[number];
    const whole = checked.reduce((sum, { max }) => sum + max, 0);
    this.#memory = { used: fullest.used, max: fullest.max, cellMax: whole / cellsOf(redis).count };
    return checked.find(({ problem }) => problem !== undefined)?.problem ?? findForeignLayout(redis);
  }

  async #inspect(redis: Redis): Promise<{ used: number; max: number; problem: string | undefined }> {
    const info = await redis.info();
    const read = (name: string): string => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? '';
    return {
      used: Number(read('used_memory')),
      max: Number(read('maxmemory')),
      problem: await this.#judge(redis, read),
    };
  }

  async #judge(redis: Redis, read: (name: string) => string): Promise<string | undefined> {
    if (read('role') !== 'master') return 'it is a replica';
    if (read('loading') === '1') return 'it is still loading';
    if (read('maxmemory_policy') !== 'noeviction')
      return 'its maxmemory-policy is not noeviction: it could forget events';
    if (this.class === 'fast') return undefined;
    if (read('aof_enabled') !== '1') return 'it has no append-only file';
    if (read('aof_last_write_status') !== 'ok') return 'it could not write its append-only file';
    const [, fsync] = (await redis.config('GET', 'appendfsync')) as string[];
    if (fsync !== 'always') return `its appendfsync is "${fsync}", not "always"`;
    if (this.class !== 'replicated') return undefined;
    const [, min] = (await redis.config('GET', 'min-replicas-to-write')) as string[];
    const wanted = Number(min);
    const connected = Number(read('connected_slaves'));
    if (wanted < 1) return 'its min-replicas-to-write is 0: it would accept writes without a replica';
    this.#replicas = wanted;
    // One that was replaced while it was frozen or cut off still has the replica that did not take over, for seconds.
    if (connected > wanted)
      return `it has ${connected} replicas and its min-replicas-to-write is ${wanted}: one that lacks a write could take over; set it to ${connected}`;
    return connected < 1 ? 'it has no replica' : undefined;
  }

  async #findForeignEpoch(): Promise<string | undefined> {
    const { redis, epochFile } = this.#options;
    this.#epoch ??= await tryRead(epochFile);
    this.#epoch ??= await remember(epochFile, await this.#createEpoch());
    const stored = await Promise.all(cellsOf(redis).all.map(({ events }) => redis.get(events.epoch)));
    const foreign = stored.find((epoch) => epoch !== this.#epoch);
    if (foreign === undefined) return undefined;
    const part = stored.length === 1 || stored[0] !== this.#epoch ? 'it' : 'a part of it';
    const what = foreign === null ? 'is empty' : 'is another one';
    return `${part} ${what}: earlier promises were made in a store with another epoch (if that is meant, remove ${epochFile})`;
  }

  /**
   * Of two gateways that start together one writes it, and both read it. Other cells get the first one's, once: a cell that
   * was emptied later must not look like a new one.
   */
  async #createEpoch(): Promise<string> {
    const { redis } = this.#options;
    const [first, ...others] = cellsOf(redis).all.map(({ events }) => events.epoch) as [string, ...string[]];
    await redis.setnx(first, randomBytes(12).toString('hex'));
    const epoch = (await redis.get(first)) as string;
    if (others.length === 0 || (await redis.exists(durable.epochIsEverywhere)) === 1) return epoch;
    for (const key of others) await redis.setnx(key, epoch);
    await redis.set(durable.epochIsEverywhere, 1);
    return epoch;
  }
}

async function tryRead(file: string): Promise<string | undefined> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trim() || undefined;
}

/** Of processes that start together one writes it. */
async function remember(file: string, epoch: string): Promise<string> {
  const draft = `${file}.${epoch}`;
  await writeFile(draft, `${epoch}\n`, { mode: 0o600 });
  await link(draft, file).catch(() => {});
  await rm(draft, { force: true });
  return (await tryRead(file)) ?? epoch;
}
