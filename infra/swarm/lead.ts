/**
 * The lead among gateways, with a term that only rises, and the orders that only the leader can give.
 * Invariant: the lead is checked where an order is written, in one step, so a leader that was paused, cut off or simply
 * slow cannot act on what it believed before.
 */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { StartOrder, StopOrder } from '../contract/jobs.ts';
import { fast } from '../contract/keys.ts';
import { defineScript } from '../lib/redis.ts';

/** A replica that was ordered and that its runner does not report yet. */
export const PendingTask = z.object({
  service: z.string(),
  slot: z.number().int(),
  deployment: z.string(),
  revision: z.number().int().optional(),
  node: z.string(),
  untilMs: z.number(),
});
export type PendingTask = z.output<typeof PendingTask>;

export const LEAD_MS = 3_000;

interface Scripts {
  skiffLead(leader: string, terms: string, gateway: string, lifeMs: number, lead: string): Promise<string>;
  skiffPushOrder(
    leader: string,
    orders: string,
    pending: string,
    lead: string,
    order: string,
    task: string,
    json: string,
  ): Promise<number>;
}

export class Lead {
  readonly #gateway: string;
  readonly #redis: Redis;
  #lead = '';

  constructor(gateway: string, redis: Redis) {
    this.#gateway = gateway;
    this.#redis = redis;
    defineScript(redis, 'skiffLead', new URL('lead.lua', import.meta.url), 2);
    defineScript(redis, 'skiffPushOrder', new URL('push-order.lua', import.meta.url), 3);
  }

  /** Whether this gateway has the lead now. */
  async take(): Promise<boolean> {
    const scripts = this.#redis as unknown as Scripts;
    this.#lead = await scripts.skiffLead(fast.leader, fast.leaderTerm, this.#gateway, LEAD_MS, this.#lead);
    return this.#lead !== '';
  }

  /** So that another one need not wait for it to run out. */
  async leave(): Promise<void> {
    const held = this.#lead;
    this.#lead = '';
    if (held !== '' && (await this.#redis.get(fast.leader)) === held) await this.#redis.del(fast.leader);
  }

  /** False: the lead is somebody else's. */
  async tryOrder(
    node: string,
    order: StartOrder | StopOrder,
    pending?: { readonly task: string } & PendingTask,
  ): Promise<boolean> {
    const scripts = this.#redis as unknown as Scripts;
    const { task = '', ...rest } = pending ?? {};
    const reply = await scripts.skiffPushOrder(
      fast.leader,
      fast.orders(node),
      fast.pending,
      this.#lead,
      JSON.stringify(order),
      task,
      JSON.stringify(rest),
    );
    return reply === 1;
  }

  async pending(): Promise<Map<string, PendingTask>> {
    const all = await this.#redis.hgetall(fast.pending);
    return new Map(Object.entries(all).map(([task, json]) => [task, PendingTask.parse(JSON.parse(json))]));
  }

  async forget(tasks: readonly string[]): Promise<void> {
    if (tasks.length > 0) await this.#redis.hdel(fast.pending, ...tasks);
  }
}
