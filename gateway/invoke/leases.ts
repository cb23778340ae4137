/**
 * Slots this gateway has borrowed, so that calls of a hot deployment go straight to their runner without a Redis
 * round trip. The queue stays the only authority: a lease is taken from it, ends by itself, and is renewed only while
 * nobody waits.
 * Invariant: a token is used only before its lease's end minus a margin for clocks; one that was not used between two
 * renewals goes back.
 */
import { LEASE_MS } from '../../sdk/protocol/limits.ts';
import { runnerOf, type Dispatcher } from '../../infra/dispatch/dispatcher.ts';

/** What a call gets of it. */
export interface LeasedSlot {
  readonly token: string;
  readonly runner: string;
}

interface Lease extends LeasedSlot {
  expiresMs: number;
  isInUse: boolean;
  wasUsed: boolean;
  isRevoked: boolean;
}

class Shelf {
  readonly free: Lease[] = [];
  readonly all = new Map<string, Lease>();
  inFlight = 0;
  /** Most calls at once and calls in all since the last look. */
  peak = 0;
  calls = 0;
  isAsking = false;
}

const LOOK_MS = 50;
const RENEW_MS = LEASE_MS / 3;
/** Do not use a lease in its last moments: the runner may have taken it back by its own clock. */
const MARGIN_MS = 300;
/** Calls within one look from which a deployment counts as hot. */
const HOT_CALLS = 3;
const SLOTS_MAX = 256;

export class Leases {
  readonly #dispatcher: Dispatcher;
  readonly #shelves = new Map<string, Shelf>();
  readonly #timers: NodeJS.Timeout[];
  readonly isEnabled: boolean;

  constructor(dispatcher: Dispatcher, isEnabled: boolean) {
    this.#dispatcher = dispatcher;
    this.isEnabled = isEnabled;
    this.#timers = isEnabled
      ? [setInterval(() => this.#look(), LOOK_MS), setInterval(() => void this.#renewAll(), RENEW_MS)]
      : [];
  }

  /** Counts a call that begins, and gives it a slot if one is at hand. */
  begin(deployment: string): LeasedSlot | undefined {
    if (!this.isEnabled) return undefined;
    let shelf = this.#shelves.get(deployment);
    if (!shelf) this.#shelves.set(deployment, (shelf = new Shelf()));
    shelf.calls++;
    shelf.inFlight++;
    if (shelf.inFlight > shelf.peak) shelf.peak = shelf.inFlight;
    const now = Date.now();
    for (let lease = shelf.free.pop(); lease; lease = shelf.free.pop()) {
      if (lease.isRevoked || lease.expiresMs - MARGIN_MS < now) {
        // Its runner takes it back at its end; we only forget it.
        shelf.all.delete(lease.token);
        continue;
      }
      lease.isInUse = true;
      lease.wasUsed = true;
      return lease;
    }
    if (shelf.calls >= HOT_CALLS) this.#ask(deployment, shelf);
    return undefined;
  }

  /** A call has ended. `token` is the leased slot it used, `isLost` when the slot must not be used again. */
  end(deployment: string, token: string | undefined, isLost: boolean): void {
    const shelf = this.#shelves.get(deployment);
    if (!shelf) return;
    shelf.inFlight--;
    const lease = token === undefined ? undefined : shelf.all.get(token);
    if (!lease) return;
    lease.isInUse = false;
    if (isLost) shelf.all.delete(lease.token);
    else if (lease.isRevoked) this.#giveBack(deployment, shelf, [lease]);
    else shelf.free.push(lease);
  }

  /** All slots of a runner that is gone. */
  forgetRunner(runner: string): void {
    const prefix = `${runner}|`;
    for (const shelf of this.#shelves.values()) {
      for (const token of shelf.all.keys()) if (token.startsWith(prefix)) shelf.all.delete(token);
      const kept = shelf.free.filter((lease) => !lease.token.startsWith(prefix));
      shelf.free.splice(0, shelf.free.length, ...kept);
    }
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.allSettled(
      [...this.#shelves].map(([deployment, shelf]) =>
        this.#dispatcher.giveBack(
          deployment,
          shelf.free.splice(0).map((one) => one.token),
        ),
      ),
    );
  }

  #look(): void {
    for (const [deployment, shelf] of this.#shelves) {
      if (shelf.calls >= HOT_CALLS && shelf.all.size < shelf.peak) this.#ask(deployment, shelf);
      if (shelf.calls === 0 && shelf.inFlight === 0 && shelf.all.size === 0) this.#shelves.delete(deployment);
      shelf.calls = 0;
      shelf.peak = shelf.inFlight;
    }
  }

  #ask(deployment: string, shelf: Shelf): void {
    const wanted = Math.min(SLOTS_MAX, Math.ceil(shelf.peak * 1.25) + 1) - shelf.all.size;
    if (shelf.isAsking || wanted <= 0) return;
    shelf.isAsking = true;
    const askedMs = Date.now();
    this.#dispatcher
      .lease(deployment, wanted, LEASE_MS)
      .then((tokens) => {
        for (const token of tokens) {
          const lease = {
            token,
            runner: runnerOf(token),
            expiresMs: askedMs + LEASE_MS,
            isInUse: false,
            wasUsed: true,
            isRevoked: false,
          };
          shelf.all.set(token, lease);
          shelf.free.push(lease);
        }
      })
      .catch(() => {})
      .finally(() => (shelf.isAsking = false));
  }

  async #renewAll(): Promise<void> {
    await Promise.allSettled([...this.#shelves].map(([deployment, shelf]) => this.#renew(deployment, shelf)));
  }

  async #renew(deployment: string, shelf: Shelf): Promise<void> {
    const unused = shelf.free.filter((lease) => !lease.wasUsed);
    if (unused.length > 0) {
      const kept = shelf.free.filter((lease) => lease.wasUsed);
      shelf.free.splice(0, shelf.free.length, ...kept);
      this.#giveBack(deployment, shelf, unused);
    }
    const leases = [...shelf.all.values()];
    if (leases.length === 0) return;
    const askedMs = Date.now();
    const renewed = await this.#dispatcher.renew(
      deployment,
      leases.map((lease) => lease.token),
      LEASE_MS,
    );
    const revoked: Lease[] = [];
    for (const [index, lease] of leases.entries()) {
      lease.wasUsed = lease.isInUse;
      if (renewed[index]) lease.expiresMs = askedMs + LEASE_MS;
      else {
        lease.isRevoked = true;
        if (!lease.isInUse) revoked.push(lease);
      }
    }
    if (revoked.length > 0) {
      shelf.free.splice(0, shelf.free.length, ...shelf.free.filter((lease) => !lease.isRevoked));
      this.#giveBack(deployment, shelf, revoked);
    }
  }

  #giveBack(deployment: string, shelf: Shelf, leases: readonly Lease[]): void {
    for (const lease of leases) shelf.all.delete(lease.token);
    // If Redis is away the runner takes them back when they run out.
    this.#dispatcher
      .giveBack(
        deployment,
        leases.map((lease) => lease.token),
      )
      .catch(() => {});
  }
}
