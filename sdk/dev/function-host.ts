/**
 * One function under development: builds it, keeps one generation of processes that serves it, and replaces that when
 * a file changes. Invariant: a request that comes after a change waits for the new code and never gets the old one;
 * code that does not build or load answers with its error until the next change.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { ERRORS, toSkiffError } from '../protocol/errors.ts';
import { Header } from '../protocol/http.ts';
import { parseCallTarget } from '../protocol/manifest.ts';
import { cleanStack, type Failure, statusOf, writeFailure } from './serve/answer.ts';
import { FunctionBundler } from './source/bundler.ts';
import type { DevListener } from './events.ts';
import { runExchange } from './serve/exchange.ts';
import { Generation } from './serve/generation.ts';
import { describeExit, type GuestProcess } from './serve/guest-process.ts';
import type { DevFunction } from './source/project.ts';
import { OutgoingCalls } from './serve/outgoing.ts';
import { createRequestHead } from './serve/request-head.ts';
import { type EnvSource, envFileOf, readSettings } from './source/settings.ts';
import type { Stems } from './serve/stems.ts';

export interface HostOptions {
  readonly fn: DevFunction;
  readonly cwd: string;
  /** For bundles; one folder for each generation. */
  readonly folder: string;
  readonly env: EnvSource;
  readonly stems: Stems;
  readonly hasColor: boolean;
  /** URL of another function of this server. */
  readonly urlOf: (name: string) => string | undefined;
  /** Under a debugger: no time-outs, one process. */
  readonly isInspected: boolean;
  readonly onEvent: DevListener;
}

type State = Generation | Failure;

interface RunningInvocation {
  readonly id: string;
  /** Of functions that called each other. */
  readonly depth: number;
}

const DEPLOYMENT = 'local';

export class FunctionHost {
  readonly fn: DevFunction;
  readonly #options: HostOptions;
  readonly #bundler: FunctionBundler;
  readonly #invocations = new Map<GuestProcess, Map<number, RunningInvocation>>();
  #state: Promise<State> = Promise.resolve({ cause: 'cold_start_failed', message: 'not built yet' });
  #count = 0;
  #hasFailed = false;

  constructor(options: HostOptions) {
    this.fn = options.fn;
    this.#options = options;
    this.#bundler = new FunctionBundler(options);
  }

