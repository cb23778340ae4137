/**
 * Guests that wait, already booted, for a function: what makes a reload take milliseconds instead of a start of Node.
 * One waits for each kind of process that was asked for; the next is started when one is taken.
 */
import type { GuestProcess } from './guest-process.ts';

export class Stems {
  readonly #start: (memoryBytes: number) => Promise<GuestProcess>;
  readonly #waiting = new Map<number, Promise<GuestProcess>>();
  #isClosed = false;

  constructor(start: (memoryBytes: number) => Promise<GuestProcess>) {
    this.#start = start;
  }

  async take(memoryBytes: number): Promise<GuestProcess> {
    const waiting = this.#waiting.get(memoryBytes);
    this.#waiting.delete(memoryBytes);
    const guest = await waiting;
    // It may have been killed meanwhile.
    return guest && !guest.isGone ? guest : this.#start(memoryBytes);
  }

  /** Starts one in the background, if none waits. */
  refill(memoryBytes: number): void {
    if (this.#isClosed || this.#waiting.has(memoryBytes)) return;
    const start = this.#start(memoryBytes);
    this.#waiting.set(memoryBytes, start);
    // Whoever takes it starts another and sees why that fails.
    start.catch(() => this.#waiting.delete(memoryBytes));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const all = await Promise.allSettled(this.#waiting.values());
    await Promise.all(
      all.map(async (start) => {
        if (start.status !== 'fulfilled') return;
        await start.value.stop(0);
      }),
    );
  }
}
