/** The control API's routes of events; a part of the one table in routes/table.ts. */
import { z } from 'zod';
import {
  AcceptedInvocation,
  CapturedRequest,
  EventBatch,
  EventGroup,
  EventReceipt,
  InvocationRecord,
  InvocationState,
  InvocationStep,
  Signal,
  SignalReceipt,
} from '../../../sdk/protocol/events.ts';
import { Schedule, ScheduleInput } from '../../../sdk/protocol/workflow/schedules.ts';
import { WAIT_MS_MAX } from '../../../sdk/protocol/limits.ts';
import { FunctionName } from '../../../sdk/protocol/manifest.ts';
import type { RouteSpec } from '../../routes/table.ts';

const Wait = z.object({
  /** Answer when the state is final, at the latest after this time. */
  waitMs: z.coerce.number().int().min(0).max(WAIT_MS_MAX).default(0),
});

/** Which dead or expired invocations: some, all of a function, or all. */
const Selection = z.strictObject({
  ids: z.array(z.string().max(64)).min(1).max(1_000).optional(),
  function: FunctionName.optional(),
  all: z.literal(true).optional(),
});

const EventStats = z.object({
  durability: z.enum(['single', 'replicated', 'fast']),
  /** Why nothing is accepted now. */
  problem: z.string().optional(),
  unfinished: z.number(),
  dead: z.number(),
  /** In the queue proper, and of those the ones a consumer holds. */
  queued: z.number(),
  held: z.number(),
  counters: z.record(z.string(), z.number()),
});

