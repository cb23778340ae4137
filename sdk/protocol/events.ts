/**
 * Asynchronous invocations as clients see them: states, attempts, records. The promises behind the states are in the
 * README under "Delivery"; which transitions are legal is data in infra/events/states.ts.
 */
import { z } from 'zod';
import * as limits from './limits.ts';
import { FunctionName } from './manifest.ts';
import { tryParseMs } from './units.ts';

export const FINAL_STATES = ['succeeded', 'dead', 'expired', 'cancelled'] as const;
export const InvocationState = z.enum([
  'delayed',
  'ready',
  'running',
  'retry_wait',
  'waiting',
  ...FINAL_STATES,
]);
export type InvocationState = z.output<typeof InvocationState>;

export function isFinal(state: InvocationState): boolean {
  return (FINAL_STATES as readonly string[]).includes(state);
}

/**
 * How an attempt ended. The first six count against the function's `retries`, the next do not. One that is `suspended`
 * waits (states `waiting`) and goes on under the same number.
 */
export const AttemptOutcome = z.enum([
  'function_error',
  'timeout',
  'oom',
  'crashed',
  'init_error',
  'rejected',
  'ok',
  'throttled',
  'platform_error',
  'not_started',
  'lost',
  'cancelled',
  'suspended',
]);
export type AttemptOutcome = z.output<typeof AttemptOutcome>;

export const Attempt = z.object({
  number: z.number(),
  /** Grows with every attempt and cancellation: only the holder of the newest one may write a result. */
  fence: z.number(),
  startedMs: z.number(),
  endedMs: z.number().optional(),
  /** Absent while it runs. */
  outcome: AttemptOutcome.optional(),
  /** What the function answered. */
  status: z.number().optional(),
  message: z.string().optional(),
  deployment: z.string().optional(),
  runner: z.string().optional(),
});
export type Attempt = z.output<typeof Attempt>;

export const PRIORITIES = ['high', 'normal', 'low'] as const;
export const Priority = z.enum(PRIORITIES);
export type Priority = z.output<typeof Priority>;

/** GET /v1/invocations/{id}. */
export const InvocationRecord = z.object({
  id: z.string(),
  functionName: FunctionName,
  state: InvocationState,
  /** Why it is final: `max_age`, `retries_exhausted`, `poison_suspect`, `rejected`, `function_deleted`, … */
  reason: z.string().optional(),
  acceptedMs: z.number(),
  /** When it will run at the latest, while it is delayed, waits for a retry, sleeps or waits for an event. */
  dueMs: z.number().optional(),
  /** End of its maximum age. */
  expiresMs: z.number(),
  endedMs: z.number().optional(),
  attempts: z.array(Attempt),
  /** Tries that count against the function's retries, and attempts whose outcome was lost, since the last replay. */
  counted: z.number(),
  lost: z.number(),
  /** Durable steps that are stored, and how often it slept or waited between them. */
  steps: z.number(),
  suspensions: z.number(),
  /** How often it was replayed from the dead-letter queue. */
  replays: z.number(),
  method: z.string(),
  url: z.string(),
  bodyBytes: z.number(),
  priority: Priority,
  orderingKey: z.string().optional(),
  /** How many others must end before it runs. */
  waitsFor: z.number().optional(),
  /** What put it into the queue: `http`, `batch`, `schedule:…`, `invocation:…`. */
  origin: z.string(),
  /** Who is told how it ended, while that is not done or has failed. */
  destination: z
    .object({
      state: z.enum(['pending', 'delivered', 'failed']),
      attempts: z.number(),
      error: z.string().optional(),
    })
    .optional(),
  /** There is a result at GET /v1/invocations/{id}/result. */
  hasResult: z.boolean(),
  resultExpiresMs: z.number().optional(),
});
export type InvocationRecord = z.output<typeof InvocationRecord>;

/** What 202 says. */
export const AcceptedInvocation = z.object({
  id: z.string(),
  state: InvocationState,
  location: z.string(),
});
export type AcceptedInvocation = z.output<typeof AcceptedInvocation>;

function period(max: number, what: string) {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const ms = tryParseMs(value);
    if (ms !== undefined && ms <= max) return ms;
    context.addIssue({
      code: 'custom',
      message: `"${value}" is not ${what} of at most ${max} ms; write 30s, 5m, 1h`,
    });
    return z.NEVER;
  });
}

