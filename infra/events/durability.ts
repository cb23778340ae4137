/**
 * Whether the durable store keeps what it is told, and whether it is the one that promises were made in.
 * Invariant: nothing is acknowledged while this says no. The store's epoch (a random value, written once) is remembered
 * in the data folder: an emptied, replaced or foreign Redis has another one, or none.
 *
 * Classes: `single` (one server that fsyncs every write), `replicated` (that, and a replica has the write before the
 * answer), `fast` (fsync each second: a power failure can lose one second of accepted work).
 */
import { randomBytes } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import type { Redis } from 'ioredis';
import { durable } from '../contract/keys.ts';
import type { Log } from '../lib/log.ts';
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
  #memory = { used: 0, max: 0 };
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;

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

  /** Of the store, as of the last check; `max` is 0 when it has no limit. */
  get memory(): { readonly used: number; readonly max: number } {
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

  /** In class `replicated`: a replica has what this connection wrote. @throws SkiffError NOT_DURABLE */
  async assertReplicated(): Promise<void> {
    if (this.class !== 'replicated') return;
    const replicas = await this.#options.redis.wait(1, REPLICA_MS_MAX);
    if (replicas >= 1) return;
    throw new SkiffError('NOT_DURABLE', `no replica had the event within ${REPLICA_MS_MAX} ms`, {
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
    const info = await redis.info();
    const read = (name: string): string => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? '';
    this.#memory = { used: Number(read('used_memory')), max: Number(read('maxmemory')) };
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
    const [, replicas] = (await redis.config('GET', 'min-replicas-to-write')) as string[];
    if (Number(replicas) < 1)
      return 'its min-replicas-to-write is 0: it would accept writes without a replica';
    return Number(read('connected_slaves')) < 1 ? 'it has no replica' : undefined;
  }

  async #findForeignEpoch(): Promise<string | undefined> {
    const { redis, epochFile } = this.#options;
    this.#epoch ??= await tryRead(epochFile);
    const stored = await redis.get(durable.epoch);
    if (this.#epoch === undefined) {
      this.#epoch = await remember(epochFile, stored ?? (await this.#createEpoch()));
      return undefined;
    }
    if (stored === this.#epoch) return undefined;
    const what = stored === null ? 'is empty' : 'is another one';
    return `it ${what}: earlier promises were made in a store with another epoch (if that is meant, remove ${epochFile})`;
  }

  /** Of two gateways that start together one writes it, and both read it. */
  async #createEpoch(): Promise<string> {
    const { redis } = this.#options;
    await redis.setnx(durable.epoch, randomBytes(12).toString('hex'));
    return (await redis.get(durable.epoch)) as string;
  }
}

async function tryRead(file: string): Promise<string | undefined> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trim() || undefined;
}

/** Of processes that start together one writes it. */
async function remember(file: string, epoch: string): Promise<string> {
  const draft = `${file}.${process.pid}`;
  await writeFile(draft, `${epoch}\n`, { mode: 0o600 });
  await link(draft, file).catch(() => {});
  await rm(draft, { force: true });
  return (await tryRead(file)) ?? epoch;
}
