/**
 * Answers what guests ask about durable steps (sdk/protocol/workflow/steps.ts): only for invocations that this process runs now,
 * under their fence tokens. Invariant: an answer is given after the store's reply, so what a function was told is safe.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import {
  STEP_NAME_LENGTH_MAX,
  STEP_SLEEP_MS_MAX,
  STEP_WAIT_MS_DEFAULT,
} from '../../../sdk/protocol/limits.ts';
import { describeIssues } from '../../../sdk/protocol/manifest.ts';
import type { StepAnswer, StoredStep } from '../../../sdk/protocol/workflow/steps.ts';
import type { Holder, NewStep, PutReply, StepStore } from '../../../infra/events/steps.ts';
import { inSpan, startSpan } from '../../../infra/lib/telemetry.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';

/** An attempt that runs in this process. */
export interface StepHolder extends Holder {
  readonly isCancelled: boolean;
  /** It has something to sleep or wait for: it may be suspended. */
  noteSleep(): void;
}

export interface StepServiceOptions {
  readonly steps: StepStore;
  readonly held: (invocation: string) => StepHolder | undefined;
  /** Unfinished bytes of all invocations at most. */
  readonly bytesMax: () => number;
}

const AWAY_MS = 200;

const StepName = z
  .string()
  .min(1)
  // With the count that tells steps of one name apart.
  .max(STEP_NAME_LENGTH_MAX + 8)
  // eslint-disable-next-line no-control-regex -- it is shown on terminals
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'has control characters');
const Span = z.number().int().min(0).max(STEP_SLEEP_MS_MAX);

const Command = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('load') }),
  z.strictObject({ op: z.literal('store'), step: StepName, value: z.unknown().optional() }),
  z.strictObject({
    op: z.literal('sleep'),
    step: StepName,
    ms: Span.optional(),
    untilMs: z.number().int().min(0).optional(),
  }),
  z.strictObject({
    op: z.literal('wait'),
    step: StepName,
    event: z.string().min(1).max(STEP_NAME_LENGTH_MAX),
    timeoutMs: Span.default(STEP_WAIT_MS_DEFAULT),
    match: z.record(z.string(), z.unknown()).optional(),
  }),
]);

export class StepService {
  readonly #options: StepServiceOptions;

  constructor(options: StepServiceOptions) {
    this.#options = options;
  }

  /** `body` is a StepCommand. @throws SkiffError CONFLICT · BAD_REQUEST · BODY_TOO_LARGE · THROTTLED */
  async answer(invocation: string, body: Buffer, traceparent?: string): Promise<StepAnswer> {
    const holder = this.#options.held(invocation);
    if (!holder) throw fenced(invocation);
    const command = parse(body);
    if (command.op === 'load') {
      const steps = await this.#untilThere(holder, () => this.#options.steps.load(holder));
      for (const { isPending } of steps.values()) if (isPending) holder.noteSleep();
      return { steps: Object.fromEntries(steps) };
    }
    const span = startSpan(`${command.op} ${command.step}`, {
      traceparent,
      attributes: { 'skiff.step': command.step },
    });
    const stored = await inSpan(span, () => this.#put(holder, describe(command)));
    if (stored.isPending) holder.noteSleep();
    return { steps: { [command.step]: stored } };
  }

  async #put(holder: StepHolder, step: NewStep): Promise<StoredStep> {
    const { steps, bytesMax } = this.#options;
    const reply = await this.#untilThere(holder, () => steps.put(holder, step, bytesMax()));
    if (reply.kind === 'stored') return reply.stored;
    throw refuse(step.step, reply);
  }

  /** While the store is away the function waits, as long as the invocation is its own. */
  async #untilThere<Value>(holder: StepHolder, ask: () => Promise<Value | undefined>): Promise<Value> {
    for (;;) {
      try {
        const value = await ask();
        if (value !== undefined) return value;
        throw fenced(holder.id);
      } catch (error) {
        if (error instanceof SkiffError || !isServiceAway(error)) throw error;
        if (holder.isCancelled) throw fenced(holder.id);
        await delay(AWAY_MS);
      }
    }
  }
}

function parse(body: Buffer): z.output<typeof Command> {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    throw new SkiffError('BAD_REQUEST', 'a command about steps that is not JSON');
  }
  const parsed = Command.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new SkiffError('BAD_REQUEST', describeIssues(parsed.error, 'step'));
}

function describe(command: Exclude<z.output<typeof Command>, { op: 'load' }>): NewStep {
  const { step } = command;
  switch (command.op) {
    case 'store':
      return { step, kind: 'step', value: command.value };
    case 'sleep': {
      const { ms, untilMs } = command;
      const lastMs = Date.now() + STEP_SLEEP_MS_MAX;
      if (untilMs === undefined) return { step, kind: 'sleep', ms: ms ?? 0 };
      if (untilMs <= lastMs) return { step, kind: 'sleep', untilMs };
      throw new SkiffError(
        'BAD_REQUEST',
        `"${step}" would sleep until ${new Date(untilMs).toISOString()}; the limit is ${STEP_SLEEP_MS_MAX / 86_400_000} days`,
      );
    }
    case 'wait':
      return { step, kind: 'wait', ms: command.timeoutMs, event: command.event, match: command.match };
  }
}

function refuse(step: string, { what, limit }: Extract<PutReply, { kind: 'full' }>): SkiffError {
  if (what === 'count') {
    const text = `"${step}" is one step too many: an invocation has at most ${limit}; put more work into each, or send events`;
    return new SkiffError('BAD_REQUEST', text);
  }
  if (what === 'bytes') {
    const text = `the results of all steps of an invocation may have ${limit} bytes together, with "${step}" they have more; store data elsewhere and return where it is`;
    return new SkiffError('BODY_TOO_LARGE', text);
  }
  return new SkiffError(
    'THROTTLED',
    `"${step}" was not stored: unfinished events fill their share of the store`,
  );
}

function fenced(invocation: string): SkiffError {
  return new SkiffError(
    'CONFLICT',
    `${invocation} is not run here any more: its steps are another attempt's`,
  );
}
