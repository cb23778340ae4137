/** What the gateway's side of events is made of; made once in gateway/main.ts. */
import type { Durability } from '../../infra/events/durability.ts';
import type { Payloads } from '../../infra/events/payloads.ts';
import type { EventRecords, StepRecords } from '../../infra/events/cells/event-cells.ts';
import type { CellQueues } from '../../infra/events/cells/queue-cells.ts';
import type { ScheduleCells } from '../../infra/schedules/cells.ts';
import type { Routes } from '../invoke/routes.ts';
import type { Versions } from '../invoke/versions.ts';
import type { Acceptor } from './accept/acceptor.ts';
import type { EndWaiter } from './accept/end-waiter.ts';

export interface EventParts {
  readonly store: EventRecords;
  readonly steps: StepRecords;
  readonly schedules: ScheduleCells;
  readonly queues: CellQueues;
  readonly payloads: Payloads;
  readonly durability: Durability;
  readonly acceptor: Acceptor;
  readonly waiter: EndWaiter;
  readonly routes: Routes;
  readonly versions: Versions;
}
