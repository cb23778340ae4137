/**
 * Whether this node is fit for new work: only while invocations pass through its real path. Real ones count: the first
 * answer of a sandbox that was started here proves it all. A synthetic one (probe.ts) is made when there were none for a
 * while, and at once when a start failed.
 * Invariant: a node that was not proven, or that failed last, says so with its next sign of life and takes no orders that
 * others can take; it goes on trying. Deliberately absent: what a probe does.
 */
import type { NodeHealth } from '../../../sdk/protocol/swarm/resources.ts';
import type { Log } from '../../../infra/lib/log.ts';

export interface ReadinessOptions {
  readonly probe: { run(): Promise<boolean> };
  /** Between synthetic invocations of a node that does nothing. 0: none are made, and the node always counts as fit. */
  readonly everyMs: number;
  readonly log: Log;
  /** Others must know. */
  onChange(): void;
}

/** While real calls are answered, synthetic ones are this many times rarer. */
const SERVING_FACTOR = 4;
const RETRY_MS = 500;
const RETRY_MS_MAX = 10_000;
/** After a stem that could not be started: they are started again and again. */
const SUSPECT_MS = 5_000;
/** A function that cannot start is called again and again. */
const FRESH_MS = 1_000;
const LOOK_MS = 250;

export class Readiness {
  readonly #options: ReadinessOptions;
  #health: NodeHealth;
  #timer: NodeJS.Timeout | undefined;
  #trying: Promise<void> | undefined;
  #isSuspect = false;
  #failures = 0;
  #triedAt = Number.NEGATIVE_INFINITY;
  #provenAt = Number.NEGATIVE_INFINITY;
  #servedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ReadinessOptions) {
    this.#options = options;
    this.#health = { state: options.everyMs === 0 ? 'passing' : 'untried', sinceMs: Date.now() };
  }

  get health(): NodeHealth {
    return this.#health;
  }

  get isFit(): boolean {
    return this.#health.state === 'passing';
  }

  open(): void {
    if (this.#options.everyMs === 0) return;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#look();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** A call was answered; `isFirst`: by a sandbox that had not answered before. */
  noteServed(isFirst: boolean): void {
    this.#servedAt = performance.now();
    if (isFirst && this.#options.everyMs > 0) this.#pass();
  }

  /** Something failed that is no function's fault. */
  suspect(): void {
    this.#isSuspect = true;
  }

  /** A start failed, and it may not be its function's fault: is this node fit? Tried out now, if it was not just before. */
  async confirm(): Promise<boolean> {
    if (this.#options.everyMs === 0) return true;
    if (performance.now() - this.#triedAt > FRESH_MS) await this.#try();
    else await this.#trying;
    return this.isFit;
  }

  #look(): void {
    if (performance.now() >= this.#nextAt()) void this.#try();
  }

  #try(): Promise<void> {
    this.#trying ??= this.#tryOnce().finally(() => (this.#trying = undefined));
    return this.#trying;
  }

  #nextAt(): number {
    const { everyMs } = this.#options;
    if (!this.isFit) return this.#triedAt + Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** this.#failures);
    if (this.#isSuspect) return this.#triedAt + Math.min(SUSPECT_MS, everyMs);
    const isServing = this.#servedAt > this.#provenAt;
    return Math.max(this.#triedAt, this.#provenAt) + everyMs * (isServing ? SERVING_FACTOR : 1);
  }

  async #tryOnce(): Promise<void> {
    this.#isSuspect = false;
    this.#triedAt = performance.now();
    try {
      if (await this.#options.probe.run()) this.#pass(performance.now() - this.#triedAt);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #pass(ms?: number): void {
    this.#failures = 0;
    this.#provenAt = performance.now();
    const took = ms === undefined ? {} : { ms: Math.round(ms) };
    this.#set({ state: 'passing', sinceMs: this.#health.sinceMs, checkedMs: Date.now(), ...took });
  }

  #fail(error: Error): void {
    this.#failures++;
    const { sinceMs } = this.#health;
    // Before it was ever fit it is not broken: its first image may still be made.
    const state = this.#health.state === 'untried' ? 'untried' : 'failing';
    this.#set({ state, sinceMs, checkedMs: Date.now(), message: error.message.slice(0, 500) });
  }

  #set(health: NodeHealth): void {
    const before = this.#health;
    const hasChanged = before.state !== health.state;
    this.#health = hasChanged ? { ...health, sinceMs: Date.now() } : health;
    if (!hasChanged) return;
    const { log, onChange } = this.#options;
    if (health.state === 'failing')
      log.error({ reason: health.message }, 'no invocation passes through this node: it takes no new work');
    else log.info({ ms: health.ms }, 'invocations pass through this node');
    onChange();
  }
}
