/**
 * The states of an asynchronous invocation, who may move it and where to: the table that the scripts of this folder
 * follow and that the checker in the tests reads. One writer for each transition.
 *
 * `accepted` and `leased` of the published table have no rows: an invocation is accepted and ready (or delayed) in one
 * write, and leased is a ready one whose BullMQ job is locked; the attempt begins with the write that makes it running.
 */
import type { AttemptOutcome, InvocationState } from '../../sdk/protocol/events.ts';

export type Writer = 'acceptor' | 'pump' | 'consumer' | 'caller';

export interface Transition {
  readonly from: InvocationState | 'none';
  readonly to: InvocationState;
  readonly by: Writer;
  readonly why: string;
}

export const TRANSITIONS: readonly Transition[] = [
  { from: 'none', to: 'ready', by: 'acceptor', why: 'accepted' },
  { from: 'none', to: 'delayed', by: 'acceptor', why: 'accepted, to run later' },
  { from: 'none', to: 'waiting', by: 'acceptor', why: 'accepted, to run when a group of others has ended' },
  { from: 'waiting', to: 'ready', by: 'consumer', why: 'the last of its group has ended' },
  { from: 'delayed', to: 'ready', by: 'pump', why: 'its time has come' },
  { from: 'retry_wait', to: 'ready', by: 'pump', why: 'its time has come' },
  { from: 'ready', to: 'running', by: 'consumer', why: 'an attempt begins, with a new fence token' },
  { from: 'running', to: 'succeeded', by: 'consumer', why: 'the function answered' },
  {
    from: 'running',
    to: 'retry_wait',
    by: 'consumer',
    why: 'a failed try with tries left, one that did not run, or whose outcome is lost',
  },
  { from: 'running', to: 'dead', by: 'consumer', why: 'no tries left, rejected, or a permanent failure' },
  { from: 'running', to: 'retry_wait', by: 'pump', why: 'its lease ended: the outcome is lost' },
  { from: 'running', to: 'dead', by: 'pump', why: 'its outcome was lost too often' },
  {
    from: 'running',
    to: 'waiting',
    by: 'consumer',
    why: 'it sleeps, or waits for an event, and holds no sandbox',
  },
  { from: 'waiting', to: 'ready', by: 'pump', why: 'its sleep or the time for the event is over' },
  { from: 'waiting', to: 'ready', by: 'caller', why: 'the event has come' },
  {
    from: 'waiting',
    to: 'expired',
    by: 'pump',
    why: 'its maximum age has passed, without the time it slept',
  },
  { from: 'waiting', to: 'cancelled', by: 'caller', why: 'asked for' },
  { from: 'ready', to: 'expired', by: 'pump', why: 'its maximum age has passed' },
  { from: 'delayed', to: 'expired', by: 'pump', why: 'its maximum age has passed' },
  { from: 'retry_wait', to: 'expired', by: 'pump', why: 'its maximum age has passed' },
  { from: 'delayed', to: 'cancelled', by: 'caller', why: 'asked for' },
  { from: 'ready', to: 'cancelled', by: 'caller', why: 'asked for' },
  { from: 'retry_wait', to: 'cancelled', by: 'caller', why: 'asked for' },
  { from: 'running', to: 'cancelled', by: 'caller', why: 'asked for; the attempt is fenced off' },
  { from: 'dead', to: 'ready', by: 'caller', why: 'replayed: a new series of attempts' },
  { from: 'expired', to: 'ready', by: 'caller', why: 'replayed: a new series of attempts' },
];

export function isLegal(from: Transition['from'], to: InvocationState): boolean {
  return TRANSITIONS.some((transition) => transition.from === from && transition.to === to);
}

/** What an outcome means for what follows. */
export const OUTCOMES: Readonly<
  Record<
    AttemptOutcome,
    { readonly counts: boolean; readonly follows: 'end' | 'retry' | 'again' | 'dead' | 'lost' | 'wait' }
  >
> = {
  ok: { counts: false, follows: 'end' },
  function_error: { counts: true, follows: 'retry' },
  timeout: { counts: true, follows: 'retry' },
  oom: { counts: true, follows: 'retry' },
  crashed: { counts: true, follows: 'retry' },
  init_error: { counts: true, follows: 'retry' },
  rejected: { counts: true, follows: 'dead' },
  throttled: { counts: false, follows: 'again' },
  platform_error: { counts: false, follows: 'again' },
  not_started: { counts: false, follows: 'again' },
  lost: { counts: false, follows: 'lost' },
  cancelled: { counts: false, follows: 'end' },
  suspended: { counts: false, follows: 'wait' },
};
