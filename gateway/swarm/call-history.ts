/**
 * The last calls of this gateway, for `skiff explain <invocation>` and `skiff trace <invocation>`. Invariant: costs a
 * call one small object and one write into a ring; nothing is looked up, sent or kept beyond the ring.
 */
import type { FailureCause } from '../../sdk/protocol/errors.ts';
import type { Call } from '../invoke/call.ts';
import type { RunnerTiming } from '../../sdk/protocol/invocation.ts';

export interface CallMemory {
  readonly id: string;
  /** Invocation that made the call. */
  readonly parent: string | undefined;
  readonly functionName: string;
  readonly deployment: string;
  readonly runner: string | undefined;
  readonly cause: FailureCause | undefined;
  readonly detail: string | undefined;
  readonly timing: RunnerTiming | undefined;
  readonly isLeased: boolean;
  readonly dispatches: number;
  readonly status: number;
  readonly receivedMs: number;
  readonly ms: number;
}

/** What is kept of a call that has ended. */
export function rememberCall(call: Call, cause: FailureCause | undefined): CallMemory {
  return {
    id: call.id,
    parent: call.parent,
    functionName: call.deployment.functionName,
    deployment: call.deployment.id,
    runner: call.runner,
    cause,
    detail: call.failure?.detail,
    timing: call.timing,
    isLeased: call.isLeased,
    dispatches: call.dispatches,
    status: call.response.statusCode,
    receivedMs: call.receivedMs,
    ms: Date.now() - call.receivedMs,
  };
}

const CALLS_KEPT = 8_192;

export class CallHistory {
  readonly #ring: CallMemory[] = [];
  #next = 0;

  add(call: CallMemory): void {
    this.#ring[this.#next] = call;
    this.#next = this.#next + 1 === CALLS_KEPT ? 0 : this.#next + 1;
  }

  find(id: string): CallMemory | undefined {
    return this.#ring.find((call) => call.id === id);
  }

  /** Newest first. */
  list(isWanted: (call: CallMemory) => boolean, countMax: number): CallMemory[] {
    const found: CallMemory[] = [];
    const size = this.#ring.length;
    for (let i = 1; i <= size && found.length < countMax; i++) {
      const call = this.#ring[(this.#next - i + size) % size];
      if (call && isWanted(call)) found.push(call);
    }
    return found;
  }

  /** Calls that were made in the course of these, and of those in turn, `countMax` at most. */
  findCalls(id: string, countMax: number): CallMemory[] {
    const children = new Map<string, CallMemory[]>();
    for (const call of this.#ring) {
      if (call.parent === undefined) continue;
      const siblings = children.get(call.parent);
      if (siblings) siblings.push(call);
      else children.set(call.parent, [call]);
    }
    const found: CallMemory[] = [];
    const open = [id];
    for (let next = open.shift(); next !== undefined && found.length < countMax; next = open.shift()) {
      for (const call of children.get(next) ?? []) {
        found.push(call);
        open.push(call.id);
      }
    }
    return found.slice(0, countMax);
  }
}