/** What may be said of one event beside its request: in a batch by name, over HTTP as headers (see events/options). */
export const EventOptions = z.strictObject({
  /** Run it no sooner than after this time. */
  delay: period(limits.EVENT_DELAY_MS_MAX, 'a delay').optional(),
  /** Instead of the function's own. */
  maxAge: period(limits.EVENT_AGE_MS_MAX, 'an age').optional(),
  priority: Priority.optional(),
  /** Invocations of one function with one key start in the order accepted, one at a time. */
  orderingKey: z.string().min(1).max(255).optional(),
  idempotencyKey: z
    .string()
    .max(255)
    .regex(/^[\x21-\x7e]+$/, 'printable ASCII without spaces')
    .optional(),
});
export type EventOptions = z.output<typeof EventOptions>;

/** Names and values that can stand in a request. */
const Headers = z.record(
  z.string().regex(/^[\w!#$%&'*+.^`|~-]{1,256}$/, 'not the name of a header'),
  z
    .string()
    .max(limits.HEAD_BYTES_MAX)
    // eslint-disable-next-line no-control-regex -- line breaks in a value would be further headers
    .regex(/^[^\u0000-\u0008\u000a-\u001f\u007f]*$/, 'a header value has no control characters'),
);

/** The request of an event that is not itself a request. */
export const EventRequestHead = z.strictObject({
  method: z
    .string()
    .regex(/^[A-Z]{1,16}$/)
    .default('POST'),
  /** After the function's name, with its query. */
  path: z.string().max(limits.URL_BYTES_MAX).regex(/^\//, 'begins with "/"').default('/'),
  headers: Headers.default({}),
  /** Sent as it is when it is a text, else as JSON. */
  body: z.unknown().optional(),
});

/** One element of POST /v1/events. */
export const EventInput = EventOptions.extend({
  function: FunctionName,
  ...EventRequestHead.shape,
  /** Bytes as base64, instead of `body`. */
  bodyBase64: z.base64().optional(),
});
export type EventInput = z.output<typeof EventInput>;

/** What follows when every event of a batch has ended: its body tells of their ends, as a batch of CloudEvents. */
export const FollowerInput = EventInput.omit({ body: true, bodyBase64: true, delay: true, method: true });
export type FollowerInput = z.output<typeof FollowerInput>;
export type FollowerRequest = z.input<typeof FollowerInput>;

/** POST /v1/events. */
export const EventBatch = z.array(EventInput).min(1).max(limits.EVENTS_PER_BATCH_MAX);
/** POST /v1/events/groups. */
export const EventGroup = z.strictObject({ events: EventBatch, follower: FollowerInput });
export type EventRequest = z.input<typeof EventInput>;

/** One element of the answer, in the order of the request. */
export const EventReceipt = z.union([
  AcceptedInvocation,
  z.object({ error: z.object({ code: z.string(), message: z.string() }) }),
]);
export type EventReceipt = z.output<typeof EventReceipt>;

/** POST /v1/signals: an event that invocations wait for (`ctx.waitForEvent`). */
export const Signal = z.strictObject({
  name: z.string().min(1).max(limits.STEP_NAME_LENGTH_MAX),
  data: z.unknown().optional(),
});
export type Signal = z.input<typeof Signal>;

/** Who had waited for it: they go on with its data. */
export const SignalReceipt = z.object({ delivered: z.number(), invocations: z.array(z.string()) });
export type SignalReceipt = z.output<typeof SignalReceipt>;

/** GET /v1/invocations/{id}/request. */
export const CapturedRequest = z.object({
  functionName: FunctionName,
  method: z.string(),
  url: z.string(),
  headers: z.array(z.tuple([z.string(), z.string()])),
  bodyBase64: z.string(),
});
export type CapturedRequest = z.output<typeof CapturedRequest>;

/** A durable step, without what it has stored. */
export const InvocationStep = z.object({
  name: z.string(),
  kind: z.enum(['step', 'sleep', 'wait']),
  /** It sleeps or waits, until `dueMs` at the latest. */
  isPending: z.boolean(),
  dueMs: z.number().optional(),
  /** What it waits for. */
  event: z.string().optional(),
  /** When it was stored: the end of a step, the beginning of a sleep or a wait. */
  atMs: z.number().optional(),
});
export type InvocationStep = z.output<typeof InvocationStep>;
