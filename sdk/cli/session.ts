/** What a command is given: the world outside, made by main.ts and by tests. Commands read nothing else. */
import type { ExitCode } from './failure.ts';
import type { Output } from './output/channel.ts';

export interface GlobalOptions {
  readonly url?: string;
  readonly token?: string;
  readonly context?: string;
}

export interface Session {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdin: NodeJS.ReadStream;
  readonly output: Output;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Filled in once the command line is parsed. */
  globals: GlobalOptions;
  /** Set by a command that did its work and still has bad news. */
  exitCode: ExitCode;
}
