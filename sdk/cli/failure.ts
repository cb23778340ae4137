/** How a command ends. Scripts rely on these numbers. */
export const ExitCode = {
  ok: 0,
  failed: 1,
  /** The command line was wrong; nothing was done. */
  usage: 2,
  /** The order was accepted, but the result is not (yet) what was asked for. */
  notConverged: 3,
  /** The platform did its part and the function failed. */
  functionError: 4,
  /** 128 + SIGINT, as shells count. */
  interrupted: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** A failure the CLI found itself. `message` says what is wrong, `hint` what to do next. */
export class CliFailure extends Error {
  override name = 'CliFailure';
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;

  constructor(message: string, options: { exitCode?: ExitCode; hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? ExitCode.failed;
    this.hint = options.hint;
  }
}

export function usage(message: string, hint?: string): CliFailure {
  return new CliFailure(message, { exitCode: ExitCode.usage, ...(hint === undefined ? {} : { hint }) });
}
