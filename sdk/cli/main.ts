/**
 * The `skiff` command (started by the file `skiff` beside this one).
 *
 * Owns: the process: arguments, environment, streams, signals, exit code. Invariant: results go to stdout, words
 * for people to stderr, so that every command can be piped. Start-up counts: a command's file and what it needs is
 * loaded only when that command runs. Deliberately absent: any request to a server but through sdk/client.
 */
import { ExitCode } from './failure.ts';
import { createOutput } from './output/channel.ts';
import { createFullProgram, createProgram } from './program.ts';
import { reportError } from './report.ts';
import type { Session } from './session.ts';

// It is for this process; a server started from here must not share a cache folder of the user.
const { NODE_COMPILE_CACHE: _, ...env } = process.env;

const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (interruption.signal.aborted) process.exit(ExitCode.interrupted);
    interruption.abort(new Error(`stopped by ${signal}`));
  });
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // The reader has seen enough, as in `skiff logs hello | head`.
    if (error.code === 'EPIPE') process.exit(ExitCode.ok);
    throw error;
  });
}

const session: Session = {
  env,
  cwd: process.cwd(),
  stdin: process.stdin,
  output: createOutput(process.stdout, process.stderr, env),
  signal: interruption.signal,
  globals: {},
  exitCode: ExitCode.ok,
};

async function run(): Promise<void> {
  if (args[0] === 'complete') {
    const { printCandidates } = await import('./completion.ts');
    return printCandidates(await createFullProgram(session), args.slice(1), session);
  }
  const program = await createProgram(session, args);
  if (args.length === 0) program.outputHelp();
  else await program.parseAsync(args, { from: 'user' });
}

const args = process.argv.slice(2);
let exitCode: ExitCode;
try {
  await run();
  exitCode = session.signal.aborted ? ExitCode.interrupted : session.exitCode;
} catch (error) {
  exitCode = reportError(error, session);
}
process.exit(exitCode);
