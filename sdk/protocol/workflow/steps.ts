/**
 * What a guest asks the platform about the durable steps of an asynchronous invocation: a call (see ../frame.ts, CALL) of
 * STEPS_TARGET with a `StepCommand` as its body; the answer's body is a `StepAnswer`. The platform knows the attempt and
 * its fence token, so that a guest cannot speak for another invocation. Types only.
 */

/** Not the name of a function: it can be declared by none and called by its own name alone. */
export const STEPS_TARGET = '$steps';

export type StepKind = 'step' | 'sleep' | 'wait';

export type StepCommand =
  /** Everything that is stored; asked for once, before the first step of an attempt. */
  | { readonly op: 'load' }
  | { readonly op: 'store'; readonly step: string; readonly value?: unknown }
  /** `ms` from now, or until `untilMs` (epoch). */
  | { readonly op: 'sleep'; readonly step: string; readonly ms?: number; readonly untilMs?: number }
  | {
      readonly op: 'wait';
      readonly step: string;
      readonly event: string;
      readonly timeoutMs?: number | undefined;
      readonly match?: Readonly<Record<string, unknown>> | undefined;
    };

/** A step as it is stored. */
export interface StoredStep {
  readonly kind: StepKind;
  /** It still sleeps or waits. */
  readonly isPending?: true;
  /** Of a step, or of the event; absent for undefined, and for an event that did not come in time. */
  readonly value?: unknown;
}

export interface StepAnswer {
  /** For `load`: by name. Else the one step, as it is stored now. */
  readonly steps: Readonly<Record<string, StoredStep>>;
}

/** In the answer of a guest: the invocation sleeps or waits now. The status is SUSPENDED_STATUS, there is no body. */
export const SUSPENDED_HEADER = 'skiff-suspended';
export const SUSPENDED_STATUS = 202;
