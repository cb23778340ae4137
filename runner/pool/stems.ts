/**
 * Stems: sandboxes of a base image, booted and trained ahead of time, not yet given a function.
 * Invariant: a stem is handed out once and never comes back; it holds nothing of any deployment before that.
 * Refill never competes with requests: one launch at a time, and only after the host was free of starts for a moment.
 */
import type { Log } from '../../infra/lib/log.ts';
import type { SandboxHost } from '../../infra/sandbox/contract.ts';
import { GuestSandbox, type GuestSpec } from './guest-sandbox.ts';

interface Shelf {
  readonly spec: GuestSpec;
  readonly ready: GuestSandbox[];
  target: number;
  lastUsedMs: number;
  failures: number;
  retryAtMs: number;
}

/** A class of stem nobody asked for in this time is given up. */
const SHELF_IDLE_MS = 600_000;

export class Stems {
  readonly #host: SandboxHost;
  readonly #sandboxesDir: string;
  readonly #log: Log;
  readonly #shelves = new Map<string, Shelf>();
  #isRefilling = false;
  #isClosed = false;
  /** How many starts run now: refill waits for zero. */
  #claims = 0;

  constructor(host: SandboxHost, sandboxesDir: string, log: Log) {
    this.#host = host;
    this.#sandboxesDir = sandboxesDir;
    this.#log = log;
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
      this.#shelves.set(key, { spec, ready: [], target, lastUsedMs: Date.now(), failures: 0, retryAtMs: 0 });
    }
    this.#refillSoon();
  }

  /** A ready stem, or a new sandbox when there is none. `wasReady` tells which. */
  async claim(key: string, spec: GuestSpec): Promise<{ guest: GuestSandbox; wasReady: boolean }> {
    const shelf = this.#shelves.get(key);
    if (shelf) shelf.lastUsedMs = Date.now();
    for (let guest = shelf?.ready.pop(); guest; guest = shelf?.ready.pop()) {
      if (!guest.isGone) {
        this.#refillSoon();
        return { guest, wasReady: true };
      }
    }
    this.#claims++;
    try {
      return { guest: await GuestSandbox.start(this.#host, spec, this.#sandboxesDir), wasReady: false };
    } finally {
      this.#claims--;
      this.#refillSoon();
    }
  }

  /** Gives up one stem to make room. */
  trySacrifice(): boolean {
    for (const shelf of this.#shelves.values()) {
      const guest = shelf.ready.pop();
      if (guest) {
        guest.kill();
        return true;
      }
    }
    return false;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const guests = [...this.#shelves.values()].flatMap((shelf) => shelf.ready.splice(0));
    for (const guest of guests) guest.kill();
    await Promise.all(guests.map((guest) => guest.exited));
  }

  #refillSoon(): void {
    if (this.#isRefilling || this.#isClosed) return;
    this.#isRefilling = true;
    setTimeout(() => void this.#refill(), 5);
  }

  async #refill(): Promise<void> {
    try {
      for (let shelf = this.#neediest(); shelf && !this.#isClosed; shelf = this.#neediest()) {
        if (this.#claims > 0) await new Promise((resolve) => setTimeout(resolve, 5));
        else await this.#addOne(shelf);
      }
    } finally {
      this.#isRefilling = false;
    }
  }

  async #addOne(shelf: Shelf): Promise<void> {
    try {
      const guest = await GuestSandbox.start(this.#host, shelf.spec, this.#sandboxesDir);
      shelf.failures = 0;
      if (this.#isClosed) return guest.kill();
      shelf.ready.push(guest);
      void guest.exited.then(() => {
        const at = shelf.ready.indexOf(guest);
        if (at !== -1) shelf.ready.splice(at, 1);
        this.#refillSoon();
      });
    } catch (error) {
      shelf.failures++;
      shelf.retryAtMs = Date.now() + Math.min(30_000, 500 * 2 ** shelf.failures);
      this.#log.error({ error, failures: shelf.failures }, 'a stem could not be started');
      setTimeout(() => this.#refillSoon(), shelf.retryAtMs - Date.now() + 10).unref();
    }
  }

  #neediest(): Shelf | undefined {
    const now = Date.now();
    for (const [key, shelf] of this.#shelves) {
      if (now - shelf.lastUsedMs > SHELF_IDLE_MS && this.#shelves.size > 1) {
        for (const guest of shelf.ready.splice(0)) guest.kill();
        this.#shelves.delete(key);
      }
    }
    return [...this.#shelves.values()].find(
      (shelf) => shelf.ready.length < shelf.target && shelf.retryAtMs <= now,
    );
  }
}
