/**
 * What a person who started the server sees: progress and trouble on stderr, results on stdout. All else is in
 * the log files. Deliberately absent: colours and redrawing; this output is as often read from a file.
 */
import type { ProcessObserver } from './process/managed-process.ts';

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

const CAUSES_SHOWN_MAX = 4;

interface LoggedError {
  readonly message?: string;
  readonly cause?: LoggedError;
}

interface LogRecord {
  readonly level?: string;
  readonly msg?: string;
  readonly error?: LoggedError;
  readonly runtime?: string;
  /** How far a long step is, such as the making of a base image. */
  readonly detail?: string;
}

/** From the error to what it came from. */
function describeCauses(error: LoggedError | undefined): string[] {
  const texts: string[] = [];
  for (let at = error; at?.message !== undefined && texts.length < CAUSES_SHOWN_MAX; at = at.cause)
    texts.push(at.message);
  return texts;
}

/**
 * What of a process's line belongs on the terminal; undefined: nothing. Lines that are no records of ours are
 * left to the log file: what Redis and the registry say, and stack traces, matter when the process dies.
 */
export function describeLine(name: string, line: string): string | undefined {
  if (!line.startsWith('{')) return undefined;
  let record: LogRecord;
  try {
    record = JSON.parse(line) as LogRecord;
  } catch {
    return undefined;
  }
  const isError = record.level === 'error' || record.level === 'fatal';
  if (!isError && record.detail === undefined) return undefined;
  const subject = record.runtime === undefined ? record.msg : `${record.msg} ${record.runtime}`;
  const text = [subject, record.detail, ...describeCauses(record.error)].filter(Boolean).join(': ');
  return `${name}: ${isError ? `${record.level}: ` : ''}${text}`;
}

const REPEAT_AFTER_MS = 10_000;
const REMEMBERED_TEXTS_MAX = 100;

/** Passes a text on only when it was not passed on a moment ago: one cause often fails a thousand requests. */
export function createRepeatFilter(now: () => number): (text: string) => boolean {
  const shownAt = new Map<string, number>();
  return (text) => {
    const last = shownAt.get(text);
    if (last !== undefined && now() - last < REPEAT_AFTER_MS) return false;
    if (shownAt.size >= REMEMBERED_TEXTS_MAX) shownAt.clear();
    shownAt.set(text, now());
    return true;
  };
}

export function createTerminalObserver(terminal: Terminal): ProcessObserver {
  const isNew = createRepeatFilter(() => performance.now());
  return {
    onLine(name, line) {
      const text = describeLine(name, line);
      if (text !== undefined && isNew(text)) terminal.note(text);
    },
    onStart() {},
    onDeath(name, how, delayMs) {
      terminal.note(`${name} ${how}; starting it again in ${delayMs} ms`);
    },
  };
}
