/** The shard queues of all cells as one, for whoever has invocations released: a job goes to the cell of its invocations. */
import type { ConnectionOptions } from 'bullmq';
import type { Cells } from '../../contract/cells.ts';
import { openShardQueues, type ShardQueues } from '../shards.ts';

export interface CellQueues extends Pick<ShardQueues, 'add' | 'count' | 'close'> {
  /** By the index of the cell. */
  readonly each: readonly ShardQueues[];
}

export function openCellQueues(
  connection: ConnectionOptions,
  onError: (error: Error) => void,
  cells: Cells,
): CellQueues {
  const each = cells.all.map((cell) => openShardQueues(connection, onError, cell));
  return {
    each,
    async add(jobs) {
      const parts = Map.groupBy(jobs, ({ ids }) => cells.ofId(ids[0] ?? '').index);
      await Promise.all([...parts].map(([index, part]) => (each[index] as ShardQueues).add(part)));
    },
    async count() {
      const counts = await Promise.all(each.map((queues) => queues.count()));
      return counts.reduce(
        (sum, { waiting, active }) => ({ waiting: sum.waiting + waiting, active: sum.active + active }),
        { waiting: 0, active: 0 },
      );
    },
    async close() {
      await Promise.all(each.map((queues) => queues.close()));
    },
  };
}
