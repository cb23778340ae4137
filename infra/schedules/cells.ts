/**
 * Schedules of all cells as one store, for whoever looks at or changes them. A schedule is kept in the cell of the function
 * that it runs, as a tick and its invocation are one write; firing is each cell's own (gateway/events/schedule).
 * Invariant: one that comes to run a function of another cell fires in neither while it moves.
 */
import type { Redis } from 'ioredis';
import { SCHEDULES_MAX } from '../../sdk/protocol/limits.ts';
import type { Schedule, ScheduleInput } from '../../sdk/protocol/workflow/schedules.ts';
import { cellsOf } from '../lib/redis.ts';
import { ScheduleStore } from './store.ts';

export type Schedules = Pick<ScheduleStore, 'put' | 'get' | 'list' | 'remove' | 'getDefinition'>;

export interface ScheduleCells extends Schedules {
  /** By the index of the cell. */
  readonly each: readonly ScheduleStore[];
}

export function openSchedules(redis: Redis): ScheduleCells {
  const cells = cellsOf(redis);
  const each = cells.all.map((cell) => new ScheduleStore(redis, cell));
  const storeFor = (input: ScheduleInput) => each[cells.ofFunction(input.function).index] as ScheduleStore;

  async function find(name: string): Promise<{ store: ScheduleStore; schedule: Schedule } | undefined> {
    const found = await Promise.all(each.map(async (store) => ({ store, schedule: await store.get(name) })));
    // Two only while it moves: the newer one holds.
    return found
      .flatMap(({ store, schedule }) => (schedule ? [{ store, schedule }] : []))
      .toSorted((a, b) => b.schedule.version - a.schedule.version)[0];
  }

  async function list(): Promise<Schedule[]> {
    const newest = new Map<string, Schedule>();
    for (const schedule of (await Promise.all(each.map((store) => store.list()))).flat()) {
      const other = newest.get(schedule.name);
      if (!other || other.version < schedule.version) newest.set(schedule.name, schedule);
    }
    return [...newest.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  return {
    each,
    list,
    get: async (name) => (await find(name))?.schedule,
    getDefinition: async (name) => (await find(name))?.store.getDefinition(name),

    async put(name, input, nowMs) {
      const target = storeFor(input);
      const known = await find(name);
      if (!known && cells.count > 1 && (await list()).length >= SCHEDULES_MAX) return undefined;
      if (!known || known.store === target) return target.put(name, input, nowMs);
      await known.store.pause(name);
      const { version, createdMs } = known.schedule;
      const moved = await target.put(name, input, nowMs, { version, createdMs });
      if (moved) await known.store.remove(name);
      return moved;
    },

    async remove(name) {
      const removed = await Promise.all(each.map((store) => store.remove(name)));
      return removed.includes(true);
    },
  };
}
