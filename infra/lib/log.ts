/**
 * JSON logs on stdout, one line an event, with the trace and span id of the active span when there is one.
 * Deliberately absent: pretty printing (the CLI does that) and files (the supervisor keeps them, bounded).
 */
import { isSpanContextValid, trace } from '@opentelemetry/api';
import pino, { type Logger } from 'pino';

export type Log = Logger;

export function createLog(role: string, level: string): Log {
  return pino({
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
  });
}
