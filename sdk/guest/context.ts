/** The second argument of a handler. Everything that costs is made when it is first asked for. */
import type {
  EventWait,
  FunctionContext,
  FunctionLog,
  InvokeInit,
  LogFields,
  MapOptions,
} from '../protocol/context.ts';
import type { GuestLog, RequestHead } from '../protocol/invocation.ts';
import { fromInvokeInit } from './channel/call-init.ts';
import type { CallInit } from './channel/outgoing.ts';
import { DirectSteps, Steps } from './steps/steps.ts';

/** What a context needs of its invocation. */
export interface ContextSource {
  readonly head: RequestHead;
  readonly signal: AbortSignal;
  log(level: GuestLog['level'], message: string, fields?: LogFields): void;
  call(target: string, init: CallInit): Promise<Response>;
  waitUntil(promise: Promise<unknown>): void;
  /** Absent in an invocation that somebody waits for. */
  readonly steps: Steps | undefined;
}

/** The same for all invocations of this process. */
export interface FunctionIdentity {
  readonly functionName: string;
  readonly deployment: string;
  readonly env: NodeJS.ProcessEnv;
}

export class InvocationContext implements FunctionContext {
  readonly #source: ContextSource;
  readonly #identity: FunctionIdentity;

  constructor(source: ContextSource, identity: FunctionIdentity) {
    this.#source = source;
    this.#identity = identity;
  }

  get invocationId(): string {
    return this.#source.head.id;
  }

  get functionName(): string {
    return this.#identity.functionName;
  }

  get deployment(): string {
    return this.#identity.deployment;
  }

  get attempt(): number {
    return this.#source.head.attempt ?? 1;
  }

  get traceparent(): string | undefined {
    return this.#source.head.traceparent;
  }

  get deadline(): Date {
    return new Date(this.#source.head.deadlineMs);
  }

  remainingMs(): number {
    return Math.max(0, this.#source.head.deadlineMs - Date.now());
  }

  get signal(): AbortSignal {
    return this.#source.signal;
  }

  get env(): Readonly<Record<string, string | undefined>> {
    return this.#identity.env;
  }

  get log(): FunctionLog {
    const source = this.#source;
    return {
      debug: (message, fields) => source.log('debug', message, fields),
      info: (message, fields) => source.log('info', message, fields),
      warn: (message, fields) => source.log('warn', message, fields),
      error: (message, fields) => source.log('error', message, fields),
    };
  }

  get invoke(): (name: string, init?: InvokeInit) => Promise<Response> {
    return async (name, init = {}) => {
      const call = fromInvokeInit(init);
      const { steps } = this.#source;
      const isStep = steps !== undefined && !Steps.isInside() && !(call.body instanceof ReadableStream);
      return isStep ? steps.invoke(name, call) : this.#source.call(name, call);
    };
  }

  get #steps(): Steps | DirectSteps {
    return this.#source.steps ?? new DirectSteps(() => this.#source.signal);
  }

  get step(): <Value>(name: string, run: () => Value | Promise<Value>) => Promise<Value> {
    return (name, run) => this.#steps.step(name, run);
  }

  get map(): FunctionContext['map'] {
    return <Item, Value>(
      name: string,
      items: readonly Item[],
      run: (item: Item, index: number) => Value | Promise<Value>,
      options?: MapOptions,
    ) => this.#steps.map(name, items, run, options);
  }

  get sleep(): (time: string | number | Date, name?: string) => Promise<void> {
    return (time, name) => this.#steps.sleep(time, name);
  }

  get waitForEvent(): <Data = unknown>(name: string, options?: EventWait) => Promise<Data | undefined> {
    return <Data>(name: string, options?: EventWait) =>
      this.#steps.waitForEvent(name, options) as Promise<Data | undefined>;
  }

  // An arrow in a getter, so that `const { waitUntil } = ctx` works.
  get waitUntil(): (promise: Promise<unknown>) => void {
    return (promise) => this.#source.waitUntil(promise);
  }
}
