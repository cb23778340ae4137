/**
 * One sandbox that serves one deployment, with its slots.
 * Invariant: an instance belongs to one deployment from its LOAD to its end; a slot carries one invocation at a time.
 * States only move forward: active -> draining (no new work) -> gone.
 */
import type { Deployment } from '../../sdk/protocol/api.ts';
import { FrameType, parseJson, type Frame } from '../../sdk/protocol/frame.ts';
import type { GuestLog } from '../../sdk/protocol/invocation.ts';
import { StreamTable } from '../../sdk/protocol/stream-table.ts';
import { LOG_BYTES_PER_SECOND_MAX, LOG_LINES_PER_SECOND_MAX } from '../../sdk/protocol/limits.ts';
import { formatToken } from '../../infra/dispatch/dispatcher.ts';
import type { SandboxExit } from '../../infra/sandbox/contract.ts';
import { Channel } from '../channel/channel.ts';
import type { FunctionLog } from '../log/function-log.ts';
import { LogBudget } from '../log/log-budget.ts';
import type { Guest } from './guest.ts';
import { describeExit } from './guest-sandbox.ts';

export interface Slot {
  readonly index: number;
  generation: number;
  /** The guest's stream that runs on it, or 0. */
  stream: number;
}

/** What an invocation gets from its instance. */
export interface StreamSink {
  readonly invocationId: string;
  onFrame(frame: Frame): void;
  onGone(exit: SandboxExit, violation: string | undefined): void;
}

export interface InstanceOwner {
  readonly runner: string;
  epoch(): string;
  /** No new work: what is still offered must go. */
  onDraining(instance: Instance): void;
  onGone(instance: Instance): void;
}

/** How long an instance must be quiet before it is frozen. */
const FREEZE_AFTER_MS = 1_000;
/** Answered calls whose `waitUntil` may go on at once. */
const UNSETTLED_MAX = 10_000;

export class Instance {
  readonly deployment: Deployment;
  readonly guest: Guest;
  /** Calls that the function makes to others. */
  readonly channel: Channel;
  readonly slots: Slot[];
  readonly coldMs: number;
  state: 'active' | 'draining' | 'gone' = 'active';
  /** Uses since the start, and what greedy-dual-size-frequency makes of them. */
  uses = 0;
  priority = 0;
  lastUsedMs = Date.now();
  /** A replica of a service: it ends when it is told to, not for being idle or in the way. */
  isPinned = false;
  /** Why it ended, or is about to. */
  ending: string | undefined;
  /** What is still to be asked of its guest when nobody needs it any more; once. */
  beforeEnd: (() => Promise<void>) | undefined;
  readonly #owner: InstanceOwner;
  readonly #log: FunctionLog;
  readonly #sinks = new StreamTable<StreamSink>();
  /** Streams whose answer has ended but whose waitUntil has not. */
  readonly #unsettled = new StreamTable<true>();
  #isFrozen = false;
  /** What needs it awake beside its calls. */
  #holds = 0;
  #changing: Promise<void> = Promise.resolve();
  #freezeTimer: NodeJS.Timeout | undefined;
  readonly #logBudget = new LogBudget();

  constructor(deployment: Deployment, guest: Guest, coldMs: number, owner: InstanceOwner, log: FunctionLog) {
    this.deployment = deployment;
    this.guest = guest;
    this.channel = new Channel(deployment, guest);
    this.coldMs = coldMs;
    this.#owner = owner;
    this.#log = log;
    this.slots = Array.from({ length: deployment.config.concurrency }, (_, index) => ({
      index,
      generation: 0,
      stream: 0,
    }));
    guest.handlers = {
      onStreamFrame: (frame) => this.#onStreamFrame(frame),
      onCallFrame: (frame) => this.channel.onGuestFrame(frame),
      onLog: (stream, payload) => this.#onLog(stream, payload),
      onOutput: (source, chunk) => this.#onOutput(source, chunk),
      onExit: (exit) => this.#onExit(exit),
    };
  }

  get liveMember(): string {
    return `${this.#owner.runner}|${this.#owner.epoch()}|${this.guest.id}`;
  }

  token(slot: Slot): string {
    return formatToken({
      runner: this.#owner.runner,
      epoch: this.#owner.epoch(),
      sandbox: this.guest.id,
      slot: slot.index,
      generation: slot.generation,
    });
  }

  get busySlots(): number {
    return this.#sinks.size;
  }

  get isQuiet(): boolean {
    return this.#sinks.size === 0 && this.#unsettled.size === 0 && this.#holds === 0;
  }

