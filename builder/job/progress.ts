/**
 * The story of one build as BuildEvents: steps with their time, and log lines. Written behind the build's back, in
 * order: a build never waits for its own story, except at its end.
 */
import type { BuildStore } from '../../infra/catalog/builds.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { BuildEvent, BuildRecord, BuildStep } from '../../sdk/protocol/api.ts';
import { BUILD_LOG_LINES_KEPT, LOG_LINE_BYTES_MAX } from '../../sdk/protocol/limits.ts';

type Level = 'info' | 'warn' | 'error';

export class Progress {
  readonly #store: BuildStore;
  readonly #buildId: string;
  readonly #log: Log;
  /** Milliseconds of each step that ended. */
  readonly ms: Partial<Record<BuildStep, number>> = {};
  #written: Promise<void> = Promise.resolve();
  #lines = 0;

  constructor(store: BuildStore, buildId: string, log: Log) {
    this.#store = store;
    this.#buildId = buildId;
    this.#log = log;
  }

  /** Runs one step between its `start` and its `done` event; a step that throws has no `done`. */
  async step<Result>(
    step: BuildStep,
    run: () => Promise<Result>,
    describe?: (result: Result) => string,
  ): Promise<Result> {
    const started = performance.now();
    this.#append({ type: 'step', atMs: Date.now(), step, status: 'start' });
    const result = await run();
    const ms = Math.round((performance.now() - started) * 10) / 10;
    this.ms[step] = ms;
    const detail = describe?.(result);
    this.#append({
      type: 'step',
      atMs: Date.now(),
      step,
      status: 'done',
      ms,
      ...(detail === undefined ? {} : { detail }),
    });
    return result;
  }

  /** Long messages are cut; beyond the number of lines that are kept nothing is written. */
  log(level: Level, message: string): void {
    this.#lines++;
    if (this.#lines > BUILD_LOG_LINES_KEPT) return;
    const isLast = this.#lines === BUILD_LOG_LINES_KEPT;
    const text = isLast ? `further output is not kept; the limit is ${BUILD_LOG_LINES_KEPT} lines` : message;
    this.#append({ type: 'log', atMs: Date.now(), level, message: text.slice(0, LOG_LINE_BYTES_MAX) });
  }

  /** Writes the last event and waits until everything is written. */
  async end(build: BuildRecord): Promise<void> {
    this.#append({ type: 'end', atMs: Date.now(), build });
    await this.#written;
  }

  #append(event: BuildEvent): void {
    this.#written = this.#written.then(() =>
      this.#store.appendBuildEvent(this.#buildId, event).catch((error: unknown) => {
        this.#log.warn({ error, build: this.#buildId }, 'a build event could not be written');
      }),
    );
  }
}
