/**
 * Asynchronous invocations of one cell: the record, which is the truth, and BullMQ, which carries it to a consumer.
 *
 * Owns: acceptance, attempts, retries, ends, replays, as atomic scripts on the durable Redis. Invariants: an invocation
 * has one final state; states move only along states.ts; fence tokens strictly grow, and only the holder of the newest
 * writes an end; whatever a crash leaves half done is found and finished by the scripts the pump runs.
 * Deliberately absent: running functions (gateway/events), bodies beyond EVENT_INLINE_BYTES_MAX (payloads.ts), and any
 * trust in BullMQ's events or job states.
 */
import type { Redis } from 'ioredis';
import type { InvocationRecord, InvocationState } from '../../sdk/protocol/events.ts';
import { ONE_CELL, type Cell } from '../contract/cells.ts';
import type { EventKeys } from '../contract/keys.ts';
import {
  readJson,
  toInvocationRecord,
  type BlobReference,
  type EventHead,
  type EventPolicy,
  type EventResultHead,
  type Hash,
} from './record.ts';
import { defineEventScripts, type RunScript } from './scripts.ts';
import { parseJobs, type ReleasedJob } from './shards.ts';
import {
  acceptArguments,
  endArguments,
  toAcceptReply,
  toBegun,
  toEndReply,
  type Acceptance,
  type AcceptReply,
  type AttemptEnd,
  type Begun,
  type EndReply,
  type Reply,
} from './wire.ts';

export interface StoredResult {
  readonly head: EventResultHead;
  readonly body: Buffer;
  readonly blob: BlobReference | undefined;
}

const NOTHING = Buffer.alloc(0);

export class EventStore {
  readonly redis: Redis;
  readonly #keys: EventKeys;
  readonly #run: RunScript;

  /** `redis` is a fail-fast connection to the durable store, or one that waits, for a consumer. */
  constructor(redis: Redis, cell: Cell = ONE_CELL.first) {
    this.redis = redis;
    this.#keys = cell.events;
    this.#run = defineEventScripts(redis, cell);
  }

