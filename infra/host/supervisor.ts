/**
 * The processes of one server as a whole: started in order, watched, stopped in the reverse order. Invariants: a
 * process starts only when those before it are ready; nothing of an earlier, killed server with the same data
 * folder runs beside it; `stop` leaves no process and no file that says the server runs.
 * Deliberately absent: containers. The runner owns them, and its shutdown and its start remove them.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerState } from '../contract/paths.ts';
import type { DataPaths } from './data-folder.ts';
import { LogFile } from './process/log-file.ts';
import { ManagedProcess, type ProcessObserver, type ProcessSpec } from './process/managed-process.ts';
import { endRecordedProcess } from './process/process-record.ts';

export interface ServerPlan {
  /** Redis and the registry: all must be ready before the roles start. */
  readonly backbone: readonly ProcessSpec[];
  /** In start order. */
  readonly roles: readonly ProcessSpec[];
  /** What server.json says besides the processes. */
  readonly state: Omit<ServerState, 'processes'>;
}

/** A long append-only file is read at some 100 MB a second. */
const BACKBONE_READY_MS_MAX = 120_000;
const ROLES_READY_MS_MAX = 60_000;
const READY_POLL_MS = 20;

export class Supervisor {
  readonly #plan: ServerPlan;
  readonly #paths: DataPaths;
  readonly #processes: ManagedProcess[];
  readonly #logs: LogFile[] = [];
  readonly #hostLog: LogFile;
  #isStopping = false;

  constructor(plan: ServerPlan, paths: DataPaths, observer: ProcessObserver) {
    this.#plan = plan;
    this.#paths = paths;
    this.#hostLog = this.#openLog('host');
    const watching: ProcessObserver = {
      onLine: (name, line) => observer.onLine(name, line),
      onDeath: (name, how, delayMs) => {
        this.#record('error', { name, how, delayMs }, 'process died');
        observer.onDeath(name, how, delayMs);
      },
      onStart: (name, pid) => {
        this.#record('info', { name, started: pid }, 'process started');
        this.#writeState();
        observer.onStart(name, pid);
      },
    };
    this.#processes = [...plan.backbone, ...plan.roles].map((spec) => {
      const log = this.#openLog(spec.name);
      return new ManagedProcess(spec, { log, recordFile: this.#recordFile(spec), observer: watching });
    });
  }

  /** Ends what a killed predecessor left running, callers before what they call. Returns how many there were. */
  async endLeftovers(): Promise<number> {
    let count = 0;
    for (const { spec } of this.#processes.toReversed()) {
      if ((await endRecordedProcess(this.#recordFile(spec), spec.stopMsMax)) !== undefined) count += 1;
    }
    return count;
  }

  /** Resolves when every process is ready; rejects with UNAVAILABLE and the reason when one will not be. */
  async start(): Promise<void> {
    const backboneSize = this.#plan.backbone.length;
    await this.#startAll(this.#processes.slice(0, backboneSize), BACKBONE_READY_MS_MAX);
    await this.#startAll(this.#processes.slice(backboneSize), ROLES_READY_MS_MAX);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#record('info', {}, 'stopping');
    rmSync(this.#paths.serverState, { force: true });
    for (const child of this.#processes.toReversed()) await child.stop();
    for (const log of this.#logs) log.close();
  }

  async #startAll(processes: readonly ManagedProcess[], readyMsMax: number): Promise<void> {
    for (const process of processes) process.start();
    const deadline = performance.now() + readyMsMax;
    for (;;) {
      // All of them each time: one that is ready is of no use when another keeps dying.
      for (const process of processes) process.assertViable();
      const states = await Promise.all(processes.map((process) => process.isReady()));
      const late = processes[states.indexOf(false)];
      if (!late) return;
      if (performance.now() > deadline) throw late.createNotReadyError(readyMsMax);
      await sleep(READY_POLL_MS);
    }
  }

  #openLog(name: string): LogFile {
    const log = new LogFile(join(this.#paths.log, `${name}.log`));
    this.#logs.push(log);
    return log;
  }

  #record(level: 'info' | 'error', fields: Record<string, unknown>, msg: string): void {
    const time = new Date().toISOString();
    this.#hostLog.write(JSON.stringify({ level, time, role: 'host', pid: process.pid, ...fields, msg }));
  }

  #recordFile(spec: ProcessSpec): string {
    return join(this.#paths.run, `${spec.name}.process.json`);
  }

  #writeState(): void {
    if (this.#isStopping) return;
    const running = this.#processes.filter((process) => process.pid !== undefined);
    const processes = Object.fromEntries(
      running.map((process) => [process.spec.name, process.pid as number]),
    );
    const state: ServerState = { ...this.#plan.state, processes };
    // Readers never see half of it.
    const draft = `${this.#paths.serverState}.draft`;
    writeFileSync(draft, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
    renameSync(draft, this.#paths.serverState);
  }
}
