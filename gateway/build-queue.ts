/** The gateway's end of the build queue: orders go in here, the builder's worker takes them out. */
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { BUILD_QUEUE, type BuildJob } from '../infra/contract/jobs.ts';
import { durable } from '../infra/contract/keys.ts';
import { SkiffError } from '../sdk/protocol/errors.ts';
import { BUILDS_KEPT, BUILDS_KEPT_MS, BUILDS_QUEUED_MAX } from '../sdk/protocol/limits.ts';

export interface BuildQueue {
  /** @throws SkiffError OVERLOADED when BUILDS_QUEUED_MAX builds wait. */
  enqueue(job: BuildJob): Promise<void>;
  /** Takes a build that no builder has begun out of the queue; false when it is not waiting there. */
  tryWithdraw(buildId: string): Promise<boolean>;
  /** Ids of the function's builds that wait or run. */
  findUnfinished(functionName: string): Promise<string[]>;
  /** Ids of the newest builds, newest first, of one function or of all. */
  listRecent(functionName: string | undefined, count: number): Promise<string[]>;
  countWaiting(): Promise<number>;
  close(): Promise<void>;
}

const KEPT = { age: BUILDS_KEPT_MS / 1000, count: BUILDS_KEPT };

/** `redis` is a fail-fast connection to the durable store; the queue does not close it. */
export function openBuildQueue(redis: Redis, onError: (error: Error) => void): BuildQueue {
  const queue = new Queue<BuildJob>(BUILD_QUEUE, { connection: redis, prefix: durable.bullPrefix });
  queue.on('error', onError);
  return {
    async enqueue(job) {
      const waiting = await queue.getWaitingCount();
      if (waiting >= BUILDS_QUEUED_MAX) {
        throw new SkiffError(
          'OVERLOADED',
          `${waiting} builds are waiting; the limit is ${BUILDS_QUEUED_MAX}. Is a builder running?`,
        );
      }
      const options = { jobId: job.buildId, attempts: 1, removeOnComplete: KEPT, removeOnFail: KEPT };
      await queue.add('build', job, options);
    },

    async tryWithdraw(buildId) {
      const job = await queue.getJob(buildId);
      if (!job || (await job.getState()) !== 'waiting') return false;
      // A builder may have taken it since: then it is locked and removal fails, or it is gone.
      return (await queue.remove(buildId)) === 1;
    },

    async findUnfinished(functionName) {
      const jobs = await queue.getJobs(['waiting', 'active'], 0, BUILDS_QUEUED_MAX * 2);
      return jobs.filter((job) => job?.data.functionName === functionName).map((job) => job.data.buildId);
    },

    async listRecent(functionName, count) {
      // Of one function, others may lie between: all that are kept are looked at.
      const depth = functionName === undefined ? count : BUILDS_KEPT;
      const jobs = await queue.getJobs(['waiting', 'active', 'completed', 'failed'], 0, depth - 1);
      return jobs
        .filter((job) => job && (functionName === undefined || job.data.functionName === functionName))
        .map((job) => job.data)
        .toSorted((a, b) => b.requestedMs - a.requestedMs)
        .slice(0, count)
        .map(({ buildId }) => buildId);
    },

    countWaiting: () => queue.getWaitingCount(),
    close: () => queue.close(),
  };
}
