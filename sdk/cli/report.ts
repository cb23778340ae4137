/** Says what went wrong and what to do next, and decides how the process ends. */
import { ClientError } from '../client/index.ts';
import { adminTokenPath, isLoopback } from './connection/local-server.ts';
import { chooseServer } from './connection/server.ts';
import { SkiffError } from '../protocol/errors.ts';
import { CliFailure, ExitCode } from './failure.ts';
import type { Session } from './session.ts';

interface Report {
  readonly message: string;
  readonly hint?: string | undefined;
  readonly exitCode: ExitCode;
}

/** Prints the error on stderr and returns the exit code. */
export function reportError(error: unknown, session: Session): ExitCode {
  if (session.signal.aborted) return ExitCode.interrupted;
  if (isCommanderError(error)) {
    // Commander has printed its own text. Its "errors" with status 0 are --help and --version.
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  const { message, hint, exitCode } = describe(error, session);
  const { err } = session.output;
  // The bundler's own mark for an error; ours stands there already.
  const [first = '', ...rest] = message
    .trimEnd()
    .replace(/^✘ \[ERROR\] /, '')
    .split('\n');
  err.line(`${err.style('red', 'error:')} ${first}`);
  for (const line of rest) err.line(line);
  if (hint !== undefined) err.line(`${err.style('cyan', 'hint:')} ${hint}`);
  return exitCode;
}

function describe(error: unknown, session: Session): Report {
  if (error instanceof CliFailure)
    return { message: error.message, hint: error.hint, exitCode: error.exitCode };
  if (error instanceof ClientError) return describeClientError(error, session);
  if (error instanceof SkiffError) return { message: error.message, exitCode: ExitCode.usage };
  const bug = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    message: `unexpected: ${bug}`,
    hint: 'this is a bug of the skiff command',
    exitCode: ExitCode.failed,
  };
}

function describeClientError(error: ClientError, session: Session): Report {
  const where = error.invocationId ?? error.requestId;
  const message = where === undefined ? error.detail : `${error.detail} (${where})`;
  const exitCode = exitCodeOf(error);
  return { message, hint: hintFor(error, session), exitCode };
}

function exitCodeOf(error: ClientError): ExitCode {
  if (error.code === 'COLD_START_FAILED') return ExitCode.notConverged;
  if (error.failure !== undefined && error.fault === 'function') return ExitCode.functionError;
  if (error.code === 'INVALID_NAME' || error.code === 'INVALID_CONFIG') return ExitCode.usage;
  return ExitCode.failed;
}

function hintFor(error: ClientError, session: Session): string | undefined {
  const server = chooseServer(session);
  switch (error.code) {
    case 'UNREACHABLE':
      return isLoopback(server.url)
        ? 'is the server running? start it with: npm start (or: skiff server)'
        : `is ${server.url} right? it comes from ${server.origin}`;
    case 'BAD_RESPONSE':
      return `is ${server.url} a Skiff server? it comes from ${server.origin}`;
    case 'UNAUTHENTICATED':
      if (server.token !== undefined)
        return 'the token is not known to the server; sign in again: skiff login <url>';
      return isLoopback(server.url)
        ? `be root, so that ${adminTokenPath(session.env)} can be read, or set SKIFF_TOKEN`
        : `sign in: skiff login ${server.url}`;
    case 'FORBIDDEN':
      return 'an admin makes a token that may: skiff token create <name> --scope deploy';
    case 'OVERLOADED':
    case 'QUEUE_EXPIRED':
    case 'UNAVAILABLE':
      return 'it may pass: try again in a moment';
    case 'COLD_START_FAILED':
      return 'the deployment before it still serves; nothing was changed';
    default:
      return undefined;
  }
}

interface CommanderFailure {
  readonly code: string;
  readonly exitCode: number;
}

function isCommanderError(error: unknown): error is CommanderFailure {
  return (
    error instanceof Error &&
    'exitCode' in error &&
    String((error as { code?: unknown }).code).startsWith('commander.')
  );
}
