/**
 * console.* becomes LOG frames of the invocation in whose course it was called. What a function writes to
 * process.stdout or stderr itself is left alone: the runner reads those pipes as plain lines.
 */
import { Console } from 'node:console';
import { formatWithOptions } from 'node:util';
import type { GuestLog } from '../../protocol/invocation.ts';

export type LogSink = (level: GuestLog['level'], message: string) => void;

const LEVELS = { log: 'info', info: 'info', debug: 'debug', warn: 'warn', error: 'error' } as const;
const INDENT = 2;

function createStream(write: (text: string) => void): NodeJS.WritableStream {
  return { write, on() {}, once() {}, removeListener() {} } as unknown as NodeJS.WritableStream;
}

export function captureConsole(sink: LogSink): void {
  let indent = '';
  const emit = (level: GuestLog['level'], text: string): void => {
    sink(level, indent === '' ? text : indent + text.replaceAll('\n', `\n${indent}`));
  };
  // dir, table, count, time and the like format through a Console of the runtime's own.
  const inner = new Console({
    stdout: createStream((text) => emit('info', text.replace(/\n$/, ''))),
    stderr: createStream((text) => emit('error', text.replace(/\n$/, ''))),
    ignoreErrors: false,
  });
  const print = (level: GuestLog['level'], values: unknown[]): void => {
    emit(level, formatWithOptions({ colors: false }, ...values));
  };
  for (const [name, level] of Object.entries(LEVELS)) {
    (inner as unknown as Record<string, unknown>)[name] = (...values: unknown[]) => print(level, values);
  }
  inner.trace = (...values: unknown[]): void => {
    const holder = { name: 'Trace', message: formatWithOptions({}, ...values) };
    Error.captureStackTrace(holder, inner.trace);
    print('error', [(holder as { stack?: string }).stack ?? holder.message]);
  };
  inner.group = (...values: unknown[]): void => {
    if (values.length > 0) print('info', values);
    indent += ' '.repeat(INDENT);
  };
  inner.groupCollapsed = inner.group;
  inner.groupEnd = (): void => {
    indent = indent.slice(0, -INDENT);
  };
  // The object stays the same: modules may have kept it.
  for (const name of Object.keys(console) as (keyof Console)[]) {
    if (typeof inner[name] === 'function')
      (console as unknown as Record<string, unknown>)[name] = inner[name];
  }
}
