/**
 * Takes events in: the one way into the queue, for HTTP, batches, schedules and the platform's own follow-ups.
 * Invariant: it resolves only after the store's reply to the one atomic write, under the conditions of the durability
 * class; whatever else happens is NOT_DURABLE, UNAVAILABLE or a refusal, and says whether the event may have been
 * accepted all the same. Deliberately absent: HTTP, and running anything.
 */
import { createHash } from 'node:crypto';
import { SpanKind } from '@opentelemetry/api';
import type { Deployment } from '../../../sdk/protocol/api.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { type EventOptions, type InvocationState, PRIORITIES } from '../../../sdk/protocol/events.ts';
import { createOwnedId } from '../../../sdk/protocol/ids.ts';
import {
  DEAD_KEPT_MS,
  EVENT_BACKOFF_MS_MAX,
  EVENT_BODY_BYTES_MAX,
  EVENTS_MEMORY_SHARE,
  EVENTS_PER_FUNCTION_MAX,
  EVENTS_WINDOW_MAX,
  REDIS_MEMORY_SHARE_MAX,
} from '../../../sdk/protocol/limits.ts';
import type { FunctionConfig } from '../../../sdk/protocol/manifest.ts';
import type { Durability } from '../../../infra/events/durability.ts';
import type { Payloads } from '../../../infra/events/payloads.ts';
import type { BlobReference, EventHead, EventPolicy } from '../../../infra/events/record.ts';
import { ONE_CELL, type Cells } from '../../../infra/contract/cells.ts';
import type { EventRecords } from '../../../infra/events/cells/event-cells.ts';
import type { ShardQueues } from '../../../infra/events/shards.ts';
import type { Acceptance, AcceptReply } from '../../../infra/events/wire.ts';
import { Batcher } from '../../../infra/lib/batcher.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { inSpan, startSpan, traceparentOf } from '../../../infra/lib/telemetry.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';
import { digestOf, splitBody, type EventBody } from './body.ts';

export interface NewEvent {
  /** Of an event that may be offered again; accepting it twice is one invocation. Default: a new one. */
  readonly id?: string;
  readonly deployment: Deployment;
  readonly head: EventHead;
  readonly body: Buffer | AsyncIterable<Uint8Array>;
  readonly options: EventOptions;
  /** `http`, `batch`, `cloudevent`, `schedule:…`, `invocation:…`, `replay:…`. */
  readonly origin: string;
  /** Deployment or alias that it is for; absent: whatever is live when it runs. */
  readonly version?: string | undefined;
  readonly traceparent?: string | undefined;
}

export interface Receipt {
  readonly id: string;
  readonly state: InvocationState;
  /** An earlier request with the same idempotency key or id was accepted before. */
  readonly isRepeat: boolean;
}

export interface AcceptorOptions {
  readonly store: Pick<EventRecords, 'acceptMany' | 'endMember' | 'getState'>;
  readonly queues: Pick<ShardQueues, 'add'>;
  /** Default: one. */
  readonly cells?: Cells;
  readonly payloads: Payloads;
  readonly durability: Durability;
  readonly log: Log;
}

/** Arguments of one script call are limited, and so is the time that others wait for it. */
const BATCH_MAX = 64;
const BATCHES_MAX = 2;

export function policyOf(config: FunctionConfig): EventPolicy {
  const { retries, backoff, keepResults, onSuccess, onFailure } = config.async;
  return {
    retries,
    backoffMs: backoff,
    backoffMsMax: Math.max(backoff, EVENT_BACKOFF_MS_MAX),
    resultMs: Math.max(1, keepResults),
    ...(onSuccess === undefined ? {} : { onSuccess }),
    ...(onFailure === undefined ? {} : { onFailure }),
  };
}

/** As many as its sandboxes can serve, unless it says less: more would only wait elsewhere. */
function windowOf(config: FunctionConfig): number {
  return Math.min(config.async.concurrency ?? config.max * config.concurrency, EVENTS_WINDOW_MAX);
}

