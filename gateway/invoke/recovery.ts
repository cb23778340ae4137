/**
 * What becomes of calls when links break, and when they stand again.
 * Invariant: only what provably did not start is dispatched again: what still lies in the runner's inbox, or in the
 * queue. Everything else has an unknown outcome, and its caller is told so.
 */
import { FrameType } from '../../sdk/protocol/frame.ts';
import type { FrameConnection } from '../../infra/link/connection.ts';
import { runnerOf, type Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import type { Call } from './call.ts';

export interface RecoveryOptions {
  readonly dispatcher: Dispatcher;
  calls(): Iterable<Call>;
  redispatch(call: Call): void;
  send(call: Call, type: number, payload?: Buffer): boolean;
  linkTo(runner: string): Pick<FrameConnection, 'sendJson'> | undefined;
}

/** An inbox is read within milliseconds; a runner that was begun says so with its answer, which may take its time. */
const ASK_MS = 1_000;

const LOST = {
  code: 'OUTCOME_UNKNOWN',
  detail: 'the host that had the invocation was lost; it may or may not have run',
  outcome: 'unknown',
} as const;

export class Recovery {
  readonly #options: RecoveryOptions;
  /** Calls that wait although a runner that could not be reached may have had a slot for them. */
  readonly #stranded = new Set<Call>();
  #lookedMs = 0;
  #isLooking = false;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /** A runner is gone: what was not started goes elsewhere. */
  onGone(runner: string): void {
    for (const call of this.#options.calls()) if (call.runner === runner) void this.#recover(call, runner);
  }

  /**
   * A store may have given an inbox to a runner that did not get it: its line broke meanwhile. Only the runner knows what
   * it has, so it is asked, once.
   */
  tick(nowMs: number): void {
    if (nowMs - this.#lookedMs >= ASK_MS && !this.#isLooking) void this.#look(nowMs);
    for (const call of this.#options.calls()) {
      if (call.sentMs === 0 || nowMs - call.sentMs < ASK_MS) continue;
      call.sentMs = 0;
      if (call.state !== 'sent' || call.isLeased) continue;
      this.#options.send(call, FrameType.ASK, Buffer.from(JSON.stringify({ token: call.token })));
    }
  }

  /** A call was queued while some runners could not be reached. */
  noteStranded(call: Call): void {
    this.#stranded.add(call);
  }

  /** A link stands: it may be to idle slots that those who wait were kept from. */
  onReady(): void {
    for (const call of this.#stranded) {
      this.#stranded.delete(call);
      if (call.state === 'queued') void this.#takeBack(call);
    }
  }

  /** A call was sent to a runner, and no link to it came up. */
  onLate(call: Call, runner: string): void {
    if (call.runner === runner) void this.#recover(call, runner);
  }

  /** As `tick`, for calls that wait: a store may have given one away together with the slot that became free for it. */
  async #look(nowMs: number): Promise<void> {
    this.#lookedMs = nowMs;
    const waiting = [...this.#options.calls()].filter(
      (call) => call.state === 'queued' && nowMs - call.queuedMs >= ASK_MS,
    );
    if (waiting.length === 0) return;
    this.#isLooking = true;
    try {
      const keys = waiting.map(({ id, deployment }) => ({ id, deployment: deployment.id }));
      const given = await this.#options.dispatcher.findGiven(keys);
      for (const [i, call] of waiting.entries()) {
        const found = given[i];
        if (call.state !== 'queued') continue;
        // Seen for the first time it may be on its way.
        if (found && found.token === call.givenToken) await this.#ask(call, found);
        else {
          // It was put back, and slots may have become idle that it was not there for.
          const wasGiven = !found && call.givenToken !== undefined;
          call.givenToken = found?.token;
          if (wasGiven) await this.#takeBack(call);
        }
      }
    } catch {
      // The store is away; then nothing waits in it either.
    } finally {
      this.#isLooking = false;
    }
  }

  /** Who took it says that it has not begun, and it goes elsewhere, or begins soon. Who is dead says nothing any more. */
  async #ask(call: Call, { token, isAlive }: { token: string; isAlive: boolean }): Promise<void> {
    const runner = runnerOf(token);
    // One that lives and has no link to us puts it back by itself.
    if (isAlive) return this.#options.linkTo(runner)?.sendJson(FrameType.ASK, call.stream, { token });
    const isInInbox = await this.#options.dispatcher.withdrawFromInbox(
      call.deployment.id,
      runner,
      token,
      call.envelope as Buffer,
    );
    if (call.state !== 'queued') return;
    if (isInInbox) this.#options.redispatch(call);
    else call.fail(LOST);
  }

  async #takeBack(call: Call): Promise<void> {
    const wasWaiting = await this.#options.dispatcher
      .withdraw(call.deployment.id, call.startByMs, call.envelope as Buffer)
      .catch(() => false);
    if (wasWaiting && call.state === 'queued') this.#options.redispatch(call);
  }

  async #recover(call: Call, runner: string): Promise<void> {
    if (call.isDone) return;
    const isInInbox =
      call.state === 'sent' && !call.isLeased && call.token !== undefined
        ? await this.#options.dispatcher
            .withdrawFromInbox(call.deployment.id, runner, call.token, call.envelope as Buffer)
            .catch(() => false)
        : false;
    if (call.isDone || call.runner !== runner) return;
    if (isInInbox) return this.#options.redispatch(call);
    call.fail(LOST);
  }
}
