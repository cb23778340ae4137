/**
 * Calls of many sandboxes on one link to one gateway: gives each a number on that link.
 * Invariant: a number is used again only after its call has ended on both sides; when the link ends, every open call is
 * told so once.
 */
import type { Frame } from '../../sdk/protocol/frame.ts';
import { StreamTable } from '../../sdk/protocol/stream-table.ts';

export interface CallEar {
  /** CALL_RESPONSE, CALL_DATA, CALL_WINDOW or CALL_ERROR. */
  onFrame(frame: Frame): void;
  onGone(): void;
}

export interface LineConnection {
  send(type: number, stream: number, payload?: Buffer): void;
}

const STREAM_MAX = 0xffff_fffe;

export class CallLine {
  readonly #connection: LineConnection;
  readonly #ears = new StreamTable<CallEar>();
  #last = 0;

  constructor(connection: LineConnection) {
    this.#connection = connection;
  }

  open(ear: CallEar): number {
    do this.#last = this.#last >= STREAM_MAX ? 1 : this.#last + 1;
    while (this.#ears.has(this.#last));
    this.#ears.set(this.#last, ear);
    return this.#last;
  }

  send(type: number, stream: number, payload?: Buffer): void {
    this.#connection.send(type, stream, payload);
  }

  close(stream: number): void {
    this.#ears.delete(stream);
  }

  onFrame(frame: Frame): void {
    this.#ears.get(frame.stream)?.onFrame(frame);
  }

  /** The link is gone. */
  end(): void {
    for (const ear of this.#ears.values()) ear.onGone();
    this.#ears.clear();
  }
}
