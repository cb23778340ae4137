/** Handlers of all routes of events. */
import type { GatewayParts } from '../../parts.ts';
import type { Handlers } from '../../routes/route.ts';
import { createDeadHandlers } from './dead.ts';
import { createInvocationHandlers } from './invocations.ts';
import { createReplayHandlers } from './replay.ts';
import { createScheduleHandlers } from './schedules.ts';
import { createSignalHandlers } from './signals.ts';
import { createStateStreamer } from './state-stream.ts';
import { createSubmitHandlers } from './submit.ts';
import type { EVENT_ROUTES } from './table.ts';

export function createEventHandlers(parts: GatewayParts): Pick<Handlers, keyof typeof EVENT_ROUTES> {
  const { events } = parts;
  const streamStates = createStateStreamer(events.store, events.waiter, parts.stopping);
  return {
    ...createSubmitHandlers(parts, events),
    ...createInvocationHandlers(parts, events, streamStates),
    ...createReplayHandlers(events),
    ...createDeadHandlers(parts, events),
    ...createScheduleHandlers(events),
    ...createSignalHandlers(parts, events),
  };
}