export const EVENT_ROUTES = {
  submitEvents: {
    method: 'POST',
    path: '/v1/events',
    scope: 'invoke',
    bound: 'sorted',
    summary:
      'Accept up to 1000 events, each on its own: the answer has a receipt or an error for each, in order.',
    body: EventBatch,
    status: 202,
    response: z.object({ events: z.array(EventReceipt) }),
    errors: ['NOT_DURABLE', 'OVERLOADED'],
  },
  submitGroup: {
    method: 'POST',
    path: '/v1/events/groups',
    scope: 'invoke',
    bound: 'sorted',
    summary:
      'Accept up to 1000 events, and in the same write one that runs when all of them have ended; its body is a batch of ' +
      'CloudEvents that tells how.',
    body: EventGroup,
    status: 202,
    response: z.object({ events: z.array(EventReceipt), follower: AcceptedInvocation }),
    errors: ['FUNCTION_NOT_FOUND', 'NOT_DURABLE', 'OVERLOADED', 'THROTTLED'],
  },
  readEventStats: {
    method: 'GET',
    path: '/v1/events/stats',
    scope: 'read',
    summary: 'Counters of events, what waits, and how safely events are kept.',
    status: 200,
    response: EventStats,
    errors: [],
  },
  getInvocation: {
    method: 'GET',
    path: '/v1/invocations/:id',
    scope: 'public',
    summary:
      'State and attempts of an asynchronous invocation; with `waitMs` when it has ended. With `Accept: text/event-stream` ' +
      'every change as a server-sent event. Needs a token (invoke or read) unless the function is public.',
    query: Wait,
    status: 200,
    response: InvocationRecord,
    errors: ['NOT_FOUND', 'GONE', 'UNAUTHENTICATED', 'FORBIDDEN', 'OVERLOADED'],
  },
  getInvocationResult: {
    method: 'GET',
    path: '/v1/invocations/:id/result',
    scope: 'public',
    summary:
      'What the function answered: its status, headers and body. 202 with the record while there is no result yet.',
    query: Wait,
    status: 200,
    media: 'text',
    response: z.string(),
    errors: ['NOT_FOUND', 'GONE', 'UNAUTHENTICATED', 'FORBIDDEN'],
  },
  cancelInvocation: {
    method: 'DELETE',
    path: '/v1/invocations/:id',
    scope: 'invoke',
    bound: 'sorted',
    summary:
      'Cancel an asynchronous invocation. The answer is its record: cancelled, or what it had become before.',
    status: 200,
    response: InvocationRecord,
    errors: ['NOT_FOUND'],
  },
  listInvocationSteps: {
    method: 'GET',
    path: '/v1/invocations/:id/steps',
    scope: 'read',
    bound: 'sorted',
    summary:
      'The durable steps that an invocation has stored, and what it sleeps or waits for; without values.',
    status: 200,
    response: z.object({ steps: z.array(InvocationStep) }),
    errors: [],
  },
  replayInvocation: {
    method: 'POST',
    path: '/v1/invocations/:id/replay',
    scope: 'deploy',
    bound: 'sorted',
    summary:
      'Run a recorded event again as a new one: against what is live now, or a deployment or alias. The old one stays as it is.',
    body: z.strictObject({ deployment: z.string().min(1).max(64).optional() }),
    status: 202,
    response: AcceptedInvocation,
    errors: ['NOT_FOUND', 'GONE', 'FUNCTION_NOT_FOUND', 'NOT_DURABLE', 'OVERLOADED', 'THROTTLED'],
  },
  getInvocationRequest: {
    method: 'GET',
    path: '/v1/invocations/:id/request',
    scope: 'deploy',
    bound: 'sorted',
    summary: 'What was sent: method, URL, headers and body of a recorded event.',
    status: 200,
    response: CapturedRequest,
    errors: ['NOT_FOUND', 'GONE', 'BODY_TOO_LARGE'],
  },
  sendSignal: {
    method: 'POST',
    path: '/v1/signals',
    scope: 'invoke',
    summary:
      'Send an event to the asynchronous invocations that wait for one of this name with matching data; they go on with it.',
    body: Signal,
    status: 200,
    response: SignalReceipt,
    errors: ['BODY_TOO_LARGE', 'NOT_DURABLE'],
  },
  listDead: {
    method: 'GET',
    path: '/v1/dlq',
    scope: 'read',
    bound: 'sorted',
    summary: 'Dead and expired invocations, newest first.',
    query: z.object({
      function: FunctionName.optional(),
      limit: z.coerce.number().int().min(1).max(1_000).default(100),
      /** Continue with those that ended before (epoch ms). */
      before: z.coerce.number().int().optional(),
    }),
    status: 200,
    response: z.object({ invocations: z.array(InvocationRecord), total: z.number() }),
    errors: [],
  },
  replayDead: {
    method: 'POST',
    path: '/v1/dlq/replay',
    scope: 'deploy',
    bound: 'sorted',
    summary: 'Give dead or expired invocations a new series of attempts, under the same ids.',
    body: Selection,
    status: 200,
    response: z.object({ replayed: z.array(z.object({ id: z.string(), state: InvocationState })) }),
    errors: ['NOT_FOUND'],
  },
  purgeDead: {
    method: 'POST',
    path: '/v1/dlq/purge',
    scope: 'deploy',
    bound: 'sorted',
    summary: 'Remove dead or expired invocations for good.',
    body: Selection,
    status: 200,
    response: z.object({ purged: z.number() }),
    errors: [],
  },
  listSchedules: {
    method: 'GET',
    path: '/v1/schedules',
    scope: 'read',
    bound: 'sorted',
    summary: 'All schedules, by name.',
    status: 200,
    response: z.object({ schedules: z.array(Schedule) }),
    errors: [],
  },
  getSchedule: {
    method: 'GET',
    path: '/v1/schedules/:name',
    scope: 'read',
    bound: 'name',
    summary: 'One schedule, and what has become of its ticks.',
    status: 200,
    response: Schedule,
    errors: ['NOT_FOUND'],
  },
  putSchedule: {
    method: 'PUT',
    path: '/v1/schedules/:name',
    scope: 'deploy',
    bound: 'name',
    summary: 'Create or replace a schedule. Ticks of the one before are not made up for.',
    body: ScheduleInput,
    status: 200,
    response: Schedule,
    errors: ['INVALID_NAME', 'FUNCTION_NOT_FOUND', 'CONFLICT'],
  },
  removeSchedule: {
    method: 'DELETE',
    path: '/v1/schedules/:name',
    scope: 'deploy',
    bound: 'name',
    summary: 'Remove a schedule. What it has fired goes on.',
    status: 204,
    errors: ['NOT_FOUND'],
  },
  pauseSchedule: {
    method: 'POST',
    path: '/v1/schedules/:name/pause',
    scope: 'deploy',
    bound: 'name',
    summary: 'Fire no more ticks until it is resumed.',
    status: 200,
    response: Schedule,
    errors: ['NOT_FOUND'],
  },
  resumeSchedule: {
    method: 'POST',
    path: '/v1/schedules/:name/resume',
    scope: 'deploy',
    bound: 'name',
    summary: 'Go on from the next tick after now.',
    status: 200,
    response: Schedule,
    errors: ['NOT_FOUND'],
  },
  runSchedule: {
    method: 'POST',
    path: '/v1/schedules/:name/run',
    scope: 'deploy',
    bound: 'name',
    summary: 'Run what is scheduled now, beside its ticks.',
    status: 202,
    response: AcceptedInvocation,
    errors: ['NOT_FOUND', 'FUNCTION_NOT_FOUND', 'NOT_DURABLE', 'OVERLOADED', 'THROTTLED'],
  },
} as const satisfies Record<string, RouteSpec>;
