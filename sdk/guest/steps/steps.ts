/**
 * Durable steps of one invocation: what `ctx.step`, `ctx.sleep`, `ctx.waitForEvent`, `ctx.map` and `ctx.invoke` do in an
 * asynchronous invocation. Invariant: a step's function is not run when its result is stored, and what is returned is
 * what was stored, so that a first run and a repeated one see the same. A step that throws stores nothing.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { EventWait, MapOptions } from '../../protocol/context.ts';
import { STEP_NAME_LENGTH_MAX, STEP_RESULT_BYTES_MAX } from '../../protocol/limits.ts';
import {
  type StepAnswer,
  type StepCommand,
  type StepKind,
  STEPS_TARGET,
  type StoredStep,
} from '../../protocol/workflow/steps.ts';
import { tryParseSpan } from '../../protocol/units.ts';
import type { CallInit } from '../channel/outgoing.ts';
import { Park } from './park.ts';
import { readResponse, restoreResponse, type StoredResponse } from './stored-response.ts';

export interface StepHost {
  call(target: string, init: CallInit): Promise<Response>;
  /** The invocation's answer is that it sleeps or waits. */
  suspend(): void;
}

const MAP_CONCURRENCY = 8;
/** Set while a step's function runs. */
const currentStep = new AsyncLocalStorage<string>();

export class Steps {
  readonly #host: StepHost;
  readonly #park: Park;
  readonly #counts = new Map<string, number>();
  #stored: Promise<Map<string, StoredStep>> | undefined;

  constructor(host: StepHost) {
    this.#host = host;
    this.#park = new Park(() => host.suspend());
  }

  static isInside(): boolean {
    return currentStep.getStore() !== undefined;
  }

  async step<Value>(name: string, run: () => Value | Promise<Value>): Promise<Value> {
    const step = this.#name(name);
    return this.#park.during(async () => {
      const known = await this.#find(step, 'step');
      if (known) return known.value as Value;
      return (await this.#store(step, await currentStep.run(step, run))) as Value;
    });
  }

  async map<Item, Value>(
    name: string,
    items: readonly Item[],
    run: (item: Item, index: number) => Value | Promise<Value>,
    { concurrency = MAP_CONCURRENCY }: MapOptions = {},
  ): Promise<Value[]> {
    const results: Value[] = [];
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let i = next++; i < items.length; i = next++)
        results[i] = await this.step(`${name} ${i + 1}`, () => run(items[i] as Item, i));
    };
    const lanes = Math.min(items.length, Math.max(1, Math.floor(concurrency)));
    await Promise.all(Array.from({ length: lanes }, lane));
    return results;
  }

  async sleep(time: string | number | Date, name = 'sleep'): Promise<void> {
    const step = this.#name(name);
    const command = { op: 'sleep', step, ...parseSleep(time) } as const;
    await this.#pause(step, 'sleep', command);
  }

  async waitForEvent(event: string, { timeout, match }: EventWait = {}): Promise<unknown> {
    const step = this.#name(`wait for ${event}`);
    const timeoutMs = timeout === undefined ? undefined : parseSpan(timeout);
    return this.#pause(step, 'wait', { op: 'wait', step, event, timeoutMs, match });
  }

  /** A call of another function. Answers from 500 on are not stored: the next attempt asks again. */
  async invoke(target: string, init: CallInit): Promise<Response> {
    const step = this.#name(`invoke ${target}`);
    return this.#park.during(async () => {
      const known = await this.#find(step, 'step');
      if (known) return restoreResponse(known.value as StoredResponse);
      const { stored, response } = await readResponse(await this.#host.call(target, init));
      if (!stored || stored.status >= 500) return response;
      return restoreResponse((await this.#store(step, stored)) as StoredResponse);
    });
  }

  /** The n-th step of one name is `name #n`: loops need no names of their own. */
  #name(name: string): string {
    if (typeof name !== 'string' || name === '' || name.length > STEP_NAME_LENGTH_MAX)
      throw new TypeError(
        `a step's name is a text of 1 to ${STEP_NAME_LENGTH_MAX} characters, not ${JSON.stringify(name)}`,
      );
    const outer = currentStep.getStore();
    if (outer !== undefined)
      throw new TypeError(`step "${name}" is inside step "${outer}"; a step cannot have steps of its own`);
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    return count === 1 ? name : `${name} #${count}`;
  }

  async #find(step: string, kind: StepKind): Promise<StoredStep | undefined> {
    this.#stored ??= this.#ask({ op: 'load' }).then(({ steps }) => new Map(Object.entries(steps)));
    const known = (await this.#stored).get(step);
    if (known && known.kind !== kind)
      throw new TypeError(
        `step "${step}" was stored as a ${known.kind} and is a ${kind} now; give steps names that stay when code changes`,
      );
    return known;
  }

  async #pause(step: string, kind: 'sleep' | 'wait', command: StepCommand): Promise<unknown> {
    const known = await this.#park.during(
      async () => (await this.#find(step, kind)) ?? (await this.#ask(command)).steps[step],
    );
    return known?.isPending ? this.#park.wait() : known?.value;
  }

  async #store(step: string, value: unknown): Promise<unknown> {
    const json = JSON.stringify(value) as string | undefined;
    const bytes = json === undefined ? 0 : Buffer.byteLength(json);
    if (bytes > STEP_RESULT_BYTES_MAX)
      throw new TypeError(
        `the result of step "${step}" has ${bytes} bytes as JSON; the limit is ${STEP_RESULT_BYTES_MAX}: store it elsewhere and return where it is`,
      );
    const answer = await this.#ask({ op: 'store', step, value });
    return answer.steps[step]?.value;
  }

  async #ask(command: StepCommand): Promise<StepAnswer> {
    const response = await this.#host.call(STEPS_TARGET, {
      method: 'POST',
      path: '/',
      headers: [],
      body: Buffer.from(JSON.stringify(command)),
      signal: undefined,
    });
    return (await response.json()) as StepAnswer;
  }
}

function parseSpan(time: string | number): number {
  const ms = tryParseSpan(time);
  if (ms === undefined) throw new TypeError(`"${time}" is not a time; write "30s", "2 days" or milliseconds`);
  return Math.round(ms);
}

function parseSleep(time: string | number | Date): { ms: number } | { untilMs: number } {
  if (!(time instanceof Date)) return { ms: parseSpan(time) };
  if (Number.isNaN(time.getTime())) throw new TypeError('the date to sleep until is not a date');
  return { untilMs: Math.max(0, time.getTime()) };
}

/** The same for an invocation that somebody waits for: steps are run and not stored, a sleep is a pause. */
export class DirectSteps {
  readonly #signal: () => AbortSignal;

  constructor(signal: () => AbortSignal) {
    this.#signal = signal;
  }

  async step<Value>(_name: string, run: () => Value | Promise<Value>): Promise<Value> {
    return run();
  }

  map = Steps.prototype.map;

  async sleep(time: string | number | Date): Promise<void> {
    const parsed = parseSleep(time);
    const ms = 'ms' in parsed ? parsed.ms : parsed.untilMs - Date.now();
    const signal = this.#signal();
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  async waitForEvent(event: string): Promise<never> {
    throw new TypeError(
      `waitForEvent("${event}") needs an asynchronous invocation (Prefer: respond-async); this one was called directly, and its caller waits`,
    );
  }
}