  /** Starts a stream on a free slot. The sandbox is thawed first. */
  begin(slot: Slot, sink: StreamSink): number {
    const stream = this.guest.openStream();
    slot.stream = stream;
    this.#sinks.set(stream, sink);
    this.#unsettled.set(stream, true);
    if (this.#unsettled.size > UNSETTLED_MAX) this.guest.violate('it never settles its calls');
    this.uses++;
    this.lastUsedMs = Date.now();
    if (this.#isFrozen) this.#setFrozen(false);
    return stream;
  }

  /** The answer of a stream has ended: its slot is free. */
  end(slot: Slot): void {
    this.#sinks.delete(slot.stream);
    slot.stream = 0;
    this.lastUsedMs = Date.now();
    if (this.state === 'draining' && this.#sinks.size === 0) this.#end();
    else this.#planFreeze();
  }

  /** Runs `work` with the sandbox awake; it neither freezes nor counts as quiet meanwhile. */
  async whileAwake<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#holds++;
    if (this.#isFrozen) this.#setFrozen(false);
    try {
      await this.#changing;
      return await work();
    } finally {
      this.#holds--;
      this.#planFreeze();
    }
  }

  /** It may never be called: it is frozen until it is. */
  rest(): void {
    this.#planFreeze();
  }

  /** No new work. The sandbox ends when the last stream has. */
  drain(): void {
    if (this.state !== 'active') return;
    this.state = 'draining';
    this.#owner.onDraining(this);
    if (this.#sinks.size === 0) this.#end();
  }

  /** It is of no use any more: its calls end as those of a program that ended. */
  condemn(why: string): void {
    if (this.ending !== undefined) return;
    this.ending = why;
    this.#platform('error', `the sandbox was ended: ${why}`);
    this.guest.kill();
  }

  /** Replicas may hold data; all else is started again, and what it takes to end would be waited for. */
  #end(): void {
    const { beforeEnd } = this;
    this.beforeEnd = undefined;
    if (this.isPinned && this.guest.end) this.guest.end();
    else if (beforeEnd)
      void this.whileAwake(beforeEnd)
        .catch(() => {})
        .then(() => this.#end());
    // Killing takes a while, and the last answer has not left yet.
    else setImmediate(() => this.guest.kill());
  }

  /** One timer, which looks again when there was a call meanwhile: one for each call would cost it more than its frames. */
  #planFreeze(afterMs = FREEZE_AFTER_MS): void {
    if (this.#sinks.size > 0 || this.#freezeTimer || this.state !== 'active') return;
    this.#freezeTimer = setTimeout(() => {
      this.#freezeTimer = undefined;
      const leftMs = this.lastUsedMs + FREEZE_AFTER_MS - Date.now();
      if (this.isQuiet && this.state === 'active' && leftMs <= 0) this.#setFrozen(true);
      else this.#planFreeze(leftMs > 0 ? leftMs : FREEZE_AFTER_MS);
    }, afterMs);
    this.#freezeTimer.unref();
  }

  #setFrozen(isFrozen: boolean): void {
    this.#isFrozen = isFrozen;
    // In order: a thaw must not overtake the freeze before it.
    this.#changing = this.#changing
      .then(() => (this.#isFrozen === isFrozen ? this.#applyFrozen(isFrozen) : undefined))
      .catch(() => {});
  }

  #applyFrozen(isFrozen: boolean): Promise<void> {
    return isFrozen ? this.guest.sandbox.freeze() : this.guest.sandbox.thaw();
  }

  #onStreamFrame(frame: Frame): void {
    const sink = this.#sinks.get(frame.stream);
    if (sink) sink.onFrame(frame);
    else if (frame.type !== FrameType.SETTLED || !this.#unsettled.has(frame.stream))
      this.guest.chatter(frame);
    // Late frames of a stream that was cut are normal; SETTLED comes after the answer.
    if (frame.isEnd || frame.type === FrameType.SETTLED) this.#settle(frame);
  }

  #settle(frame: Frame): void {
    if (frame.type !== FrameType.SETTLED) return;
    this.#unsettled.delete(frame.stream);
    this.channel.end(frame.stream);
    if (this.#sinks.size === 0) this.#planFreeze();
  }

  #mayLog(bytes: number): boolean {
    return this.#logBudget.tryTake(bytes, Date.now(), (dropped) =>
      this.#platform(
        'warn',
        `${dropped} log lines were dropped; a sandbox may write ${LOG_LINES_PER_SECOND_MAX} lines and ${LOG_BYTES_PER_SECOND_MAX} bytes a second`,
      ),
    );
  }

  #platform(level: 'info' | 'warn' | 'error', message: string): void {
    this.#log.write(this.deployment, { level, source: 'platform', message, sandbox: this.guest.id });
  }

  #onLog(stream: number, payload: Buffer): void {
    if (!this.#mayLog(payload.length)) return;
    const record = parseJson(payload) as Partial<GuestLog> | null;
    const invocation = this.#sinks.get(stream)?.invocationId;
    this.#log.write(this.deployment, {
      level:
        record?.level === 'debug' || record?.level === 'warn' || record?.level === 'error'
          ? record.level
          : 'info',
      source: 'app',
      message: String(record?.message ?? ''),
      sandbox: this.guest.id,
      ...(record?.fields && typeof record.fields === 'object' ? { fields: record.fields } : {}),
      ...(invocation === undefined ? {} : { invocation }),
    });
  }

  #onOutput(source: 'stdout' | 'stderr', chunk: Buffer): void {
    for (const line of this.#log.splitLines(`${this.guest.id}${source}`, chunk)) {
      if (!this.#mayLog(line.length)) continue;
      const [only] = this.#sinks.size === 1 ? this.#sinks.values() : [];
      this.#log.write(this.deployment, {
        level: source === 'stderr' ? 'error' : 'info',
        source,
        message: line,
        sandbox: this.guest.id,
        ...(only ? { invocation: only.invocationId } : {}),
      });
    }
  }

  #onExit(exit: SandboxExit): void {
    this.state = 'gone';
    this.ending ??= this.guest.violation ?? describeExit(exit);
    this.channel.close();
    if (this.#freezeTimer) clearTimeout(this.#freezeTimer);
    const sinks = [...this.#sinks.values()];
    this.#sinks.clear();
    for (const slot of this.slots) slot.stream = 0;
    this.#log.forget(this.guest.id);
    for (const sink of sinks) sink.onGone(exit, this.guest.violation);
    if (this.guest.violation)
      this.#platform('error', `the sandbox broke the protocol and was killed: ${this.guest.violation}`);
    this.#owner.onGone(this);
  }
}
