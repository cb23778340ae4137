/**
 * Stems: sandboxes of a base image, booted and trained ahead of time, not yet given a function.
 * Invariant: a stem is handed out once and never comes back; it holds nothing of any deployment before that.
 *
 * Refill never takes from requests: one launch at a time, at a tenth of a sandbox's weight, in memory that nobody has,
 * and only when no sandbox is being started and the call behind the last start has had time to be answered. Under starts
 * without end it goes on all the same, after a while, and a start that finds the shelf empty takes over the launch that
 * is under way, which from then on has its full weight.
 */
import type { Log } from '../../infra/lib/log.ts';
import type { GuestSandbox, GuestSpec } from './guest-sandbox.ts';

export interface StemsOptions<Stem extends StemGuest> {
  /** Launches one; with `background`, see GuestSandbox.start. */
  readonly launch: (spec: GuestSpec, background?: Promise<void>) => Promise<Stem>;
  readonly log: Log;
  /** One could not be started, and no function was at fault. */
  onFailed?(): void;
  /** May the host have one more sandbox that waits for work, with this memory limit? */
  readonly hasRoom: (memoryBytes: number) => boolean;
  /** How long starts can hold a refill up. */
  readonly heldMsMax?: number;
}

/** What is asked of a sandbox that waits. */
export type StemGuest = Pick<GuestSandbox, 'isGone' | 'exited' | 'kill'>;

interface Boot<Stem> {
  readonly stem: Promise<Stem>;
  hurry(): void;
  isTaken: boolean;
}

interface Shelf<Stem> {
  readonly spec: GuestSpec;
  readonly ready: Stem[];
  /** The refill that is under way. */
  boot: Boot<Stem> | undefined;
  target: number;
  lastUsedMs: number;
  failures: number;
  retryAtMs: number;
}

/** A class of stem nobody asked for in this time is given up. */
const SHELF_IDLE_MS = 600_000;
/** From the end of a start: the call that waited for it is being answered. */
const CALM_MS = 30;
const HELD_MS_MAX = 400;
const LOOK_MS = 5;

export class Stems<Stem extends StemGuest = GuestSandbox> {
  readonly #options: StemsOptions<Stem>;
  readonly #shelves = new Map<string, Shelf<Stem>>();
  #isRefilling = false;
  #isClosed = false;
  /** How many starts run now, and when the last one began or ended (performance.now()). */
  #starts = 0;
  #lastStartAt = -Infinity;

  constructor(options: StemsOptions<Stem>) {
    this.#options = options;
  }

  get count(): number {
    let count = 0;
    for (const shelf of this.#shelves.values()) count += shelf.ready.length;
    return count;
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const shelf of this.#shelves.values()) bytes += shelf.ready.length * shelf.spec.memoryBytes;
    return bytes;
  }

  /** Keeps `target` stems of this kind from now on. */
  keep(key: string, spec: GuestSpec, target: number): void {
    const shelf = this.#shelves.get(key);
    if (shelf) {
      shelf.target = Math.max(shelf.target, target);
      shelf.lastUsedMs = Date.now();
    } else {
      const empty = { ready: [], boot: undefined, failures: 0, retryAtMs: 0 };
      this.#shelves.set(key, { ...empty, spec, target, lastUsedMs: Date.now() });
    }
    this.#refillSoon();
  }

  /** A sandbox is being started, from a stem or not: refills wait until the returned function is called. */
  holdRefill(): () => void {
    this.#starts++;
    this.#lastStartAt = performance.now();
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#starts--;
      this.#lastStartAt = performance.now();
    };
  }

  hasReady(key: string): boolean {
    return this.#shelves.get(key)?.ready.some((stem) => !stem.isGone) === true;
  }

  /** A ready stem; else the one that is being launched, or a new sandbox. */
  async claim(key: string, spec: GuestSpec): Promise<Stem> {
    const shelf = this.#shelves.get(key);
    if (shelf) shelf.lastUsedMs = Date.now();
    for (let stem = shelf?.ready.pop(); stem; stem = shelf?.ready.pop()) {
      if (stem.isGone) continue;
      this.#refillSoon();
      return stem;
    }
    const boot = shelf?.boot;
    if (boot && !boot.isTaken) {
      boot.isTaken = true;
      boot.hurry();
      // One that fails is not the fault of who took it over.
      return boot.stem.catch(() => this.#options.launch(spec));
    }
    return this.#options.launch(spec);
  }

  /** Gives up one stem to make room. */
  trySacrifice(): boolean {
    for (const shelf of this.#shelves.values()) {
      const stem = shelf.ready.pop();
      if (stem) {
        stem.kill();
        return true;
      }
    }
    return false;
  }

  /** Memory became free: refills that waited for it go on. */
  onRoom(): void {
    this.#refillSoon();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const stems = [...this.#shelves.values()].flatMap((shelf) => shelf.ready.splice(0));
    for (const stem of stems) stem.kill();
    await Promise.all(stems.map((stem) => stem.exited));
  }

  #refillSoon(): void {
    if (this.#isRefilling || this.#isClosed) return;
    this.#isRefilling = true;
    setTimeout(() => void this.#refill(), LOOK_MS);
  }

  async #refill(): Promise<void> {
    try {
      for (let shelf = this.#neediest(); shelf && !this.#isClosed; shelf = this.#neediest()) {
        await this.#untilCalm();
        if (!this.#isClosed) await this.#addOne(shelf);
      }
    } finally {
      this.#isRefilling = false;
    }
  }

  async #untilCalm(): Promise<void> {
    const deadline = performance.now() + (this.#options.heldMsMax ?? HELD_MS_MAX);
    const isCalm = (now: number): boolean => this.#starts === 0 && now - this.#lastStartAt >= CALM_MS;
    for (let now = performance.now(); !isCalm(now) && now < deadline; now = performance.now())
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }

  async #addOne(shelf: Shelf<Stem>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const boot = { stem: this.#options.launch(shelf.spec, promise), hurry: resolve, isTaken: false };
    shelf.boot = boot;
    try {
      const stem = await boot.stem;
      shelf.failures = 0;
      if (boot.isTaken) return;
      if (this.#isClosed) return stem.kill();
      shelf.ready.push(stem);
      void stem.exited.then(() => {
        const at = shelf.ready.indexOf(stem);
        if (at !== -1) shelf.ready.splice(at, 1);
        this.#refillSoon();
      });
    } catch (error) {
      shelf.failures++;
      shelf.retryAtMs = Date.now() + Math.min(30_000, 500 * 2 ** shelf.failures);
      this.#options.log.error({ error, failures: shelf.failures }, 'a stem could not be started');
      this.#options.onFailed?.();
      setTimeout(() => this.#refillSoon(), shelf.retryAtMs - Date.now() + 10).unref();
    } finally {
      shelf.boot = undefined;
    }
  }

  #neediest(): Shelf<Stem> | undefined {
    const now = Date.now();
    for (const [key, shelf] of this.#shelves) {
      if (now - shelf.lastUsedMs > SHELF_IDLE_MS && this.#shelves.size > 1) {
        for (const guest of shelf.ready.splice(0)) guest.kill();
        this.#shelves.delete(key);
      }
    }
    return [...this.#shelves.values()].find(
      ({ ready, target, retryAtMs, spec }) =>
        ready.length < target && retryAtMs <= now && this.#options.hasRoom(spec.memoryBytes),
    );
  }
}