/** Keys are the user's texts: hashed, they cannot be mistaken for a part of a Redis key, whatever is in them. */
export function scopeOf(functionName: string, key: string): string {
  return `${functionName}/${createHash('sha1').update(key).digest('hex')}`;
}

export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #cells: Cells;
  /** One for each cell. */
  readonly #batchers: readonly Batcher<Acceptance, AcceptReply>[];

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#cells = options.cells ?? ONE_CELL;
    this.#batchers = this.#cells.all.map(
      () =>
        new Batcher({
          run: (batch) => this.#write(batch),
          countMax: BATCH_MAX,
          inFlightMax: BATCHES_MAX,
        }),
    );
  }

  /** @throws SkiffError NOT_DURABLE · THROTTLED · OVERLOADED · IDEMPOTENCY_MISMATCH · BODY_TOO_LARGE · UNAVAILABLE */
  async accept(event: NewEvent): Promise<Receipt> {
    const { functionName } = event.deployment;
    // Its runs, however late, are a part of the trace in which it was accepted.
    const span = startSpan(`accept ${functionName}`, {
      kind: SpanKind.PRODUCER,
      traceparent: event.traceparent,
      attributes: { 'faas.invoked_name': functionName, 'skiff.origin': event.origin },
    });
    return inSpan(span, () =>
      this.#accept({ ...event, traceparent: traceparentOf(span) ?? event.traceparent }),
    );
  }

  async #accept(event: NewEvent): Promise<Receipt> {
    const { acceptance } = await this.prepare(event);
    const batcher = this.#batchers[this.#cells.ofId(acceptance.id).index] as Batcher<Acceptance, AcceptReply>;
    const reply = await this.#translate(batcher.add(acceptance));
    return this.#settle(reply, event, acceptance.id);
  }

  /**
   * Accepts events and one that runs when all of them have ended, in one write; events of other cells in a write of each
   * cell after it. An event that is refused on its own is an error in its place, and not waited for. @throws as `accept`,
   * when nothing was accepted
   */
  async acceptGroup(
    follower: NewEvent,
    events: readonly NewEvent[],
  ): Promise<{ follower: Receipt; events: (Receipt | { readonly error: unknown })[] }> {
    const prepared = await Promise.all(events.map(async (event) => (await this.prepare(event)).acceptance));
    const { acceptance } = await this.prepare(follower);
    const members = prepared.map(({ id }) => id);
    const home = this.#cells.ofId(acceptance.id);
    const [near, far] = partition(prepared, ({ id }) => this.#cells.ofId(id) === home);
    const last = {
      ...acceptance,
      origin: { ...acceptance.origin, members },
      waitsForGroup: true,
      membersElsewhere: far.length,
    };
    const all = [last, ...near.map((each) => ({ ...each, group: last.id }))];
    const [first, ...written] = await this.#translate(this.#write(all));
    const replies = new Map<string, AcceptReply | { readonly error: unknown }>();
    for (const [i, reply] of written.entries()) replies.set((near[i] as Acceptance).id, reply);
    if (first?.kind === 'accepted') await this.#acceptElsewhere(last.id, far, replies);
    return {
      follower: await this.#settle(first as AcceptReply, follower, last.id),
      events: await Promise.all(
        members.map(async (id, i) => {
          const reply = replies.get(id) ?? { kind: 'alone' };
          if ('error' in reply) return reply;
          return this.#settle(reply, events[i] as NewEvent, id).catch((error: unknown) => ({ error }));
        }),
      ),
    };
  }

  /** Members of a group that are in other cells than the one that waits for them. */
  async #acceptElsewhere(
    group: string,
    far: readonly Acceptance[],
    replies: Map<string, AcceptReply | { readonly error: unknown }>,
  ): Promise<void> {
    const { store, queues } = this.#options;
    const parts = Map.groupBy(far, ({ id }) => this.#cells.ofId(id));
    await Promise.all(
      [...parts.values()].map(async (part) => {
        const batch = part.map((each) => ({ ...each, group, isGroupElsewhere: true }));
        const written = await this.#translate(this.#write(batch)).catch((error: unknown) =>
          batch.map(() => ({ error })),
        );
        for (const [i, { id }] of part.entries()) {
          const reply = written[i] as AcceptReply | { readonly error: unknown };
          replies.set(id, reply);
          // One that may have been accepted is waited for, as it may run.
          if ('error' in reply ? mayBeAccepted(reply.error) : reply.kind === 'accepted') continue;
          const jobs = await store.endMember(group, id).catch(() => []);
          if (jobs.length > 0) queues.add(jobs).catch(() => {});
        }
      }),
    );
  }

  async #write(batch: readonly Acceptance[]): Promise<readonly AcceptReply[]> {
    const { durability, store, queues, log } = this.#options;
    const epoch = await durability.assertDurable();
    const written = await store.acceptMany(batch, epoch);
    if (!written) {
      durability.reportForeign();
      throw new SkiffError('NOT_DURABLE', `nothing was accepted: ${durability.problem}`, {
        details: { maybeAccepted: false },
      });
    }
    // After the reply: a script that the store did not know is sent twice, and WAIT covers what was written before it.
    await durability.assertReplicated();
    // Not awaited: the events are safe, and the pump of a consumer adds what is missing.
    if (written.jobs.length > 0) {
      queues.add(written.jobs).catch((error: unknown) => log.debug({ error }, 'jobs not added yet'));
    }
    return written.replies;
  }

  /** Of unfinished events, in the store's memory, in one cell. */
  get bytesMax(): number {
    const { cellMax } = this.#options.durability.memory;
    return cellMax === 0 ? Number.MAX_SAFE_INTEGER : Math.floor(cellMax * EVENTS_MEMORY_SHARE);
  }

  /** The epoch to write with. @throws SkiffError NOT_DURABLE */
  assertDurable(): Promise<string> {
    return this.#options.durability.assertDurable();
  }

  /** Everything but the write itself. */
  async prepare(event: NewEvent): Promise<{ acceptance: Acceptance; epoch: string }> {
    const epoch = await this.#options.durability.assertDurable();
    this.#assertMemory();
    const id = event.id ?? createOwnedId('inv', event.deployment.functionName);
    const maxAgeMs = event.options.maxAge ?? event.deployment.config.async.maxAge;
    const body = await splitBody(event.body);
    const stored = await this.#storeBody(body, maxAgeMs + (event.options.delay ?? 0));
    return { acceptance: this.#describe(event, id, maxAgeMs, stored), epoch };
  }

  #assertMemory(): void {
    const { used, max } = this.#options.durability.memory;
    if (max === 0 || used < max * REDIS_MEMORY_SHARE_MAX) return;
    const percent = Math.round((used / max) * 100);
    throw new SkiffError(
      'OVERLOADED',
      `the durable store's memory is ${percent} % full; events are taken again below ${REDIS_MEMORY_SHARE_MAX * 100} %`,
    );
  }

  async #storeBody(
    body: EventBody,
    untilMs: number,
  ): Promise<{ inline: Buffer; blob?: BlobReference; digest: () => string }> {
    if (body.kind === 'whole') return { inline: body.bytes, digest: () => digestOf(body.bytes) };
    const hash = createHash('sha256');
    async function* hashed(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      for await (const chunk of stream) {
        hash.update(chunk);
        yield chunk;
      }
    }
    const keepMs = untilMs + DEAD_KEPT_MS;
    const blob = await this.#options.payloads.put(hashed(body.stream), EVENT_BODY_BYTES_MAX, keepMs);
    return { inline: Buffer.alloc(0), blob, digest: () => hash.digest('hex') };
  }

  #describe(
    event: NewEvent,
    id: string,
    maxAgeMs: number,
    stored: { inline: Buffer; blob?: BlobReference; digest: () => string },
  ): Acceptance {
    const { functionName, config } = event.deployment;
    const { delay = 0, priority = 'normal', orderingKey, idempotencyKey } = event.options;
    return {
      id,
      functionName,
      delayMs: delay,
      // Waiting for its delay must not use up the time it has to run.
      maxAgeMs: maxAgeMs + delay,
      priority: PRIORITIES.indexOf(priority),
      line: orderingKey === undefined ? undefined : scopeOf(functionName, orderingKey),
      policy: policyOf(config),
      destinations: `${config.async.onSuccess ? 's' : ''}${config.async.onFailure ? 'f' : ''}`,
      window: windowOf(config),
      rate: config.async.rate ?? 0,
      origin: {
        from: event.origin,
        ...(event.version === undefined ? {} : { version: event.version }),
        ...(orderingKey === undefined ? {} : { orderingKey }),
        ...(event.traceparent === undefined ? {} : { traceparent: event.traceparent }),
      },
      head: event.head,
      body: stored.inline,
      blob: stored.blob,
      idempotency:
        idempotencyKey === undefined
          ? undefined
          : {
              scope: scopeOf(functionName, idempotencyKey),
              fingerprint: fingerprintOf(event.head, stored.digest(), 'async'),
            },
      countMax: EVENTS_PER_FUNCTION_MAX,
      bytesMax: this.bytesMax,
    };
  }

  /** Tells "was not written" from "may have been written". */
  async #translate<Value>(writing: Promise<Value>): Promise<Value> {
    try {
      return await writing;
    } catch (error) {
      if (error instanceof SkiffError || !isServiceAway(error)) throw error;
      const maybeAccepted = !NOT_SENT.test((error as Error).message);
      const words = maybeAccepted ? 'it may or may not have been accepted' : 'it was not accepted';
      throw new SkiffError('NOT_DURABLE', `the durable store did not confirm the event; ${words}`, {
        details: { maybeAccepted },
        cause: error,
      });
    }
  }

  async #settle(reply: AcceptReply, event: NewEvent, id: string): Promise<Receipt> {
    const { store } = this.#options;
    const { functionName } = event.deployment;
    switch (reply.kind) {
      case 'accepted':
        return { id, state: reply.state, isRepeat: false };
      case 'known':
        return { id: reply.id, state: (await store.getState(reply.id)) ?? 'succeeded', isRepeat: true };
      case 'other_request':
        throw new SkiffError(
          'IDEMPOTENCY_MISMATCH',
          `the idempotency key was used for another request, ${reply.id}; use a new key for a new request`,
        );
      case 'alone':
        throw new SkiffError('CONFLICT', 'it was not accepted, as what was to follow it was not');
      case 'full':
        throw new SkiffError(
          'THROTTLED',
          reply.what === 'count'
            ? `${reply.count} events of "${functionName}" are waiting, which is the limit; try again when some have run`
            : `events of ${reply.count} bytes are waiting in all, which is the limit; try again when some have run`,
        );
    }
  }
}

function mayBeAccepted(error: unknown): boolean {
  return error instanceof SkiffError && error.details?.['maybeAccepted'] === true;
}

function partition<Item>(items: readonly Item[], isFirst: (item: Item) => boolean): [Item[], Item[]] {
  return [items.filter(isFirst), items.filter((item) => !isFirst(item))];
}

/** What ioredis and Redis say of a command that was never run. */
const NOT_SENT =
  /^(?:Stream isn't writeable|Connection is closed\.$|LOADING |OOM |READONLY |MISCONF |NOREPLICAS |BUSY )/;

const FINGERPRINTED: ReadonlySet<string> = new Set(['content-type', 'content-encoding', 'accept']);

/** SHA-256 over what makes two requests the same. */
export function fingerprintOf(head: EventHead, bodyDigest: string, mode: 'async' | 'sync'): string {
  const { method, url, headers } = head;
  const named = headers
    .filter(([name]) => FINGERPRINTED.has(name))
    .map((pair) => pair.join(':'))
    .sort();
  const { pathname, search } = new URL(url);
  return createHash('sha256')
    .update(JSON.stringify([mode, method, pathname + search, named, bodyDigest]))
    .digest('hex');
}
