/**
 * Schedules in the durable store, and the firing of their ticks.
 *
 * Invariants: the last planned instant of a schedule only moves forward, in the same write that accepts the tick's
 * invocation; only the process with the newest scheduler token may move it; a tick's invocation has an id made from
 * schedule, version and planned instant, so two writes of one tick are one invocation.
 * Deliberately absent: clocks and waiting (gateway/events/schedule).
 */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Schedule, ScheduleInput } from '../../sdk/protocol/workflow/schedules.ts';
import { SCHEDULES_MAX } from '../../sdk/protocol/limits.ts';
import { derivedId } from '../../sdk/protocol/ids.ts';
import { ONE_CELL, type Cell } from '../contract/cells.ts';
import type { EventKeys } from '../contract/keys.ts';
import { defineEventScripts, type RunScript } from '../events/scripts.ts';
import { parseJobs, type ReleasedJob } from '../events/shards.ts';
import { acceptArguments, type Acceptance } from '../events/wire.ts';
import { nextInstant, type Timing } from './instants.ts';

/** As stored: what was asked for, and since when. */
export interface ScheduleDefinition {
  readonly name: string;
  readonly input: ScheduleInput;
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly version: number;
  readonly lastMs: number;
  /** A tick that waits for the end of the one before it (overlap policy queue-one). */
  readonly pendingMs: number | undefined;
}

export interface PlannedTick {
  readonly plannedMs: number;
  readonly nextMs: number | undefined;
  /** It is counted, not fired. */
  readonly isMissed: boolean;
  /** How many before it were missed and are not made up for. */
  readonly missedBefore: number;
}

export type TickReply =
  | { readonly kind: 'fired'; readonly jobs: ReleasedJob[] }
  | { readonly kind: 'overlap' | 'missed' | 'pending' | 'waiting' | 'stale' | 'fenced' }
  /** Not accepted: it is still due. */
  | { readonly kind: 'refused'; readonly why: string };

export function timingOf({ input, createdMs }: { input: ScheduleInput; createdMs: number }): Timing {
  return {
    cron: input.cron,
    everyMs: input.every,
    atMs: input.at === undefined ? undefined : Date.parse(input.at),
    timezone: input.timezone,
    anchorMs: createdMs,
  };
}

/** `inv-` with the planned instant as its time and a hash in place of random bits. */
export function tickId(
  schedule: Pick<ScheduleDefinition, 'name' | 'version' | 'createdMs'> & {
    readonly input: Pick<ScheduleInput, 'function'>;
  },
  plannedMs: number,
): string {
  const hash = createHash('sha256')
    .update(`${schedule.name}\n${schedule.version}\n${schedule.createdMs}\n${plannedMs}`)
    .digest();
  return derivedId('inv', schedule.input.function, plannedMs, hash);
}

export class ScheduleStore {
  readonly #redis: Redis;
  readonly #keys: EventKeys;
  readonly #run: RunScript;

  constructor(redis: Redis, cell: Cell = ONE_CELL.first) {
    this.#redis = redis;
    this.#keys = cell.events;
    this.#run = defineEventScripts(redis, cell);
  }

  /**
   * Creates or replaces. Undefined when there are SCHEDULES_MAX. Ticks up to `nowMs` are not made up for. `from`: what it
   * was in another cell.
   */
  async put(
    name: string,
    input: ScheduleInput,
    nowMs: number,
    from?: Pick<Schedule, 'version' | 'createdMs'>,
  ): Promise<Schedule | undefined> {
    const known = (await this.get(name)) ?? from;
    const createdMs = known?.createdMs ?? nowMs;
    const next = input.paused ? undefined : nextInstant(timingOf({ input, createdMs }), nowMs);
    const stored = JSON.stringify({ input, createdMs, updatedMs: nowMs });
    const args = [name, stored, next ?? '', SCHEDULES_MAX, nowMs, from?.version ?? 0];
    const version = await this.#run('put-schedule', args);
    return Number(version) === 0 ? undefined : this.get(name);
  }

  async get(name: string): Promise<Schedule | undefined> {
    const [schedule] = await this.#read([name]);
    return schedule;
  }

  /** By name. */
  async list(): Promise<Schedule[]> {
    return this.#read((await this.#redis.hkeys(this.#keys.schedules)).sort());
  }

  /** Fires nothing until it is put again. */
  async pause(name: string): Promise<void> {
    await this.#redis.multi().zrem(this.#keys.nextTicks, name).srem(this.#keys.pendingTicks, name).exec();
  }

