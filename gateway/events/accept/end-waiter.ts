/**
 * Waits for invocations to become final. Invariant: a waiter resolves at the latest a moment after its time, and a lost
 * message costs it POLL_MS at most: messages wake, the record decides.
 */
import type { Redis } from 'ioredis';
import { isFinal, type InvocationState } from '../../../sdk/protocol/events.ts';
import { endedChannel } from '../../../infra/contract/keys.ts';
import type { EventRecords } from '../../../infra/events/cells/event-cells.ts';

const POLL_MS = 1_000;

export class EndWaiter {
  readonly #subscriber: Redis;
  readonly #store: Pick<EventRecords, 'getState'>;
  readonly #waiters = new Map<string, Set<() => void>>();

  /** `subscriber` is a connection of its own, for pub/sub. */
  constructor(subscriber: Redis, store: Pick<EventRecords, 'getState'>) {
    this.#subscriber = subscriber;
    this.#store = store;
    subscriber.on('message', (channel: string) => {
      for (const wake of this.#waiters.get(channel) ?? []) wake();
    });
  }

  get count(): number {
    return this.#waiters.size;
  }

  /** The state at the end of the wait, final or not; undefined when there is no such invocation. */
  async wait(id: string, ms: number, signal?: AbortSignal): Promise<InvocationState | undefined> {
    return this.poll(
      id,
      ms,
      () => this.#store.getState(id),
      (state) => state === undefined || isFinal(state),
      signal,
    );
  }

  /** Reads until `isEnough`: first at once, then whenever the end of `id` is announced. Gives the last value it read. */
  async poll<Value>(
    id: string,
    ms: number,
    read: () => Promise<Value>,
    isEnough: (value: Value) => boolean,
    signal?: AbortSignal,
  ): Promise<Value> {
    const channel = endedChannel(id);
    const deadline = performance.now() + ms;
    const bell = new Bell();
    try {
      await this.#add(channel, bell.ring);
      for (;;) {
        bell.reset();
        const value = await read();
        const leftMs = deadline - performance.now();
        if (isEnough(value) || leftMs <= 0 || signal?.aborted) return value;
        await bell.wait(Math.min(leftMs, POLL_MS), signal);
      }
    } finally {
      this.#remove(channel, bell.ring);
    }
  }

  async #add(channel: string, listener: () => void): Promise<void> {
    const known = this.#waiters.get(channel);
    if (known) known.add(listener);
    else this.#waiters.set(channel, new Set([listener]));
    // The record is read after the subscription stands, so no end falls in between. If it fails the poll finds the end.
    if (this.#subscriber.status === 'ready') await this.#subscriber.subscribe(channel).catch(() => {});
  }

  #remove(channel: string, listener: () => void): void {
    const known = this.#waiters.get(channel);
    known?.delete(listener);
    if (known?.size !== 0) return;
    this.#waiters.delete(channel);
    this.#subscriber.unsubscribe(channel).catch(() => {});
  }
}

/** Rung before or during the wait, or at the end of its time: then the wait is over. */
class Bell {
  #hasRung = false;
  #wake: () => void = () => {};
  readonly ring = (): void => {
    this.#hasRung = true;
    this.#wake();
  };

  reset(): void {
    this.#hasRung = false;
  }

  async wait(ms: number, signal?: AbortSignal): Promise<void> {
    if (this.#hasRung) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      signal?.addEventListener('abort', this.#wake, { once: true });
    });
    signal?.removeEventListener('abort', this.#wake);
  }
}
