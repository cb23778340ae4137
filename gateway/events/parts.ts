/** What the gateway's side of events is made of; made once in gateway/main.ts. */
import type { Durability } from '../../infra/events/durability.ts';
import type { Payloads } from '../../infra/events/payloads.ts';
import type { ShardQueues } from '../../infra/events/shards.ts';
import type { EventStore } from '../../infra/events/store.ts';
import type { ScheduleStore } from '../../infra/schedules/store.ts';
import type { Routes } from '../invoke/routes.ts';
import type { Versions } from '../invoke/versions.ts';
import type { Acceptor } from './accept/acceptor.ts';
import type { EndWaiter } from './accept/end-waiter.ts';

export interface EventParts {
  readonly store: EventStore;
  readonly schedules: ScheduleStore;
  readonly queues: ShardQueues;
  readonly payloads: Payloads;
  readonly durability: Durability;
  readonly acceptor: Acceptor;
  readonly waiter: EndWaiter;
  readonly routes: Routes;
  readonly versions: Versions;
}
