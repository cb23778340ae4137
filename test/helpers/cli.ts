/** The real `skiff` command as a process, with a home folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { openTerminal, type Terminal } from './terminal.ts';

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to standard input, which is then closed. */
  readonly input?: string | Uint8Array;
}

export interface RunningCli {
  readonly process: ChildProcess;
  stdout(): string;
  stderr(): string;
  readonly ended: Promise<CliResult>;
}

export interface TestCli {
  /** Home folder, also the working folder unless told otherwise. */
  readonly home: string;
  run(args: readonly string[], options?: CliOptions): Promise<CliResult>;
  start(args: readonly string[], options?: CliOptions): RunningCli;
  /** In a pseudo-terminal of 100 columns; `lines` is what is left on the screen, without colours. */
  runInTerminal(
    args: readonly string[],
    options?: CliOptions,
  ): Promise<{ code: number | null; lines: string[]; raw: string }>;
  /** The same, to be watched and typed into while it runs. */
  openTerminal(args: readonly string[], options?: CliOptions & { columns?: number; rows?: number }): Terminal;
  /** Ends what still runs and removes the home folder. */
  close(): Promise<void>;
}

/** A line that is redrawn in place shows only its last state. */
function shownText(raw: string): string {
  return raw
    .replaceAll('\r\n', '\n')
    .split('\n')
    .map((line) => line.slice(line.lastIndexOf('\r') + 1))
    .join('\n');
}

const PROGRAM = new URL('../../sdk/cli/skiff', import.meta.url).pathname;
/** Shared by all runs, as a user's own is: a fresh one would double the time of every command. */
const COMPILE_CACHE = new URL('../../node_modules/.cache/skiff-cli', import.meta.url).pathname;
/** A first deploy of a runtime assembles its base image, which a busy machine takes a while for. */
const RUN_MS_MAX = 120_000;

/** `env` is what every run gets; nothing of the test's own SKIFF_* settings is inherited. */
export async function createCli(env: Readonly<Record<string, string>> = {}): Promise<TestCli> {
  const home = await mkdtemp(join(tmpdir(), 'skiff-cli-'));
  const running = new Set<ChildProcess>();

  const terminals = new Set<Terminal>();
  const envOf = (options: CliOptions): Record<string, string> => ({
    PATH: '/usr/bin:/bin',
    HOME: home,
    NODE_COMPILE_CACHE: COMPILE_CACHE,
    SKIFF_DATA_DIR: join(home, 'data'),
    ...env,
    ...options.env,
  });
  const start = (args: readonly string[], options?: CliOptions) => startProgram(PROGRAM, args, options);

  function startProgram(program: string, args: readonly string[], options: CliOptions = {}): RunningCli {
    const child = spawn(program, args, {
      cwd: options.cwd ?? home,
      env: envOf(options),
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: RUN_MS_MAX,
    });
    running.add(child);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
    // A command that does not read its input may end before it has all of it.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
    const ended = once(child, 'close').then(([code]) => {
      running.delete(child);
      return { code: code as number | null, stdout, stderr };
    });
    return { process: child, stdout: () => stdout, stderr: () => stderr, ended };
  }

  return {
    home,
    start,
    run: (args, options) => start(args, options).ended,
    async runInTerminal(args, options) {
      const command = [PROGRAM, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ');
      const quiet = ['--quiet', '--return', '--command', `stty cols 100; ${command}`, '/dev/null'];
      const { code, stdout } = await startProgram('script', quiet, options).ended;
      return { code, raw: stdout, lines: stripVTControlCharacters(shownText(stdout)).split('\n') };
    },
    openTerminal(args, options = {}) {
      const { columns = 100, rows = 40 } = options;
      const cwd = options.cwd ?? home;
      const terminal = openTerminal([PROGRAM, ...args], { cwd, env: envOf(options), columns, rows });
      terminals.add(terminal);
      return terminal;
    },
    async close() {
      for (const terminal of terminals) await terminal.kill();
      const ends = [...running].map((child) => once(child, 'close'));
      for (const child of running) child.kill('SIGKILL');
      await Promise.all(ends);
      await rm(home, { recursive: true, force: true });
    },
  };
}
