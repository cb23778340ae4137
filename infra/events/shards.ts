/**
 * The BullMQ queues that carry released invocations of a cell: a fixed number, whatever the number of functions, as every
 * queue costs each consumer a connection. The wire between those who release (gateways, consumers) and those who run.
 */
import { Queue, type ConnectionOptions } from 'bullmq';
import { ONE_CELL, type Cell } from '../contract/cells.ts';

const SHARDS = 4;
/** Queues of one cell: as many as a single server has, over all cells together, and one each when there are more cells. */
export const shardsOf = ({ of }: Pick<Cell, 'of'>): number => Math.ceil(SHARDS / of);
/** Invocations of one job. Several share a job only when a backlog is released. */
export const JOB_IDS_MAX = 16;

export const shardQueue = (shard: number): string => `events-${shard}`;

/** Payload of a job: the invocations to begin. The record says whether they are still to be run, not the job. */
export interface ShardJob {
  readonly ids: readonly string[];
}

/** A job that a script asks its caller to add. */
export interface ReleasedJob {
  readonly shard: number;
  readonly jobId: string;
  readonly ids: readonly string[];
}

export function parseJobs(reply: readonly unknown[]): ReleasedJob[] {
  return reply.map((entry) => {
    const [shard, jobId, ...ids] = entry as [unknown, unknown, ...unknown[]];
    return { shard: Number(shard), jobId: String(jobId), ids: ids.map(String) };
  });
}

export interface ShardQueues {
  /** What stands in front of a shard's number, ':' and a job id in the key of a BullMQ job. */
  readonly jobKeyPrefix: string;
  /** Adds the jobs. One that is not added is found by sweep.lua within seconds. */
  add(jobs: readonly ReleasedJob[]): Promise<void>;
  /** Waiting jobs of each shard. */
  countWaiting(): Promise<number[]>;
  /** Waiting and running jobs of all shards. */
  count(): Promise<{ waiting: number; active: number }>;
  close(): Promise<void>;
}

export function openShardQueues(
  connection: ConnectionOptions,
  onError: (error: Error) => void,
  cell: Cell = ONE_CELL.first,
): ShardQueues {
  const prefix = cell.events.bullPrefix;
  const queues = Array.from({ length: shardsOf(cell) }, (_, shard) => {
    const queue = new Queue<ShardJob>(shardQueue(shard), {
      connection,
      prefix,
      // Nobody reads BullMQ's own events: the record is the truth.
      streams: { events: { maxLen: 100 } },
    });
    queue.on('error', onError);
    return queue;
  });
  return {
    jobKeyPrefix: `${prefix}:events-`,
    async add(jobs) {
      await Promise.all(
        jobs.map(({ shard, jobId, ids }) =>
          (queues[shard] as Queue<ShardJob>).add(
            'run',
            { ids },
            { jobId, removeOnComplete: true, removeOnFail: true },
          ),
        ),
      );
    },
    countWaiting: () => Promise.all(queues.map((queue) => queue.getWaitingCount())),
    async count() {
      const counts = await Promise.all(queues.map((queue) => queue.getJobCounts('waiting', 'active')));
      const sum = (name: string) => counts.reduce((total, each) => total + (each[name] ?? 0), 0);
      return { waiting: sum('waiting'), active: sum('active') };
    },
    async close() {
      await Promise.all(queues.map((queue) => queue.close()));
    },
  };
}
