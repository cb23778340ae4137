/**
 * Reads a runner's inbox, several reads ahead: Redis begins the next as it answers one, so that a call does not cost
 * asking for the next one too.
 * Invariant: entries are handed over once, in the order of the list. Of a runner that dies nobody can say whether it began
 * the few that were on their way to it, as of those that it ran.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Log } from '../../infra/lib/log.ts';

export interface InboxOptions {
  /** For nothing else: reads block. */
  readonly redis: Redis;
  readonly key: string;
  readonly onEntry: (entry: Buffer) => void;
  readonly log: Log;
}

/** A probe of the connection (infra/lib/redis.ts) waits behind all reads ahead: together they stay below its limit. */
const BLOCK_S = 0.25;
const READS_AHEAD = 8;
const READS_LEFT = 4;
const ENTRIES_MAX = 64;
const PAUSE_MS = 200;

type Reply = [key: Buffer, entries: Buffer[]] | null;

export class Inbox {
  readonly #options: InboxOptions;
  #reads = 0;
  #isStopping = false;
  #onEnd: (error?: unknown) => void = () => {};

  constructor(options: InboxOptions) {
    this.#options = options;
  }

  /** Reads until it is stopped. Never rejects. */
  async run(): Promise<void> {
    while (!this.#isStopping) {
      const error = await new Promise<unknown>((resolve) => {
        this.#onEnd = resolve;
        this.#readAhead();
      });
      if (this.#isStopping) return;
      this.#options.log.warn({ error }, 'inbox could not be read; trying again');
      await delay(PAUSE_MS);
    }
  }

  /** Reads that wait end with their connection. */
  stop(): void {
    this.#isStopping = true;
    this.#onEnd();
  }

  #readAhead(): void {
    const { redis, key } = this.#options;
    const pipeline = redis.pipeline();
    while (this.#reads < READS_AHEAD) {
      this.#reads++;
      pipeline.blmpopBuffer(BLOCK_S, 1, key, 'LEFT', 'COUNT', ENTRIES_MAX, (error, reply) => {
        this.#reads--;
        if (error) return this.#onEnd(error);
        for (const entry of (reply as Reply)?.[1] ?? []) this.#take(entry);
        if (this.#reads === READS_LEFT && !this.#isStopping) this.#readAhead();
      });
    }
    // Each read has said how it went.
    pipeline.exec().catch(() => {});
  }

  #take(entry: Buffer): void {
    try {
      this.#options.onEntry(entry);
    } catch (error) {
      this.#options.log.error({ error }, 'an entry of the inbox cannot be read');
    }
  }
}