  /** False when there is none. What it has fired goes on. */
  async remove(name: string): Promise<boolean> {
    const replies = await this.#redis
      .multi()
      .hdel(this.#keys.schedules, name)
      .del(this.#keys.schedule(name))
      .zrem(this.#keys.nextTicks, name)
      .srem(this.#keys.pendingTicks, name)
      .exec();
    return replies?.[0]?.[1] === 1;
  }

  async #read(names: readonly string[]): Promise<Schedule[]> {
    if (names.length === 0) return [];
    const pipeline = this.#redis.pipeline();
    pipeline.hmget(this.#keys.schedules, ...names).zmscore(this.#keys.nextTicks, ...names);
    for (const name of names) pipeline.hgetall(this.#keys.schedule(name));
    const [definitions, scores, ...states] = ((await pipeline.exec()) ?? []).map(([error, value]) => {
      if (error) throw error;
      return value;
    }) as [(string | null)[], (string | null)[], ...Record<string, string>[]];
    return names.flatMap((name, i) => {
      const json = definitions[i];
      if (!json) return [];
      return [toSchedule(name, json, states[i] as Record<string, string>, scores[i])];
    });
  }

  /** Names of schedules with a tick up to `nowMs`. */
  async listDue(nowMs: number, countMax: number): Promise<string[]> {
    return this.#redis.zrangebyscore(this.#keys.nextTicks, '-inf', nowMs, 'LIMIT', 0, countMax);
  }

  /** Names of schedules with a tick that waits for the end of the one before it. */
  async listPending(): Promise<string[]> {
    return this.#redis.smembers(this.#keys.pendingTicks);
  }

  /** When the next tick of all is; undefined when there is none. */
  async nextDueMs(): Promise<number | undefined> {
    const [, score] = await this.#redis.zrange(this.#keys.nextTicks, 0, '0', 'WITHSCORES');
    return score === undefined ? undefined : Number(score);
  }

  async getDefinition(name: string): Promise<ScheduleDefinition | undefined> {
    const [json, state] = await Promise.all([
      this.#redis.hget(this.#keys.schedules, name),
      this.#redis.hgetall(this.#keys.schedule(name)),
    ]);
    if (json === null) return undefined;
    const { input, createdMs, updatedMs } = parseDefinition(json);
    const pending = state['pending'];
    return {
      name,
      input,
      createdMs,
      updatedMs,
      version: Number(state['version']),
      lastMs: Number(state['last'] ?? createdMs),
      pendingMs: pending === undefined ? undefined : Number(pending),
    };
  }

  /** Becomes or stays the scheduler: its fence token, undefined when another process is. */
  async lead(id: string, fence: number | undefined, leaseMs: number): Promise<number | undefined> {
    return Number(await this.#run('lead', [id, fence ?? '', leaseMs])) || undefined;
  }

  /** Without an event the tick is only counted as missed. */
  async fire(
    leader: string,
    schedule: ScheduleDefinition,
    tick: PlannedTick,
    event: Acceptance | undefined,
    epoch: string,
  ): Promise<TickReply> {
    const reply = await this.#run('tick', [
      epoch,
      leader,
      schedule.name,
      schedule.version,
      tick.plannedMs,
      tick.nextMs ?? '',
      event === undefined ? 'miss' : 'fire',
      schedule.input.overlap,
      tick.missedBefore,
      ...(event === undefined ? [] : acceptArguments(event)),
    ]);
    return toTickReply(reply as unknown[]);
  }

  /** Fires the tick that waits, once the invocation before it has ended. */
  async firePending(
    leader: string,
    schedule: ScheduleDefinition,
    event: Acceptance,
    epoch: string,
  ): Promise<TickReply> {
    const { name, version, pendingMs = 0 } = schedule;
    const args = [epoch, leader, name, version, pendingMs, ...acceptArguments(event)];
    return toTickReply((await this.#run('tick-pending', args)) as unknown[]);
  }
}

function toTickReply([kind, ...rest]: readonly unknown[]): TickReply {
  switch (String(kind)) {
    case 'OK':
      return { kind: 'fired', jobs: parseJobs(rest.slice(2)) };
    case 'EXISTS':
    case 'SAME':
      return { kind: 'fired', jobs: [] };
    case 'MISSED':
    case 'OVERLAP':
    case 'PENDING':
    case 'WAITING':
    case 'STALE':
    case 'FENCED':
      return { kind: String(kind).toLowerCase() as 'missed' };
    default:
      return { kind: 'refused', why: [kind, ...rest].map(String).join(' ') };
  }
}

function parseDefinition(json: string): { input: ScheduleInput; createdMs: number; updatedMs: number } {
  return JSON.parse(json) as { input: ScheduleInput; createdMs: number; updatedMs: number };
}

function toSchedule(
  name: string,
  json: string,
  state: Readonly<Record<string, string>>,
  score: string | null | undefined,
): Schedule {
  const { input, createdMs, updatedMs } = parseDefinition(json);
  const { last, inv } = state;
  return {
    ...input,
    name,
    version: Number(state['version']),
    createdMs,
    updatedMs,
    fired: Number(state['fired'] ?? 0),
    skipped: Number(state['skipped'] ?? 0),
    missedCount: Number(state['missed'] ?? 0),
    ...(score ? { nextMs: Number(score) } : {}),
    // Of a new schedule this is the moment it was made, which is no tick.
    ...(last !== undefined && Number(last) > updatedMs ? { lastMs: Number(last) } : {}),
    ...(inv === undefined ? {} : { lastInvocation: inv }),
  };
}
