/**
 * Tells destinations how invocations ended. What is to be told was written with the end itself; here it is told until it
 * has been heard or DESTINATION_TRIES_MAX tries have failed. Invariant: a destination never holds up an invocation's end,
 * and every try of one end carries the same event id.
 */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { mayReach, resolveName } from '../../../sdk/protocol/reach/namespaces.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { InvocationRecord } from '../../../sdk/protocol/events.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import {
  CALL_DEPTH_MAX,
  DESTINATION_BACKOFF_MS_MAX,
  DESTINATION_TRIES_MAX,
  WEBHOOK_MS_MAX,
} from '../../../sdk/protocol/limits.ts';
import type { Destination } from '../../../sdk/protocol/manifest.ts';
import type { EventStore } from '../../../infra/events/store.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';
import type { SecretStore } from '../../../infra/secrets/secrets.ts';
import { derivedId } from '../../../sdk/protocol/ids.ts';
import { chooseTarget, type Routes } from '../../invoke/routes.ts';
import type { Acceptor } from '../accept/acceptor.ts';
import { createEndedEvent, ENDED_CONTENT_TYPE, type EndedEvent } from './ended-event.ts';
import type { EndedQueues } from './ended-queue.ts';
import type { WebhookSender } from './webhook.ts';

export interface OutboxOptions {
  readonly store: EventStore;
  readonly acceptor: Acceptor;
  readonly routes: Routes;
  readonly webhooks: WebhookSender;
  readonly queued: Pick<EndedQueues, 'add'>;
  readonly secrets: Pick<SecretStore, 'reveal'>;
  readonly log: Log;
}

const LOOK_MS = 200;
const BATCH = 20;
const HOLD_MS = WEBHOOK_MS_MAX + 5_000;
const BACKOFF_MS_FIRST = 1_000;
/** What a function sees as its host when it is a destination. */
const BASE_URL = 'http://destination.skiff/';

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #stopping = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  open(): void {
    this.#loop = this.#repeat();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #repeat(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let taken: readonly string[] = [];
      try {
        taken = await this.#options.store.takeOutbox(BATCH, HOLD_MS);
        await Promise.all(taken.map((id) => this.#tell(id)));
      } catch (error) {
        if (!isServiceAway(error)) this.#options.log.error({ error }, 'destinations could not be told');
      }
      if (taken.length < BATCH) await delay(LOOK_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #tell(id: string): Promise<void> {
    const { store, log } = this.#options;
    const record = await store.get(id);
    const policy = await store.getPolicy(id);
    const destination = record?.state === 'succeeded' ? policy?.onSuccess : policy?.onFailure;
    if (!record || !destination) return store.settleOutbox(id, 'delivered');
    try {
      const event = createEndedEvent(record, await store.getResult(id));
      await this.#deliver(destination, record, event);
      await store.settleOutbox(id, 'delivered');
    } catch (error) {
      if (isServiceAway(error) && !(error instanceof SkiffError))
        log.debug({ error, id }, 'destination away');
      await this.#postpone(record, error as Error);
    }
  }

  async #deliver(destination: Destination, record: InvocationRecord, event: EndedEvent): Promise<void> {
    if ('function' in destination)
      return this.#callFunction(resolveName(destination.function, record.functionName), record, event);
    if ('queue' in destination)
      return this.#options.queued.add(resolveName(destination.queue, record.functionName), event);
    const { url, secret } = destination;
    const value =
      secret === undefined
        ? undefined
        : (await this.#options.secrets.reveal([secret], record.functionName)).get(secret);
    const message = { url, id: event.id, contentType: ENDED_CONTENT_TYPE, body: event.body, secret: value };
    const status = await this.#options.webhooks.send(message);
    if (status >= 300) throw new Error(`${new URL(url).host} answered with status ${status}`);
  }

  /** An event of its own: with an id made from what it tells, so that telling it twice is one invocation. */
  async #callFunction(name: string, record: InvocationRecord, event: EndedEvent): Promise<void> {
    const { routes, acceptor, store } = this.#options;
    const route = mayReach(record.functionName, name) ? await routes.get(name) : undefined;
    if (!route) throw new SkiffError('FUNCTION_NOT_FOUND', `there is no function "${name}"`);
    const request = await store.getRequest(record.id);
    const depth = Number(request?.head.headers.find(([key]) => key === Header.callDepth)?.[1] ?? 0) + 1;
    if (depth > CALL_DEPTH_MAX) {
      throw new SkiffError(
        'LOOP_DETECTED',
        `destinations follow each other ${depth} deep; the limit is ${CALL_DEPTH_MAX}`,
      );
    }
    const hash = createHash('sha256').update(`${event.id}\n${name}`).digest();
    await acceptor.accept({
      id: derivedId('inv', name, record.endedMs ?? 0, hash),
      deployment: chooseTarget(route, Math.random()),
      head: {
        method: 'POST',
        url: BASE_URL,
        headers: [
          ['content-type', ENDED_CONTENT_TYPE],
          ['content-length', String(event.body.length)],
          [Header.callDepth, String(depth)],
        ],
      },
      body: event.body,
      options: {},
      origin: `invocation:${record.id}`,
    });
  }

  async #postpone({ id, destination }: InvocationRecord, error: Error): Promise<void> {
    const { store, log } = this.#options;
    const tries = destination?.attempts ?? 1;
    const text = error.message.slice(0, 500);
    const isHopeless = error instanceof SkiffError && error.code === 'LOOP_DETECTED';
    if (isHopeless || tries >= DESTINATION_TRIES_MAX) {
      log.warn({ id, tries, error }, 'a destination was not reached and is given up');
      return store.settleOutbox(id, 'failed', { error: text });
    }
    const ceiling = Math.min(BACKOFF_MS_FIRST * 2 ** (tries - 1), DESTINATION_BACKOFF_MS_MAX);
    await store.settleOutbox(id, 'pending', {
      error: text,
      pauseMs: Math.round(ceiling * (0.5 + Math.random() / 2)),
    });
  }
}
