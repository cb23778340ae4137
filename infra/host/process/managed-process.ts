/**
 * One process of the server, kept running: started, watched, started again with growing pauses when it dies, and
 * ended in order. Invariants: at most one is alive at a time; it ends when this supervisor ends, even by kill -9
 * (the kernel's parent-death signal, set by setpriv); after `stop` its whole process group is gone.
 * Deliberately absent: what the processes are (backbone.ts, roles.ts) and their order (supervisor.ts).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { RESTART_DELAY_MS_MAX, RESTART_HEALTHY_MS } from '../../../sdk/protocol/limits.ts';
import { splitLines } from './line-splitter.ts';
import type { LogFile } from './log-file.ts';
import { killGroup, writeProcessRecord } from './process-record.ts';

export interface ProcessSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Whether it can be used. Absent: as soon as it runs, or has said so. */
  readonly isReady?: () => Promise<boolean>;
  /** What it says when it can be used. */
  readonly readyLine?: RegExp;
  /** From SIGTERM to SIGKILL. */
  readonly stopMsMax: number;
}

export interface ProcessObserver {
  onLine(name: string, line: string): void;
  onStart(name: string, pid: number): void;
  /** It ended although nobody asked; it is started again after `delayMs`. `how` includes its last words. */
  onDeath(name: string, how: string, delayMs: number): void;
}

const RESTART_DELAY_MS_MIN = 100;
/** A process that dies this often before it ever worked will not work the next time either. */
const DEATHS_AT_START_MAX = 5;
/** A process outside of the group may hold the pipe open: its lines are not waited for. */
const OUTPUT_END_MS_MAX = 500;
const LAST_LINES_KEPT = 15;
const LAST_WORDS_LENGTH_MAX = 300;

export class ManagedProcess {
  readonly spec: ProcessSpec;
  readonly #log: LogFile;
  readonly #recordFile: string;
  readonly #observer: ProcessObserver;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #outputEnded: Promise<unknown> = Promise.resolve();
  #restart: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #deaths = 0;
  #isStopping = false;
  #hasSaidReady = false;
  #lastLines: string[] = [];

  constructor(spec: ProcessSpec, parts: { log: LogFile; recordFile: string; observer: ProcessObserver }) {
    this.spec = spec;
    this.#log = parts.log;
    this.#recordFile = parts.recordFile;
    this.#observer = parts.observer;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts it and keeps it running. Does not wait until it is ready. */
  start(): void {
    if (!this.#isStopping) this.#spawn();
  }

  async isReady(): Promise<boolean> {
    return this.#child !== undefined && this.#hasSaidReady && (await (this.spec.isReady?.() ?? true));
  }

  createNotReadyError(waitedMs: number): SkiffError {
    return new SkiffError(
      'UNAVAILABLE',
      `${this.spec.name} is not ready after ${waitedMs} ms${this.#describeLastLines()}`,
    );
  }

  /** Throws UNAVAILABLE when it has died so often since its last healthy run that waiting is pointless. */
  assertViable(): void {
    if (this.#isStopping) throw new SkiffError('UNAVAILABLE', `${this.spec.name} is being stopped`);
    if (this.#deaths < DEATHS_AT_START_MAX) return;
    throw new SkiffError(
      'UNAVAILABLE',
      `${this.spec.name} ended ${this.#deaths} times in a row${this.#describeLastLines()}`,
    );
  }

  /** SIGTERM, SIGKILL after the grace, then the rest of its group. Resolves when it is gone. Idempotent. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child?.pid !== undefined) {
      const { pid } = child;
      child.kill('SIGTERM');
      const hardKill = setTimeout(() => killGroup(pid), this.spec.stopMsMax);
      await this.#ended;
      clearTimeout(hardKill);
      killGroup(pid);
      await Promise.race([this.#outputEnded, sleep(OUTPUT_END_MS_MAX)]);
    }
    rmSync(this.#recordFile, { force: true });
  }

  #spawn(): void {
    const { command, args, env, cwd, name } = this.spec;
    // In a session of its own: Ctrl-C at the terminal reaches the supervisor alone, which keeps the order.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', command, ...args], {
      detached: true,
      env: { ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(cwd === undefined ? {} : { cwd }),
    });
    this.#child = child;
    this.#lastLines = [];
    this.#hasSaidReady = this.spec.readyLine === undefined;
    this.#startedAt = performance.now();
    splitLines(child.stdout, (line) => this.#onLine(line));
    splitLines(child.stderr, (line) => this.#onLine(line));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    this.#outputEnded = once(child, 'close').catch(() => {});
    const onEnd = (how: string) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      resolve();
      this.#onEnd(how);
    };
    child.on('error', (error) => onEnd(`could not be started: ${error.message}`));
    child.on('exit', (code, signal) => onEnd(signal ? `was ended by ${signal}` : `ended with code ${code}`));
    if (child.pid !== undefined) {
      writeProcessRecord(this.#recordFile, child.pid);
      this.#observer.onStart(name, child.pid);
    }
  }

  #onLine(line: string): void {
    this.#log.write(line);
    this.#hasSaidReady ||= this.spec.readyLine?.test(line) === true;
    this.#lastLines.push(line);
    if (this.#lastLines.length > LAST_LINES_KEPT) this.#lastLines.shift();
    this.#observer.onLine(this.spec.name, line);
  }

  #onEnd(how: string): void {
    if (this.#isStopping) return;
    const wasHealthy = performance.now() - this.#startedAt > RESTART_HEALTHY_MS;
    this.#deaths = wasHealthy ? 1 : this.#deaths + 1;
    const delayMs = Math.min(RESTART_DELAY_MS_MAX, RESTART_DELAY_MS_MIN * 2 ** (this.#deaths - 1));
    this.#observer.onDeath(this.spec.name, `${how}${this.#describeLastWords()}`, delayMs);
    this.#restart = setTimeout(() => this.#spawn(), delayMs);
  }

  /** The line that names the error, if one does: stack traces end with anything but. */
  #describeLastWords(): string {
    const words =
      this.#lastLines.findLast((line) => /error|fatal|panic/i.test(line)) ?? this.#lastLines.at(-1);
    return words === undefined ? '' : ` (${words.trim().slice(0, LAST_WORDS_LENGTH_MAX)})`;
  }

  #describeLastLines(): string {
    if (this.#lastLines.length === 0) return `; it said nothing; more in ${this.#log.path}`;
    return `; its last lines (more in ${this.#log.path}):\n  ${this.#lastLines.join('\n  ')}`;
  }
}