  /** Whether a change of this file means other code or settings. After a failure anything might help. */
  concerns(path: string): boolean {
    const { fn, env } = this.#options;
    if (this.#bundler.inputs.has(path) || env.files.includes(path) || path === envFileOf(fn)) return true;
    const name = path.slice(path.lastIndexOf('/') + 1);
    const isSetup = name === 'package.json' || /^[tj]sconfig.*\.json$/.test(name);
    return (isSetup || this.#hasFailed) && path.startsWith(`${fn.root}/`);
  }

  /** Absolute paths of what the last bundle was made of. */
  get inputs(): string[] {
    return [...this.#bundler.inputs];
  }

  /** Resolves when the new code serves, or is known not to. */
  async reload(changed?: string): Promise<void> {
    const before = this.#state;
    this.#state = this.#replace(before, changed);
    await this.#state;
  }

  async handle(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const startedMs = performance.now();
    const { onEvent } = this.#options;
    const state = await this.#state;
    const id = `inv-${randomUUID()}`;
    const outcome =
      state instanceof Generation
        ? await this.#serve(state, request, response, path, id)
        : { failure: state };
    if (outcome.failure) writeFailure(request, response, outcome.failure, id);
    const status = outcome.failure ? statusOf(outcome.failure) : outcome.status;
    onEvent({
      type: 'request',
      fn: this.fn.name,
      method: request.method ?? 'GET',
      path,
      ms: performance.now() - startedMs,
      ...(status === undefined ? {} : { status }),
      ...(outcome.failure && state instanceof Generation
        ? { stack: outcome.failure.stack ?? outcome.failure.message }
        : {}),
    });
  }

  async close(): Promise<void> {
    const state = await this.#state;
    if (state instanceof Generation) await state.retire(true);
    await this.#bundler.close();
  }

  async #replace(before: Promise<State>, changed: string | undefined): Promise<State> {
    const startedMs = performance.now();
    // One at a time: changes that come quickly must not build into each other.
    const old = await before;
    const state = await this.#build(old).catch((error: unknown): Failure => {
      const { message } = toSkiffError(error);
      return { cause: 'cold_start_failed', message: error instanceof Error ? error.message : message };
    });
    if (old instanceof Generation) void old.retire(this.#options.isInspected);
    this.#hasFailed = !(state instanceof Generation);
    const { onEvent, fn } = this.#options;
    if (state instanceof Generation) {
      const ms = performance.now() - startedMs;
      onEvent({ type: 'live', fn: fn.name, ms, ...(changed === undefined ? {} : { changed }) });
    } else {
      onEvent({ type: 'failed', fn: fn.name, message: state.stack ?? state.message });
    }
    return state;
  }

  async #build(old: State): Promise<State> {
    const { fn, env, onEvent, isInspected } = this.#options;
    const folder = join(this.#options.folder, String(++this.#count));
    const [settings, built] = await Promise.all([readSettings(fn, env), this.#bundler.rebuild(folder)]);
    if (!built.ok) return { cause: 'cold_start_failed', message: built.message };
    for (const message of built.warnings) onEvent({ type: 'warning', fn: fn.name, message });
    // An inspector has one port, so that the old process must be gone first.
    if (isInspected && old instanceof Generation) await old.retire(true);
    const { runtime } = settings.config;
    if (!runtime.startsWith('node:')) {
      const message = `runtime "${runtime}" needs a sandbox here: skiff dev --sandbox`;
      return { cause: 'cold_start_failed', message };
    }
    const launch = (): Promise<GuestProcess> => this.#launch(built.entry, settings);
    const generation = new Generation({
      settings,
      folder,
      launch,
      ...(isInspected ? { processesMax: 1 } : {}),
    });
    const guest = await launch();
    generation.adopt(guest);
    return generation;
  }

  async #launch(entry: string, { config, env }: Generation['settings']): Promise<GuestProcess> {
    const { fn, stems, onEvent, isInspected } = this.#options;
    const guest = await stems.take(config.memory);
    const invocations = new Map<number, RunningInvocation>();
    this.#invocations.set(guest, invocations);
    const calls = new OutgoingCalls({
      caller: fn.name,
      calls: config.calls,
      urlOf: this.#options.urlOf,
      depthOf: (stream) => invocations.get(stream)?.depth,
      send: (type, stream, payload) => guest.send(type, stream, payload),
    });
    guest.listener = {
      onCallFrame: (frame) => calls.onFrame(frame),
      onSettled: (stream) => void invocations.delete(stream),
      onLog: (log, stream) => {
        const invocation = invocations.get(stream)?.id;
        onEvent({ type: 'log', fn: fn.name, log, ...(invocation === undefined ? {} : { invocation }) });
      },
      onOutput: (source, line) => onEvent({ type: 'output', fn: fn.name, source, line }),
    };
    void guest.exited.then(() => {
      calls.close();
      this.#invocations.delete(guest);
    });
    void guest.exited.then((exit) => {
      if (guest.wasStopped) return;
      const message = `the process ended (${describeExit(exit)}); the next request starts another`;
      onEvent({ type: 'warning', fn: fn.name, message });
    });
    if (isInspected) guest.openInspector();
    const result = await guest.load({
      functionName: fn.name,
      deployment: DEPLOYMENT,
      entry,
      env,
      concurrency: config.concurrency,
      memoryBytes: config.memory,
      calls: config.calls.map((text) => parseCallTarget(text).alias),
    });
    if (!isInspected) stems.refill(config.memory);
    if (result.ok) return guest;
    void guest.stop(0);
    throw new Error(cleanStack(result.stack ?? result.message ?? ERRORS.COLD_START_FAILED.summary));
  }

  async #serve(
    generation: Generation,
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    id: string,
  ): Promise<{ status?: number; failure?: Failure }> {
    const { config } = generation.settings;
    let instance;
    try {
      instance = await generation.acquire();
    } catch (error) {
      const { row, message } = toSkiffError(error);
      return {
        failure: {
          cause: row.cause ?? 'platform',
          message: row.fault === 'platform' ? message : (error as Error).message,
        },
      };
    }
    const startedMs = performance.now();
    const { guest } = instance;
    const depth = Number(request.headers[Header.callDepth] ?? 0) || 0;
    try {
      return await runExchange({
        guest,
        request,
        response,
        head: createRequestHead(request, path, id, config.timeout),
        clocks: this.#options.isInspected ? undefined : config,
        onStream: (stream) => void this.#invocations.get(guest)?.set(stream, { id, depth }),
        ownHeaders: () => ({
          [Header.invocationId]: id,
          [Header.deployment]: DEPLOYMENT,
          [Header.serverTiming]: `exec;dur=${(performance.now() - startedMs).toFixed(2)}`,
        }),
      });
    } finally {
      generation.release(instance);
    }
  }
}
