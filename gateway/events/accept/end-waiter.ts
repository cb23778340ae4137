/**
 * Waits for invocations to become final. Invariant: a waiter resolves at the latest a moment after its time, and a lost
 * message costs it POLL_MS at most: messages wake, the record decides.
 */
import type { Redis } from 'ioredis';
import { isFinal, type InvocationState } from '../../../sdk/protocol/events.ts';
import { events } from '../../../infra/contract/keys.ts';
import type { EventStore } from '../../../infra/events/store.ts';

const POLL_MS = 1_000;

export class EndWaiter {
  readonly #subscriber: Redis;
  readonly #store: EventStore;
  readonly #waiters = new Map<string, Set<() => void>>();

  /** `subscriber` is a connection of its own, for pub/sub. */
  constructor(subscriber: Redis, store: EventStore) {
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
    const channel = events.ended(id);
    const deadline = performance.now() + ms;
    let isWoken = false;
    let wake = (): void => {};
    const listener = (): void => {
      isWoken = true;
      wake();
    };
    try {
      await this.#add(channel, listener);
      for (;;) {
        isWoken = false;
        const state = await this.#store.getState(id);
        const leftMs = deadline - performance.now();
        if (state === undefined || isFinal(state) || leftMs <= 0 || signal?.aborted) return state;
        if (isWoken) continue;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.min(leftMs, POLL_MS));
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
          signal?.addEventListener('abort', wake, { once: true });
        });
        signal?.removeEventListener('abort', wake);
      }
    } finally {
      this.#remove(channel, listener);
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
