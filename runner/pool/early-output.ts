/**
 * What a program writes before an instance listens to it (while it loads, or before its port is open): kept in order, up
 * to a limit, and given to whoever listens first. Invariant: nothing is kept once somebody listens.
 */
import type { GuestHandlers } from './guest.ts';

/** Enough for a banner and a stack; a program that says more before it can serve is heard from its first words on. */
const KEPT_BYTES_MAX = 64 * 1024;

export class EarlyOutput {
  readonly #kept: ((handlers: GuestHandlers) => void)[] = [];
  #bytesLeft: number;
  #handlers: GuestHandlers | undefined;

  /** `isOpen` false: nothing is kept before `open`. */
  constructor(isOpen: boolean) {
    this.#bytesLeft = isOpen ? KEPT_BYTES_MAX : 0;
  }

  open(): void {
    this.#bytesLeft = KEPT_BYTES_MAX;
  }

  get handlers(): GuestHandlers | undefined {
    return this.#handlers;
  }

  listen(handlers: GuestHandlers | undefined): void {
    this.#handlers = handlers;
    if (handlers) for (const deliver of this.#kept.splice(0)) deliver(handlers);
  }

  onLog(stream: number, payload: Buffer): void {
    if (this.#handlers) this.#handlers.onLog(stream, payload);
    else this.#keep(payload, (bytes) => (handlers) => handlers.onLog(stream, bytes));
  }

  onOutput(source: 'stdout' | 'stderr', chunk: Buffer): void {
    if (this.#handlers) this.#handlers.onOutput(source, chunk);
    else this.#keep(chunk, (bytes) => (handlers) => handlers.onOutput(source, bytes));
  }

  /** A copy: what was read is the reader's again. */
  #keep(chunk: Buffer, deliver: (bytes: Buffer) => (handlers: GuestHandlers) => void): void {
    if (chunk.length > this.#bytesLeft) return;
    this.#bytesLeft -= chunk.length;
    this.#kept.push(deliver(Buffer.from(chunk)));
  }
}
