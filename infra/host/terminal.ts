/**
 * What a person who started the server sees: progress and trouble on stderr, results on stdout. All else is in
 * the log files. Deliberately absent: colours and redrawing; this output is as often read from a file.
 */
import type { ProcessObserver } from './managed-process.ts';

export interface Terminal {
  /** A step that takes time, or trouble. */
  note(text: string): void;
  /** A result. */
  print(text: string): void;
}

export function createTerminal(out: NodeJS.WritableStream, err: NodeJS.WritableStream): Terminal {
  // A reader that went away is no reason to end the server.
  out.on('error', () => {});
  err.on('error', () => {});
  return {
    note: (text) => void err.write(`skiff: ${text}\n`),
    print: (text) => void out.write(`${text}\n`),
  };
}

/** Backbone servers are chatty; what they say matters only when they die, and then it is in the error. */
const QUIET = new Set(['redis', 'redis-fast', 'registry']);

interface LogRecord {
  readonly level?: string;
  readonly msg?: string;
  readonly error?: { readonly message?: string };
  /** Set by a role on a record that tells how far a long step is. */
  readonly progress?: unknown;
}

/** What of a process's line belongs on the terminal; undefined: nothing. */
export function describeLine(name: string, line: string): string | undefined {
  if (QUIET.has(name)) return undefined;
  let record: LogRecord;
  try {
    record = JSON.parse(line) as LogRecord;
  } catch {
    return `${name}: ${line}`;
  }
  const cause = record.error?.message;
  const text = [record.msg, cause].filter((part) => part !== undefined && part !== '').join(': ');
  if (record.level === 'error' || record.level === 'fatal') return `${name}: ${record.level}: ${text}`;
  return record.progress === undefined ? undefined : `${name}: ${text}`;
}

export function createTerminalObserver(terminal: Terminal): ProcessObserver {
  return {
    onLine(name, line) {
      const text = describeLine(name, line);
      if (text !== undefined) terminal.note(text);
    },
    onStart() {},
    onDeath(name, how, delayMs) {
      terminal.note(`${name} ${how}; starting it again in ${delayMs} ms`);
    },
  };
}
