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
const CALLS_TOLD_MAX = 500;

interface CallListQuestion {
  readonly function?: string | undefined;
  readonly only?: 'failed' | 'cold' | undefined;
  readonly limit: number;
}
/** About these invocations, or for the last ones. */
export type CallQuestion = { readonly ids: readonly string[] } | CallListQuestion;

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

  /** What this process can say to a question. */
  answer(question: CallQuestion): CallMemory[] {
    return 'ids' in question
      ? this.#findFamily(new Set(question.ids), CALLS_TOLD_MAX)
      : this.#list((call) => isAskedFor(call, question), Math.min(question.limit, CALLS_TOLD_MAX));
  }

  /** Newest first. */
  #list(isWanted: (call: CallMemory) => boolean, countMax: number): CallMemory[] {
    const found: CallMemory[] = [];
    const size = this.#ring.length;
    for (let i = 1; i <= size && found.length < countMax; i++) {
      const call = this.#ring[(this.#next - i + size) % size];
      if (call && isWanted(call)) found.push(call);
    }
    return found;
  }

  /** These, the calls that were made in their course, and those that were made in the course of those. */
  #findFamily(ids: ReadonlySet<string>, countMax: number): CallMemory[] {
    const children = new Map<string, CallMemory[]>();
    const found: CallMemory[] = [];
    for (const call of this.#ring) {
      if (ids.has(call.id)) found.push(call);
      if (call.parent === undefined) continue;
      const siblings = children.get(call.parent);
      if (siblings) siblings.push(call);
      else children.set(call.parent, [call]);
    }
    const open = [...ids];
    for (let next = open.shift(); next !== undefined && found.length < countMax; next = open.shift()) {
      for (const call of children.get(next) ?? []) {
        if (ids.has(call.id)) continue;
        found.push(call);
        open.push(call.id);
      }
    }
    return found.slice(0, countMax);
  }
}

function isAskedFor({ functionName, cause, status, timing }: CallMemory, asked: CallListQuestion): boolean {
  if (asked.function !== undefined && functionName !== asked.function) return false;
  if (asked.only === 'failed') return cause !== undefined || status >= 500;
  return asked.only !== 'cold' || (timing !== undefined && timing.coldMs > 0);
}
