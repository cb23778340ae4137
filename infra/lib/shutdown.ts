/**
 * Orderly end of a process: SIGINT and SIGTERM run the registered steps, newest first, each with a time limit, and all
 * together within twice that: when what the steps need is gone too, each would wait for it to its own end.
 * A second signal ends at once.
 */
import type { Log } from './log.ts';

export class Shutdown {
  readonly #steps: { name: string; run: () => Promise<unknown> | unknown }[] = [];
  readonly #log: Log;
  readonly #stepMsMax: number;
  #isRunning = false;

  constructor(log: Log, stepMsMax = 10_000) {
    this.#log = log;
    this.#stepMsMax = stepMsMax;
  }

  /** Registers a step; later ones run first, as they stand on earlier ones. */
  add(name: string, run: () => Promise<unknown> | unknown): void {
    this.#steps.push({ name, run });
  }

  /** Runs all steps. A step that fails or takes too long is logged and does not stop the others. */
  async run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    const endAt = performance.now() + 2 * this.#stepMsMax;
    for (const step of this.#steps.reverse()) {
      let timer: NodeJS.Timeout | undefined;
      const ms = Math.round(Math.max(0, Math.min(this.#stepMsMax, endAt - performance.now())));
      const limit = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`took longer than ${ms} ms`)), ms);
      });
      try {
        await Promise.race([Promise.resolve(step.run()), limit]);
      } catch (error) {
        this.#log.warn({ error, step: step.name }, 'shutdown step failed');
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /** Called by main.ts only: ends the process, which cannot do its work. */
  fail(problem: string): void {
    if (this.#isRunning) return;
    this.#log.error({ problem }, 'this process cannot go on');
    void this.run().then(() => process.exit(1));
  }

  /** Called by main.ts only: binds the signals and ends the process. */
  onSignals(process: NodeJS.Process): void {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (this.#isRunning) process.exit(1);
        this.#log.info({ signal }, 'stopping');
        void this.run().then(() => process.exit(0));
      });
    }
  }
}
