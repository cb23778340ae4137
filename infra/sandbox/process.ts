/**
 * Starting the runtime's process: it enters the stage, then the cgroups, then becomes the runtime, so the container
 * is bound by its limits from its first instruction. Resolves when the container's own program runs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type FSWatcher, readFileSync, readlinkSync, watch } from 'node:fs';
import { basename } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { runCommand, type RunFiles, type RuntimePaths, runtimeTraits, tryReadFailure } from './runtime.ts';

/** Paths and arguments travel as positional parameters, never inside the script. */
const JOIN_AND_EXEC = `
count=$1; shift
while [ "$count" -gt 0 ]; do echo 0 > "$1" || exit 125; shift; count=$((count - 1)); done
exec "$@"
`;
const START_MS_MAX = 10_000;
const LOOK_MS = 25;
/** Runtimes run their first steps from a sealed copy of themselves: in memory, or a bind mount that is gone already. */
const RUNTIME_COPY = /^\/(?:memfd:.*)?$/;

export interface RuntimeProcess {
  /** The runtime; its exit is the container's exit. */
  readonly child: ChildProcess;
  /** Container init, on the host. */
  readonly pid: number;
  readonly stdout: Readable;
  readonly stderr: Readable;
}

export interface StartInput {
  readonly id: string;
  readonly enter: readonly string[];
  readonly joinFiles: readonly string[];
  readonly runtime: RuntimePaths;
  readonly files: RunFiles;
  readonly hasNetwork: boolean;
}

/** Rejects with SkiffError COLD_START_FAILED; the caller cleans up whatever the runtime left. */
export async function startRuntime(input: StartInput): Promise<RuntimeProcess> {
  const { enter, joinFiles, files } = input;
  const command = runCommand(input.runtime, input.id, files, input);
  const shell = ['/bin/sh', '-c', JOIN_AND_EXEC, 'skiff', String(joinFiles.length), ...joinFiles];
  const [program, ...args] = [...enter, ...shell, ...command] as [string, ...string[]];
  using pidFile = new PidFileWatch(files);
  // Detached: a Ctrl-C at the terminal is for the server, which then ends its sandboxes in order.
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
    detached: true,
  });
  const [stdout, stderr] = [keepOutput(child.stdout), keepOutput(child.stderr)];
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (error) => reject(startFailure(files, error.message)));
    child.once('exit', (code, signal) => {
      // A program that ends at once may have come and gone before the file was noticed.
      const pid = tryReadFailure(files) === undefined ? tryReadPid(files) : undefined;
      if (pid === undefined) reject(startFailure(files, `exit ${code ?? signal}`));
      else resolve(pid);
    });
  });
  try {
    const pid = await Promise.race([pidFile.found, ended]);
    if (!runtimeTraits(input.runtime.program).staysRuntime) await waitForProgram(pid, child, files);
    return { child, pid, stdout, stderr };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

/**
 * What the container says, kept until somebody reads it, as much as a pipe holds. Node throws away what a child's own
 * streams have when it exits and nobody listens yet, and closes them: the last words of a program that ends while it is
 * being launched, and whoever waits for the end of its output would wait for ever.
 */
function keepOutput(stream: Readable): Readable {
  const kept = stream.pipe(new PassThrough());
  // The sandbox's end is seen elsewhere: a broken pipe is no news, but ends nothing by itself.
  stream.on('error', () => {}).once('close', () => kept.end());
  return kept;
}

/** Waits for the runtime's pid file. The kernel tells of it at once; looking now and then covers a notice that was lost. */
class PidFileWatch implements Disposable {
  readonly found: Promise<number>;
  readonly #timer: NodeJS.Timeout;
  readonly #watcher: FSWatcher | undefined;

  constructor(files: RunFiles) {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.found = promise;
    const deadline = performance.now() + START_MS_MAX;
    const look = (): void => {
      const pid = tryReadPid(files);
      if (pid !== undefined) resolve(pid);
      else if (performance.now() > deadline)
        reject(startFailure(files, `no process within ${START_MS_MAX} ms`));
    };
    this.#timer = setInterval(look, LOOK_MS);
    this.#watcher = tryWatch(files.bundle, (name) => {
      if (name === basename(files.pidFile)) look();
    });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
  }
}

/** Undefined when the kernel has no watches left for us. */
function tryWatch(folder: string, onChange: (name: string | null) => void): FSWatcher | undefined {
  try {
    const watcher = watch(folder, (_event, name) => onChange(name));
    watcher.on('error', () => {});
    return watcher;
  } catch {
    return undefined;
  }
}

function tryReadPid(files: RunFiles): number | undefined {
  try {
    const text = readFileSync(files.pidFile, 'utf8');
    return /^\d+/.test(text) ? Number.parseInt(text, 10) : undefined;
  } catch {
    return undefined;
  }
}

/** The runtime reports the pid around the moment of exec; until then the process still is the runtime itself. */
async function waitForProgram(pid: number, child: ChildProcess, files: RunFiles): Promise<void> {
  const deadline = performance.now() + START_MS_MAX;
  const runtimeProgram = tryReadProgram(child.pid as number);
  const isRuntime = (program: string | undefined): boolean =>
    program !== undefined && (program === runtimeProgram || RUNTIME_COPY.test(program));
  while (isRuntime(tryReadProgram(pid))) {
    if (performance.now() > deadline) throw startFailure(files, 'the program was not executed in time');
    // Not a busy loop: this event loop carries other sandboxes' calls.
    await delay(1);
  }
  const failure = tryReadFailure(files);
  if (failure !== undefined && child.exitCode !== null) throw startFailure(files, `exit ${child.exitCode}`);
}

function tryReadProgram(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

function startFailure(files: RunFiles, how: string): SkiffError {
  const detail = tryReadFailure(files) ?? how;
  return new SkiffError('COLD_START_FAILED', `the container runtime could not start the sandbox: ${detail}`);
}
