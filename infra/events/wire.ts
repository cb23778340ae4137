/**
 * What goes to the scripts of attempts and acceptances, and what comes back: the TypeScript side of their headers.
 */
import type { AttemptOutcome, InvocationState } from '../../sdk/protocol/events.ts';
import type { BlobReference, EventHead, EventOrigin, EventPolicy, EventResultHead } from './record.ts';

export type Reply = readonly unknown[];

const NOTHING = Buffer.alloc(0);

export interface Acceptance {
  readonly id: string;
  readonly functionName: string;
  readonly delayMs: number;
  readonly maxAgeMs: number;
  /** 0 is the highest. */
  readonly priority: number;
  /** `function/hash of the ordering key`. */
  readonly line: string | undefined;
  readonly policy: EventPolicy;
  /** Whose end a destination is told: s (success), f (failure), sf or ''. */
  readonly destinations: string;
  /** How many may be in the queue proper or run. */
  readonly window: number;
  /** Starts a second; 0 for any number. */
  readonly rate: number;
  readonly origin: EventOrigin;
  readonly head: EventHead;
  readonly body: Buffer;
  readonly blob: BlobReference | undefined;
  readonly idempotency: { readonly scope: string; readonly fingerprint: string } | undefined;
  readonly countMax: number;
  readonly bytesMax: number;
  /** Id of the invocation that waits for the end of this one and others; it is accepted in the same call, before them. */
  readonly group?: string | undefined;
  /** That one is in another cell, and is told of the end later (store.ts, `endMember`). */
  readonly isGroupElsewhere?: boolean;
  /** It waits for the end of those that name it as their group. */
  readonly waitsForGroup?: boolean;
  /** How many of them are in other cells, and are accepted after it. */
  readonly membersElsewhere?: number;
}

export type AcceptReply =
  | { readonly kind: 'accepted'; readonly acceptedMs: number; readonly state: InvocationState }
  /** Accepted before: by the same id, or with the same idempotency key. */
  | { readonly kind: 'known'; readonly id: string }
  | { readonly kind: 'other_request'; readonly id: string }
  /** The one that was to wait for it was not accepted. */
  | { readonly kind: 'alone' }
  | { readonly kind: 'full'; readonly what: 'count' | 'bytes'; readonly count: number };

/** A new attempt, and what it needs. */
export interface Begun {
  readonly id: string;
  readonly fence: number;
  readonly number: number;
  readonly functionName: string;
  /** Failed tries that count, before this one. */
  readonly counted: number;
  readonly policy: EventPolicy;
  readonly origin: EventOrigin;
  readonly head: EventHead;
  readonly body: Buffer;
  readonly blob: BlobReference | undefined;
  /** Of this process's clock. */
  readonly startedMs: number;
}

export interface AttemptEnd {
  readonly id: string;
  readonly fence: number;
  readonly follows: 'succeeded' | 'dead' | 'retry' | 'again' | 'lost' | 'wait';
  readonly outcome: AttemptOutcome;
  readonly counts: boolean;
  readonly reason?: string | undefined;
  readonly delayMs?: number;
  /** What is written of the attempt beside number, fence and times. */
  readonly detail: Readonly<Record<string, string | number>>;
  readonly number: number;
  readonly startedMs: number;
  /** The caller will run the function's next invocation, if one waits. */
  readonly takesNext?: boolean;
  readonly result?:
    | { readonly head: EventResultHead; readonly body: Buffer; readonly blob?: BlobReference | undefined }
    | undefined;
  /** Runner and epoch that ended under a lost attempt. */
  readonly died?: string | undefined;
}

export type EndReply =
  | {
      readonly kind: 'written';
      readonly state: InvocationState;
      /** The function's next invocation, begun for the caller in the same write. */
      readonly next: Begun | undefined;
    }
  /** Somebody holds a newer token: the end was refused. */
  | { readonly kind: 'fenced'; readonly state: string };

export function toBegun(reply: Reply): Begun {
  const [id, fence, number, functionName, counted, policy, origin, head, body, blob] =
    reply as (Buffer | null)[];
  return {
    id: String(id),
    fence: Number(fence),
    number: Number(number),
    functionName: String(functionName),
    counted: Number(counted),
    policy: JSON.parse(String(policy)) as EventPolicy,
    origin: JSON.parse(String(origin)) as EventOrigin,
    head: JSON.parse(String(head)) as EventHead,
    body: body ?? NOTHING,
    blob: blob ? (JSON.parse(String(blob)) as BlobReference) : undefined,
    startedMs: Date.now(),
  };
}

export function toAcceptReply([kind, detail, count]: Reply, id: string): AcceptReply {
  switch (String(kind)) {
    case 'OK':
      return { kind: 'accepted', acceptedMs: Number(detail), state: String(count) as InvocationState };
    case 'SAME':
      return { kind: 'known', id: String(detail) };
    case 'EXISTS':
      return { kind: 'known', id };
    case 'OTHER':
      return { kind: 'other_request', id: String(detail) };
    case 'ALONE':
      return { kind: 'alone' };
    default:
      return { kind: 'full', what: String(detail) as 'count' | 'bytes', count: Number(count) };
  }
}

export function toEndReply([kind, state, begun]: Reply): EndReply {
  if (String(kind) === 'FENCED') return { kind: 'fenced', state: String(state) };
  return {
    kind: 'written',
    state: String(state) as InvocationState,
    next: begun ? toBegun(begun as Reply) : undefined,
  };
}

export function endArguments(end: AttemptEnd): (string | number | Buffer)[] {
  const { number, fence, startedMs, outcome, result } = end;
  const attempt = JSON.stringify({ number, fence, startedMs, outcome, ...end.detail });
  return [
    end.id,
    fence,
    end.follows,
    outcome,
    end.counts ? 1 : 0,
    end.reason ?? '',
    end.delayMs ?? 0,
    // The script adds when it ended, by its own clock.
    attempt.slice(0, -1),
    result ? JSON.stringify(result.head) : '',
    result?.body ?? '',
    result?.blob ? JSON.stringify(result.blob) : '',
    end.died ?? '',
    end.takesNext ? 1 : 0,
  ];
}

/** What accept.lua takes of each; tick.lua takes it, too. */
export function acceptArguments(event: Acceptance): (string | number | Buffer)[] {
  return [
    event.id,
    event.functionName,
    event.delayMs,
    event.maxAgeMs,
    event.priority,
    event.line ?? '',
    JSON.stringify(event.policy),
    event.policy.resultMs,
    event.destinations,
    `${event.window}:${event.rate}`,
    JSON.stringify(event.origin),
    JSON.stringify(event.head),
    event.body,
    event.blob ? JSON.stringify(event.blob) : '',
    event.idempotency?.scope ?? '',
    event.idempotency?.fingerprint ?? '',
    event.countMax,
    event.bytesMax,
    event.group === undefined ? '' : `${event.isGroupElsewhere ? '@' : ''}${event.group}`,
    event.waitsForGroup ? 1 + (event.membersElsewhere ?? 0) : '',
  ];
}
