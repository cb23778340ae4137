/** Connections and parts of events, for the gateway (which takes them in) and the consumer (which runs them). */
import type { Redis } from 'ioredis';
import { Durability, type DurabilityClass } from '../../infra/events/durability.ts';
import { openPayloads } from '../../infra/events/payloads.ts';
import { openEventRecords, openStepRecords } from '../../infra/events/cells/event-cells.ts';
import { openCellQueues } from '../../infra/events/cells/queue-cells.ts';
import type { Log } from '../../infra/lib/log.ts';
import { cellsOf, openRedis, openSubscriber } from '../../infra/lib/redis.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import { openSchedules } from '../../infra/schedules/cells.ts';
import type { Routes } from '../invoke/routes.ts';
import type { Versions } from '../invoke/versions.ts';
import { Acceptor } from './accept/acceptor.ts';
import { EndWaiter } from './accept/end-waiter.ts';
import type { EventParts } from './parts.ts';

export interface EventOptions {
  readonly durableUrl: string;
  readonly durability: DurabilityClass;
  readonly epochFile: string;
  readonly registry: Registry;
  readonly routes: Routes;
  readonly versions: Versions;
  readonly log: Log;
}

/** Who waits for an answer is told soon that there is none. */
const COMMAND_MS_MAX = 1_000;

export interface OpenedEvents extends EventParts {
  close(): Promise<void>;
}

/** Does not fail when the store is away: until it is back events are refused. */
export async function openEvents(options: EventOptions): Promise<OpenedEvents> {
  const { durableUrl, registry, routes, versions, log } = options;
  const redis = openRedis(durableUrl, { commandTimeout: COMMAND_MS_MAX });
  const queueRedis = openRedis(durableUrl);
  const subscriber = openSubscriber(durableUrl);
  const connections: Redis[] = [redis, queueRedis, subscriber];
  await Promise.allSettled(connections.map((one) => one.connect()));
  const cells = cellsOf(redis);
  const store = openEventRecords(redis);
  const durability = new Durability({
    redis,
    class: options.durability,
    epochFile: options.epochFile,
    log,
  });
  await durability.open();
  const queues = openCellQueues(queueRedis, (error) => log.debug({ error }, 'shard queues'), cells);
  const payloads = openPayloads(registry, redis);
  const waiter = new EndWaiter(subscriber, store);
  const acceptor = new Acceptor({ store, queues, cells, payloads, durability, log });
  return {
    store,
    steps: openStepRecords(redis),
    schedules: openSchedules(redis),
    queues,
    payloads,
    durability,
    acceptor,
    waiter,
    routes,
    versions,
    async close() {
      durability.close();
      await queues.close().catch(() => {});
      for (const one of connections) one.disconnect();
    },
  };
}
