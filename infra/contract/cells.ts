/**
 * Cells: how one swarm grows past one Redis primary. A function hashes to one of a fixed number of cells, and all its keys
 * carry the hash tag of that cell; on a Redis Cluster cells lie on different primaries, and move with their slots.
 * Invariant: all processes of an installation count the same cells (infra/lib/layout.ts sees to it). With one cell the
 * layout is that of a single server. What belongs to no function (nodes, tokens, the catalog, builds) is in the first cell.
 */
import { bucketOf, bucketOfId } from '../../sdk/protocol/ids.ts';
import { cellTag, eventKeys, fastKeys, type EventKeys, type FastKeys } from './keys.ts';

/** Each costs a runner two connections that block, and an events process a consumer. */
export const CELLS_MAX = 64;

export interface Cell {
  readonly index: number;
  readonly tag: string;
  readonly events: EventKeys;
  readonly fast: FastKeys;
  /** Of how many. */
  readonly of: number;
}

export class Cells {
  readonly all: readonly Cell[];

  constructor(count: number) {
    this.all = Array.from({ length: count }, (_, index) => {
      const tag = cellTag(index);
      return { index, tag, events: eventKeys(tag), fast: fastKeys(tag), of: count };
    });
  }

  get count(): number {
    return this.all.length;
  }

  get first(): Cell {
    return this.all[0] as Cell;
  }

  /** Of a function, by its whole name. */
  ofFunction(name: string): Cell {
    return this.all[bucketOf(name) % this.all.length] as Cell;
  }

  /** Of a function's deployment or invocation. A service's sandboxes (`deployment@service`) are where its deployment is. */
  ofId(id: string): Cell {
    if (this.all.length === 1) return this.first;
    const at = id.indexOf('@');
    return this.all[bucketOfId(at === -1 ? id : id.slice(0, at)) % this.all.length] as Cell;
  }
}

export const ONE_CELL = new Cells(1);