  /**
   * A reply for each, in order, or undefined for all when this is not the store that promises were made in. The reply is
   * the moment from which the promise holds.
   */
  async acceptMany(
    accepted: readonly Acceptance[],
    epoch: string,
  ): Promise<{ replies: AcceptReply[]; jobs: ReleasedJob[] } | undefined> {
    const args = accepted.flatMap(acceptArguments);
    const [first, ...replies] = (await this.#run('accept', [epoch, ...args])) as [unknown, ...Reply[]];
    if (!Array.isArray(first)) return undefined;
    return {
      replies: replies.map((reply, i) => toAcceptReply(reply, (accepted[i] as Acceptance).id)),
      jobs: parseJobs(first),
    };
  }

  /** How many invocations of one namespace may be in the queue proper or run, from now on. */
  async limitNamespaces(countMax: number): Promise<void> {
    await this.redis.hset(this.#keys.limits, '*', countMax);
  }

  /** Those of `ids` that are this job's to run, with their new fence tokens. */
  async begin(
    consumer: string,
    leaseMs: number,
    jobId: string,
    ids: readonly string[],
  ): Promise<{ begun: Begun[]; jobs: ReleasedJob[] }> {
    const reply = await this.#run('begin', [consumer, leaseMs, jobId, ...ids]);
    const [jobs, ...begun] = reply as [Reply, ...Reply[]];
    return { begun: begun.map(toBegun), jobs: parseJobs(jobs) };
  }

  /** May be repeated until it succeeds: the same end is written once. A reply for each, in order. */
  async finishMany(
    consumer: string,
    leaseMs: number,
    ends: readonly AttemptEnd[],
  ): Promise<{ replies: EndReply[]; jobs: ReleasedJob[] }> {
    const reply = await this.#run('finish', [consumer, leaseMs, ...ends.flatMap(endArguments)]);
    const [jobs, ...replies] = reply as [Reply, ...Reply[]];
    return { replies: replies.map(toEndReply), jobs: parseJobs(jobs) };
  }

  /** Returns those that are not the caller's any more. */
  async renew(
    leaseMs: number,
    held: Iterable<{ readonly id: string; readonly fence: number }>,
  ): Promise<string[]> {
    const pairs = [...held].flatMap(({ id, fence }) => [id, fence]);
    if (pairs.length === 0) return [];
    return ((await this.#run('renew', [leaseMs, ...pairs])) as Reply).map(String);
  }

  /** Attempts whose lease has ended. */
  async reap(countMax: number): Promise<{ count: number; jobs: ReleasedJob[] }> {
    const [count, ...jobs] = (await this.#run('reap', [countMax])) as Reply;
    return { count: Number(count), jobs: parseJobs(jobs) };
  }

  /** Delayed ones and retries that are due. `nextMs`: until the next is, undefined when there is none. */
  async promote(
    countMax: number,
  ): Promise<{ count: number; nextMs: number | undefined; jobs: ReleasedJob[] }> {
    const [count, next, ...jobs] = (await this.#run('promote', [countMax])) as Reply;
    return {
      count: Number(count),
      nextMs: Number(next) < 0 ? undefined : Number(next),
      jobs: parseJobs(jobs),
    };
  }

  async expire(countMax: number): Promise<{ count: number; jobs: ReleasedJob[] }> {
    const [count, ...jobs] = (await this.#run('expire', [countMax])) as Reply;
    return { count: Number(count), jobs: parseJobs(jobs) };
  }

  /** Released invocations whose job is gone. `jobKeyPrefix` see shards.ts. */
  async sweep(
    olderThanMs: number,
    countMax: number,
    jobKeyPrefix: string,
  ): Promise<{ count: number; jobs: ReleasedJob[] }> {
    const [count, ...jobs] = (await this.#run('sweep', [olderThanMs, countMax, jobKeyPrefix])) as Reply;
    return { count: Number(count), jobs: parseJobs(jobs) };
  }

  /** `state` is undefined when there is no such invocation; otherwise what it was or is now. */
  async cancel(
    id: string,
  ): Promise<{ isChanged: boolean; state: InvocationState | undefined; jobs: ReleasedJob[] }> {
    return this.#change(await this.#run('cancel', [id]), 'cancelled');
  }

  async redrive(
    id: string,
    maxAgeMs: number,
    policy: EventPolicy | undefined,
  ): Promise<{ isChanged: boolean; state: InvocationState | undefined; jobs: ReleasedJob[] }> {
    const args = [id, maxAgeMs, policy ? JSON.stringify(policy) : '', policy?.resultMs ?? 0];
    return this.#change(await this.#run('redrive', args), 'ready');
  }

  #change(reply: unknown, changed: InvocationState) {
    const [kind, ...rest] = reply as Reply;
    switch (String(kind)) {
      case 'OK':
        return { isChanged: true, state: changed, jobs: parseJobs(rest) };
      case 'SAME':
        return { isChanged: false, state: String(rest[0]) as InvocationState, jobs: [] };
      default:
        return { isChanged: false, state: undefined, jobs: [] };
    }
  }

  /** Returns how many were dead or expired and are gone. */
  async purge(ids: readonly string[]): Promise<number> {
    return ids.length === 0 ? 0 : Number(await this.#run('purge', ids));
  }

  /** Ids whose end a destination is to be told now; they are the caller's for `holdMs`. */
  async takeOutbox(countMax: number, holdMs: number): Promise<string[]> {
    return ((await this.#run('outbox-take', [countMax, holdMs])) as Reply).map(String);
  }

  async settleOutbox(
    id: string,
    state: 'delivered' | 'failed' | 'pending',
    options: { readonly error?: string; readonly pauseMs?: number } = {},
  ): Promise<void> {
    await this.#run('outbox-settle', [id, state, options.error ?? '', options.pauseMs ?? 0]);
  }

  /** The rules it was accepted with. */
  async getPolicy(id: string): Promise<EventPolicy | undefined> {
    const json = await this.redis.hget(this.#keys.record(id), 'pol');
    return json === null ? undefined : (JSON.parse(json) as EventPolicy);
  }

  async get(id: string): Promise<InvocationRecord | undefined> {
    const [record] = await this.getMany([id]);
    return record;
  }

  /** In order, without those that are not there. */
  async getMany(ids: readonly string[]): Promise<InvocationRecord[]> {
    const pipeline = this.redis.pipeline();
    for (const id of ids) pipeline.hgetallBuffer(this.#keys.record(id)).hgetallBuffer(this.#keys.request(id));
    const replies = ((await pipeline.exec()) ?? []).map(([error, value]) => {
      if (error) throw error;
      return value as Hash;
    });
    return ids.flatMap((id, i) => {
      const record = replies[2 * i] as Hash;
      if (record['s'] === undefined) return [];
      return [toInvocationRecord(id, record, replies[2 * i + 1] as Hash, Date.now())];
    });
  }

  async getState(id: string): Promise<InvocationState | undefined> {
    return ((await this.redis.hget(this.#keys.record(id), 's')) ?? undefined) as InvocationState | undefined;
  }

  /** Undefined when it has expired, or there never was one. */
  async getResult(id: string): Promise<StoredResult | undefined> {
    const hash = await this.redis.hgetallBuffer(this.#keys.result(id));
    if (hash['h'] === undefined) return undefined;
    return {
      head: readJson<EventResultHead>(hash, 'h'),
      body: hash['b'] ?? NOTHING,
      blob: hash['blob'] && readJson<BlobReference>(hash, 'blob'),
    };
  }

  /** What was sent, to send it again. Undefined when it has expired. */
  async getRequest(
    id: string,
  ): Promise<{ head: EventHead; body: Buffer; blob: BlobReference | undefined } | undefined> {
    const hash = await this.redis.hgetallBuffer(this.#keys.request(id));
    if (hash['h'] === undefined) return undefined;
    return {
      head: readJson<EventHead>(hash, 'h'),
      body: hash['b'] ?? NOTHING,
      blob: hash['blob'] && readJson<BlobReference>(hash, 'blob'),
    };
  }

  /** A member in another cell, of the group that `id` waits for, has ended or was not accepted. May be repeated. */
  async endMember(id: string, member: string): Promise<ReleasedJob[]> {
    return parseJobs((await this.#run('end-member', [id, member])) as Reply);
  }

  /** Members of groups that ended here, for ones of other cells that wait; at most `count`, in no order. */
  async listGroupEnds(count: number): Promise<{ id: string; member: string }[]> {
    const entries = await this.redis.srandmember(this.#keys.groupEnds, count);
    return entries.map((entry) => {
      const [id = '', member = ''] = entry.split(' ');
      return { id, member };
    });
  }

  /** They have been told. */
  async dropGroupEnds(ends: readonly { readonly id: string; readonly member: string }[]): Promise<void> {
    if (ends.length === 0) return;
    await this.redis.srem(this.#keys.groupEnds, ...ends.map(({ id, member }) => `${id} ${member}`));
  }

  /** Ids of dead and expired invocations, newest first, at most `count`, older than `before` (epoch ms). */
  async listDead(before: number, count: number): Promise<string[]> {
    return this.redis.zrevrangebyscore(this.#keys.dead, `(${before}`, '-inf', 'LIMIT', 0, count);
  }

  /** As `listDead`, with when each ended: lists of several cells are put together by it. */
  async listDeadTimes(before: number, count: number): Promise<{ id: string; endedMs: number }[]> {
    const { dead } = this.#keys;
    const limit = ['LIMIT', 0, count] as const;
    const pairs = await this.redis.zrevrangebyscore(dead, `(${before}`, '-inf', 'WITHSCORES', ...limit);
    return pairs.flatMap((id, i) => (i % 2 === 0 ? [{ id, endedMs: Number(pairs[i + 1]) }] : []));
  }

  async countDead(): Promise<number> {
    return this.redis.zcard(this.#keys.dead);
  }

  /** Forgets dead ones whose records have expired. */
  async trimDead(untilMs: number): Promise<number> {
    return this.redis.zremrangebyscore(this.#keys.dead, '-inf', untilMs);
  }

  /** Counters by name: `accepted`, one for each final state, `outcome:…` for all but ok, `bytes`, `redriven`, `purged`. */
  async stats(): Promise<Record<string, number>> {
    const { seq = '0', ...hash } = await this.redis.hgetall(this.#keys.stats);
    const counters = Object.fromEntries(Object.entries(hash).map(([name, value]) => [name, Number(value)]));
    // Every place in the order of acceptance was given to a new invocation or to a replayed one.
    return { accepted: Number(seq) - (counters['redriven'] ?? 0), ...counters };
  }

  async countUnfinished(): Promise<number> {
    return this.redis.zcard(this.#keys.expiry);
  }
}
