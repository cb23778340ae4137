/** The event of one tick. Pure. */
import { createHash } from 'node:crypto';
import type { Deployment } from '../../../sdk/protocol/api.ts';
import type { ScheduleInput } from '../../../sdk/protocol/workflow/schedules.ts';
import type { NewEvent } from '../accept/acceptor.ts';
import { createRequest } from '../accept/event-request.ts';

/** What a function sees as its host when nobody called it by one. */
const BASE_URL = 'http://schedule.skiff';

export function createTickEvent(
  { name, input }: { readonly name: string; readonly input: ScheduleInput },
  plannedMs: number,
  deployment: Deployment,
  id: string | undefined,
): NewEvent {
  const { head, body } = createRequest(input, BASE_URL);
  const delay = id === undefined ? 0 : jitterMs(id, input.jitter);
  return {
    ...(id === undefined ? {} : { id }),
    deployment,
    head: {
      ...head,
      headers: [
        ...head.headers,
        ['skiff-schedule', name],
        ['skiff-scheduled-for', new Date(plannedMs).toISOString()],
      ],
    },
    body,
    options: delay > 0 ? { delay } : {},
    origin: `schedule:${name}`,
  };
}

/** The same for the same tick: a tick that is written twice is the same event. */
function jitterMs(tick: string, jitterMsMax: number): number {
  if (jitterMsMax === 0) return 0;
  return createHash('sha256').update(tick).digest().readUInt32LE(0) % jitterMsMax;
}
