/**
 * Asynchronous invocations of all cells as one store, for whoever takes events in or looks at them: each call goes to the
 * cell of its invocation or function, and what is asked of all is added up. With one cell it is that cell's store itself.
 * Invariant: no write touches two cells, so each is as atomic as with one.
 * Deliberately absent: what consumers and pumps do. There is one of each for every cell, on that cell's store.
 */
import type { Redis } from 'ioredis';
import type { Cell, Cells } from '../../contract/cells.ts';
import { cellsOf } from '../../lib/redis.ts';
import { EventStore } from '../store.ts';
import { StepStore } from '../steps.ts';

/** What can be asked of the events of all cells. */
export type EventRecords = Pick<
  EventStore,
  | 'acceptMany'
  | 'cancel'
  | 'countDead'
  | 'countUnfinished'
  | 'endMember'
  | 'get'
  | 'getMany'
  | 'getPolicy'
  | 'getRequest'
  | 'getResult'
  | 'getState'
  | 'listDead'
  | 'purge'
  | 'redrive'
  | 'stats'
>;
export type StepRecords = Pick<StepStore, 'list' | 'signal'>;

export function openEventRecords(redis: Redis): EventRecords {
  const cells = cellsOf(redis);
  const stores = cells.all.map((cell) => new EventStore(redis, cell));
  return cells.count === 1 ? (stores[0] as EventStore) : new EventCells(cells, stores);
}

export function openStepRecords(redis: Redis): StepRecords {
  const cells = cellsOf(redis);
  const stores = cells.all.map((cell) => new StepStore(redis, cell));
  return {
    list: (id) => (stores[cells.ofId(id).index] as StepStore).list(id),
    async signal(name, data, isKept) {
      // Whoever waits may be of any function.
      const replies = await Promise.all(stores.map((store) => store.signal(name, data, isKept)));
      return { ids: replies.flatMap(({ ids }) => ids), jobs: replies.flatMap(({ jobs }) => jobs) };
    },
  };
}

type Method = keyof EventRecords;
type Arguments<Name extends Method> = Parameters<EventRecords[Name]>;

class EventCells implements EventRecords {
  readonly #cells: Cells;
  readonly #stores: readonly EventStore[];

  constructor(cells: Cells, stores: readonly EventStore[]) {
    this.#cells = cells;
    this.#stores = stores;
  }

  #in(cell: Cell): EventStore {
    return this.#stores[cell.index] as EventStore;
  }

  #of(id: string): EventStore {
    return this.#in(this.#cells.ofId(id));
  }

  /** Calls it for each cell with the items that are there, and gives the replies in the order of the items. */
  async #each<Item, Value>(
    items: readonly Item[],
    cellOf: (item: Item) => Cell,
    run: (store: EventStore, part: readonly Item[]) => Promise<readonly Value[]>,
  ): Promise<Value[]> {
    const parts = Map.groupBy(items.keys(), (at) => cellOf(items[at] as Item));
    const values: Value[] = [];
    await Promise.all(
      [...parts].map(async ([cell, places]) => {
        const replies = await run(
          this.#in(cell),
          places.map((at) => items[at] as Item),
        );
        for (const [i, at] of places.entries()) values[at] = replies[i] as Value;
      }),
    );
    return values;
  }

  async #sum(read: (store: EventStore) => Promise<number>): Promise<number> {
    const counts = await Promise.all(this.#stores.map(read));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** All of one cell: whoever accepts keeps a batch for each. */
  acceptMany(...[accepted, epoch]: Arguments<'acceptMany'>): ReturnType<EventRecords['acceptMany']> {
    return this.#of(accepted[0]?.id ?? '').acceptMany(accepted, epoch);
  }

  cancel(id: string): ReturnType<EventRecords['cancel']> {
    return this.#of(id).cancel(id);
  }

  redrive(...args: Arguments<'redrive'>): ReturnType<EventRecords['redrive']> {
    return this.#of(args[0]).redrive(...args);
  }

  async purge(ids: readonly string[]): Promise<number> {
    const parts = Map.groupBy(ids, (id) => this.#cells.ofId(id));
    const counts = await Promise.all([...parts].map(([cell, part]) => this.#in(cell).purge(part)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  endMember(id: string, member: string): ReturnType<EventRecords['endMember']> {
    return this.#of(id).endMember(id, member);
  }

  getPolicy(id: string): ReturnType<EventRecords['getPolicy']> {
    return this.#of(id).getPolicy(id);
  }

  get(id: string): ReturnType<EventRecords['get']> {
    return this.#of(id).get(id);
  }

  async getMany(ids: readonly string[]): ReturnType<EventRecords['getMany']> {
    const cellOf = (id: string) => this.#cells.ofId(id);
    const records = await this.#each(ids, cellOf, async (store, part) => {
      const found = new Map((await store.getMany(part)).map((record) => [record.id, record]));
      return part.map((id) => found.get(id));
    });
    return records.filter((record) => record !== undefined);
  }

  getState(id: string): ReturnType<EventRecords['getState']> {
    return this.#of(id).getState(id);
  }

  getResult(id: string): ReturnType<EventRecords['getResult']> {
    return this.#of(id).getResult(id);
  }

  getRequest(id: string): ReturnType<EventRecords['getRequest']> {
    return this.#of(id).getRequest(id);
  }

  async listDead(before: number, count: number): Promise<string[]> {
    const lists = await Promise.all(this.#stores.map((store) => store.listDeadTimes(before, count)));
    const newest = lists.flat().toSorted((a, b) => b.endedMs - a.endedMs);
    return newest.slice(0, count).map(({ id }) => id);
  }

  countDead(): Promise<number> {
    return this.#sum((store) => store.countDead());
  }

  countUnfinished(): Promise<number> {
    return this.#sum((store) => store.countUnfinished());
  }

  async stats(): Promise<Record<string, number>> {
    const sum: Record<string, number> = {};
    for (const counters of await Promise.all(this.#stores.map((store) => store.stats())))
      for (const [name, value] of Object.entries(counters)) sum[name] = (sum[name] ?? 0) + value;
    return sum;
  }
}
