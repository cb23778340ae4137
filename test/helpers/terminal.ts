/**
 * A pseudo-terminal (util-linux `script`) with one program in it, as a person has it: keys go in, what the screen would
 * show comes out, Ctrl-C reaches whatever is in the foreground.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stripVTControlCharacters } from 'node:util';
import { waitFor } from './wait.ts';

export interface TerminalOptions {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly columns?: number;
  readonly rows?: number;
}

export interface Terminal {
  /** Everything that was written, with control sequences. */
  raw(): string;
  /** The same without them. */
  text(): string;
  type(keys: string): void;
  /** Ctrl-C; resolves to the exit code. */
  interrupt(): Promise<number | null>;
  /** Waits until the text matches, and returns the match. */
  shows(pattern: RegExp, msMax?: number): Promise<RegExpExecArray>;
  readonly pid: number;
  readonly ended: Promise<number | null>;
  kill(): Promise<void>;
}

const CTRL_C = '\u0003';
const SHOW_MS_MAX = 30_000;

export function openTerminal(program: readonly string[], options: TerminalOptions): Terminal {
  const { columns = 100, rows = 40, cwd, env } = options;
  const quoted = program.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const command = `stty cols ${columns} rows ${rows}; exec ${quoted}`;
  const child = spawn('script', ['--quiet', '--flush', '--return', '--command', command, '/dev/null'], {
    cwd,
    env: { PATH: '/usr/bin:/bin', TERM: 'xterm-256color', SHELL: '/bin/sh', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let raw = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (raw += chunk));
  child.stdin.on('error', () => {});
  const ended = once(child, 'close').then(([code]) => code as number | null);
  const text = (): string => stripVTControlCharacters(raw).replaceAll('\r\n', '\n');
  return {
    raw: () => raw,
    text,
    type: (keys) => void child.stdin.write(keys),
    interrupt() {
      child.stdin.write(CTRL_C);
      return ended;
    },
    async shows(pattern, msMax = SHOW_MS_MAX) {
      try {
        return await waitFor(String(pattern), () => pattern.exec(text()) ?? undefined, msMax);
      } catch (error) {
        throw new Error(`the terminal shows:\n${text().slice(-2_000)}`, { cause: error });
      }
    },
    pid: child.pid as number,
    ended,
    async kill() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await ended;
    },
  };
}
