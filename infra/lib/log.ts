/**
 * JSON logs on stdout, one line an event, with the trace and span id of the active span when there is one.
 * Deliberately absent: pretty printing (the CLI does that) and files (the supervisor keeps them, bounded).
 */
import { isSpanContextValid, trace } from '@opentelemetry/api';
import pino, { type Logger, type LoggerOptions } from 'pino';

export type Log = Logger;

export function createLog(role: string, level: string): Log {
  const options: LoggerOptions = {
    level,
    base: { role, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { error: pino.stdSerializers.errWithCause },
    mixin() {
      const context = trace.getActiveSpan()?.spanContext();
      return context && isSpanContextValid(context)
        ? { traceId: context.traceId, spanId: context.spanId }
        : {};
    },
  };
  // Written at once: what is still to be written when a process ends, pino would write to a closed pipe for ever.
  return pino(options, pino.destination({ dest: 1, sync: true }));
}
