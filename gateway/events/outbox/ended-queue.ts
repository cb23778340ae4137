/**
 * Queues as destinations: BullMQ queues of the durable store, for workers of the user's own. An end is one job, whose data
 * is the CloudEvent and whose id is the event's, so that telling it twice is one job for as long as that is there.
 * Invariant: a queue that nobody reads does not fill the store; beyond its limit an end waits in the outbox.
 * Deliberately absent: workers. Whoever reads the queue has the store's address and BullMQ.
 */
import { Queue, type ConnectionOptions } from 'bullmq';
import { durable } from '../../../infra/contract/keys.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { DESTINATION_QUEUE_FAILED_KEPT, DESTINATION_QUEUE_JOBS_MAX } from '../../../sdk/protocol/limits.ts';
import type { EndedEvent } from './ended-event.ts';

export interface EndedQueues {
  /** Resolves when the job is stored. @throws SkiffError OVERLOADED */
  add(name: string, event: EndedEvent): Promise<void>;
  close(): Promise<void>;
}

/** Clients of queues that were used last. */
const OPEN_MAX = 100;

export function openEndedQueues(connection: ConnectionOptions, onError: (error: Error) => void): EndedQueues {
  const opened = new Map<string, Queue>();

  function open(name: string): Queue {
    const known = opened.get(name);
    if (known) {
      // Last used is last in the map.
      opened.delete(name);
      opened.set(name, known);
      return known;
    }
    const queue = new Queue(name, { connection, prefix: durable.destinationPrefix, skipMetasUpdate: true });
    queue.on('error', onError);
    opened.set(name, queue);
    for (const [oldest, old] of opened) {
      if (opened.size <= OPEN_MAX) break;
      opened.delete(oldest);
      old.close().catch(onError);
    }
    return queue;
  }

  return {
    async add(name, event) {
      const queue = open(name);
      const waiting = await queue.getWaitingCount();
      if (waiting >= DESTINATION_QUEUE_JOBS_MAX) {
        throw new SkiffError(
          'OVERLOADED',
          `${waiting} jobs wait in the queue "${name}", which is the limit: no worker takes them`,
        );
      }
      await queue.add('ended', JSON.parse(event.body.toString('utf8')), {
        jobId: event.id,
        removeOnComplete: true,
        removeOnFail: DESTINATION_QUEUE_FAILED_KEPT,
      });
    },
    async close() {
      await Promise.allSettled([...opened.values()].map((queue) => queue.close()));
    },
  };
}
