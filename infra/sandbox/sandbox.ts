/** One live sandbox: signals, limits, usage, and the end, after which nothing of it is left on the host. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import type { Log } from '../lib/log.ts';
import type { Cgroup, CgroupLimits } from './cgroup/cgroup.ts';
import type { Sandbox, SandboxExit, SandboxUsage } from './contract.ts';
import type { RuntimeProcess } from './process.ts';

export interface SandboxParts {
  readonly id: string;
  readonly uid: number;
  readonly process: RuntimeProcess;
  readonly cgroup: Cgroup;
  /** Gives back everything that was taken for this sandbox. */
  readonly resources: AsyncDisposableStack;
  readonly log: Log;
}

export class RunningSandbox implements Sandbox {
  readonly id: string;
  readonly uid: number;
  readonly pid: number;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<SandboxExit>;
  readonly #cgroup: Cgroup;
  readonly #log: Log;
  #isKilled = false;
  #isEnded = false;

  constructor(parts: SandboxParts) {
    this.id = parts.id;
    this.uid = parts.uid;
    this.pid = parts.process.pid;
    this.stdout = parts.process.stdout;
    this.stderr = parts.process.stderr;
    this.#cgroup = parts.cgroup;
    this.#log = parts.log;
    this.exited = this.#waitForEnd(parts);
  }

  async #waitForEnd(parts: SandboxParts): Promise<SandboxExit> {
    const { child } = parts.process;
    const isOver = child.exitCode !== null || child.signalCode !== null;
    if (!isOver) await new Promise<void>((resolve) => child.once('exit', () => resolve()));
    this.#isEnded = true;
    const exit = {
      ...(child.exitCode === null ? {} : { code: child.exitCode }),
      outOfMemory: this.#cgroup.ranOutOfMemory(this.#isKilled ? undefined : (child.exitCode ?? undefined)),
      killed: this.#isKilled,
    };
    try {
      await parts.resources.disposeAsync();
    } catch (error) {
      // The next reap() takes what is left; the caller can do nothing about it.
      this.#log.error({ error, sandbox: this.id }, 'sandbox could not be removed completely');
    }
    return exit;
  }

  async setLimits(limits: CgroupLimits): Promise<void> {
    this.#cgroup.setLimits(limits);
  }

  freeze(): Promise<void> {
    return this.#cgroup.freeze();
  }

  async thaw(): Promise<void> {
    this.#cgroup.thaw();
  }

  async usage(): Promise<SandboxUsage> {
    return this.#cgroup.usage();
  }

  terminate(graceMs: number): void {
    if (this.#isEnded || this.#isKilled) return;
    if (!this.#cgroup.pids().includes(this.pid) || !handlesSigterm(this.pid)) return this.kill();
    this.#cgroup.thaw();
    process.kill(this.pid, 'SIGTERM');
    const timer = setTimeout(() => this.kill(), graceMs);
    void this.exited.then(() => clearTimeout(timer));
  }

  kill(): void {
    if (this.#isEnded) return;
    this.#isKilled = true;
    // Only a pid that is still in our cgroup is ours: the number may have a new owner.
    if (this.#cgroup.pids().includes(this.pid)) process.kill(this.pid, 'SIGKILL');
    // After the signal, so that a frozen process does not run one more instruction.
    this.#cgroup.thaw();
  }
}

/** The first process of a pid namespace is not ended by a signal that it does not handle (pid_namespaces(7)). */
function handlesSigterm(pid: number): boolean {
  const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(tryRead(`/proc/${pid}/status`))?.[1] ?? '0';
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals.SIGTERM - 1)) & 1n) === 1n;
}

function tryRead(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
