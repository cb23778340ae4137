/** Asynchronous invocations: sending events, following them, and the dead-letter queue. */
import type {
  AcceptedInvocation,
  CapturedRequest,
  EventReceipt,
  EventRequest,
  FollowerRequest,
  InvocationRecord,
  InvocationStep,
  SignalReceipt,
} from '../protocol/events.ts';
import { ClientError, readFailure } from './error.ts';
import type { ClientResponse } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import { type FetchOptions, invocationRequest } from './invoke.ts';
import type { Transport } from './transport.ts';

export interface AsyncInvokeOptions extends FetchOptions {
  /** Run it no sooner than after this time, such as `30s` or milliseconds. */
  readonly delay?: string | number | undefined;
  /** Instead of the function's own maximum age. */
  readonly maxAge?: string | number | undefined;
  readonly priority?: 'high' | 'normal' | 'low' | undefined;
  /** Invocations of one function with one key start in the order accepted, one at a time. */
  readonly orderingKey?: string | undefined;
  /** Requests with one key are one invocation: with it, repeating after a failure is safe. */
  readonly idempotencyKey?: string | undefined;
}

export interface WaitOptions extends CallOptions {
  /** Until the state is final, at most. Default: as long as it takes. */
  readonly waitMs?: number;
}

export interface EventStats {
  readonly durability: 'single' | 'replicated' | 'fast';
  /** Why nothing is accepted now. */
  readonly problem?: string;
  readonly unfinished: number;
  readonly dead: number;
  readonly queued: number;
  readonly held: number;
  readonly counters: Readonly<Record<string, number>>;
}

/** Which dead or expired invocations. */
export type DeadSelection =
  | { readonly ids: readonly string[] }
  | { readonly function: string }
  | { readonly all: true };

export interface Events<R extends ClientResponse> {
  /** Resolves when the event is safe: it will run at least once. */
  invokeAsync(name: string, options?: AsyncInvokeOptions): Promise<AcceptedInvocation>;
  /** Up to 1000 events at once; a receipt or an error for each, in order. */
  submit(events: readonly EventRequest[], options?: CallOptions): Promise<EventReceipt[]>;
  /**
   * Events, and one that is accepted in the same write and runs when all of them have ended. Its body is a batch of
   * CloudEvents, one for each end, with the results.
   */
  submitGroup(
    events: readonly EventRequest[],
    follower: FollowerRequest,
    options?: CallOptions,
  ): Promise<{ events: EventReceipt[]; follower: AcceptedInvocation }>;
  invocation(id: string, options?: CallOptions): Promise<InvocationRecord>;
  /** The record once its state is final, or as it is after `waitMs`. */
  waitFor(id: string, options?: WaitOptions): Promise<InvocationRecord>;
  /** What the function answered. Throws ClientError: NOT_FOUND when there is no result, GONE when it has expired. */
  result(id: string, options?: CallOptions): Promise<R>;
  cancel(id: string, options?: CallOptions): Promise<InvocationRecord>;
  /** Runs a recorded event again as a new one, against what is live or a deployment or alias. The old one stays. */
  replayInvocation(
    id: string,
    options?: CallOptions & { readonly deployment?: string | undefined },
  ): Promise<AcceptedInvocation>;
  /** What was sent. */
  capturedRequest(id: string, options?: CallOptions): Promise<CapturedRequest>;
  /** Durable steps that an invocation has stored, and what it sleeps or waits for. */
  invocationSteps(id: string, options?: CallOptions): Promise<InvocationStep[]>;
  /**
   * Gives an event to the invocations that wait for one of this name (`ctx.waitForEvent`) with matching data, and for an
   * hour to those that were accepted before it and begin to wait later: once to each.
   */
  sendEvent(name: string, data?: unknown, options?: CallOptions): Promise<SignalReceipt>;
  /** Counters, what waits, and how safely events are kept. */
  eventStats(options?: CallOptions): Promise<EventStats>;
  /** Dead and expired invocations, newest first. */
  dead(
    options?: CallOptions & {
      readonly function?: string | undefined;
      readonly limit?: number | undefined;
      /** Continue with those that ended before (epoch ms). */
      readonly before?: number | undefined;
    },
  ): Promise<{ invocations: InvocationRecord[]; total: number }>;
  /** A new series of attempts under the same ids. Returns those ids. */
  replay(selection: DeadSelection, options?: CallOptions): Promise<string[]>;
  /** Returns how many are gone. */
  purge(selection: DeadSelection, options?: CallOptions): Promise<number>;
}

const WAIT_MS = 30_000;
const pathOf = (id: string): string => `/v1/invocations/${encodeURIComponent(id)}`;
const JSON_TYPE = ['content-type', 'application/json'] as const;

export function createEvents<R extends ClientResponse>(transport: Transport<R>): Events<R> {
  const post = createPost(transport);

  async function poll(
    id: string,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<InvocationRecord> {
    const timeoutMs = waitMs + WAIT_MS;
    return transport.json({
      what: `invocation ${id}`,
      path: pathOf(id),
      query: { waitMs },
      signal,
      timeoutMs,
    });
  }

  return {
    async invokeAsync(name, options = {}) {
      const request = invocationRequest(name, options);
      const response = await transport.fetch({
        ...request,
        what: `invoke ${name} asynchronously`,
        headers: [...(request.headers ?? []), ['prefer', 'respond-async'], ...optionHeaders(options)],
      });
      if (response.status !== 202) throw await readUnaccepted(response, name);
      return JSON.parse(await response.text()) as AcceptedInvocation;
    },

    async submit(events, { signal } = {}) {
      const { events: receipts } = await post<{ events: EventReceipt[] }>(
        'submit events',
        '/v1/events',
        events,
        signal,
      );
      return receipts;
    },

    submitGroup: (events, follower, { signal } = {}) =>
      post('submit a group of events', '/v1/events/groups', { events, follower }, signal),

    invocation: (id, { signal } = {}) => poll(id, 0, signal),

    async waitFor(id, { waitMs = Infinity, signal } = {}) {
      const deadline = performance.now() + waitMs;
      for (;;) {
        const leftMs = Math.max(0, deadline - performance.now());
        const record = await poll(id, Math.floor(Math.min(leftMs, WAIT_MS)), signal);
        if (isFinal(record) || performance.now() >= deadline) return record;
      }
    },

    async result(id, { signal } = {}) {
      const what = `result of ${id}`;
      const response = await transport.fetch({
        what,
        path: `${pathOf(id)}/result`,
        signal,
        mayRepeat: () => false,
      });
      // Only the function's own answers carry the invocation's id.
      if (response.headers.get('skiff-invocation-id') === id) return response;
      if (response.status >= 300) throw await readFailure(response, what);
      const detail = `${id} has not ended yet`;
      throw new ClientError({ code: 'NOT_FOUND', status: response.status, detail });
    },

    ...createReplay(transport, post),
    ...createSteps(transport, post),

    eventStats: ({ signal } = {}) =>
      transport.json({ what: 'event stats', path: '/v1/events/stats', signal }),

    cancel: (id, { signal } = {}) =>
      transport.json({ what: `cancel ${id}`, method: 'DELETE', path: pathOf(id), signal }),

    ...createDead(transport, post),
  };
}

type Post = <T>(what: string, path: string, body: unknown, signal: AbortSignal | undefined) => Promise<T>;

function createPost(transport: Transport<ClientResponse>): Post {
  return (what, path, body, signal) =>
    transport.json({ what, method: 'POST', path, headers: [JSON_TYPE], body: JSON.stringify(body), signal });
}

function createSteps(
  transport: Transport<ClientResponse>,
  post: Post,
): Pick<Events<ClientResponse>, 'invocationSteps' | 'sendEvent'> {
  return {
    async invocationSteps(id, { signal } = {}) {
      const what = `steps of ${id}`;
      const path = `${pathOf(id)}/steps`;
      return (await transport.json<{ steps: InvocationStep[] }>({ what, path, signal })).steps;
    },

    sendEvent: (name, data, { signal } = {}) => post(`send ${name}`, '/v1/signals', { name, data }, signal),
  };
}

function createReplay(
  transport: Transport<ClientResponse>,
  post: Post,
): Pick<Events<ClientResponse>, 'replayInvocation' | 'capturedRequest'> {
  return {
    replayInvocation: (id, { deployment, signal } = {}) =>
      post(`replay ${id}`, `${pathOf(id)}/replay`, deployment === undefined ? {} : { deployment }, signal),

    capturedRequest: (id, { signal } = {}) =>
      transport.json({ what: `request of ${id}`, path: `${pathOf(id)}/request`, signal }),
  };
}

function createDead(
  transport: Transport<ClientResponse>,
  post: Post,
): Pick<Events<ClientResponse>, 'dead' | 'replay' | 'purge'> {
  return {
    dead: ({ signal, ...query } = {}) =>
      transport.json({ what: 'dead-letter queue', path: '/v1/dlq', query, signal }),

    async replay(selection, { signal } = {}) {
      const { replayed } = await post<{ replayed: { id: string }[] }>(
        'replay',
        '/v1/dlq/replay',
        selection,
        signal,
      );
      return replayed.map(({ id }) => id);
    },

    async purge(selection, { signal } = {}) {
      return (await post<{ purged: number }>('purge', '/v1/dlq/purge', selection, signal)).purged;
    },
  };
}

const FINAL: ReadonlySet<string> = new Set(['succeeded', 'dead', 'expired', 'cancelled']);
const isFinal = ({ state }: InvocationRecord): boolean => FINAL.has(state);

function optionHeaders(options: AsyncInvokeOptions): [string, string][] {
  const { delay, maxAge, priority, orderingKey } = options;
  const written = (value: string | number | undefined) => (typeof value === 'number' ? `${value}ms` : value);
  const all = {
    'skiff-delay': written(delay),
    'skiff-max-age': written(maxAge),
    'skiff-priority': priority,
    'skiff-ordering-key': orderingKey,
  };
  return Object.entries(all).filter((pair): pair is [string, string] => pair[1] !== undefined);
}

async function readUnaccepted(response: ClientResponse, name: string): Promise<ClientError> {
  if (response.status >= 300) return readFailure(response, `invoke ${name} asynchronously`);
  const detail = `function "${name}" was called and answered; the server does not know asynchronous invocations`;
  return new ClientError({ code: 'BAD_RESPONSE', status: response.status, detail });
}
