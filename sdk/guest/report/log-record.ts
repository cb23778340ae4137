/** Log records as they travel in LOG frames: bounded in size, never failing on what a user logs. */
import type { GuestLog } from '../../protocol/invocation.ts';
import { LOG_LINE_BYTES_MAX } from '../../protocol/limits.ts';

export type LogFields = Readonly<Record<string, unknown>>;

export function encodeLog(level: GuestLog['level'], message: string, fields?: LogFields): string {
  const record: GuestLog = { level, message: cut(String(message)), atMs: Date.now() };
  if (fields === undefined) return JSON.stringify(record);
  try {
    const text = JSON.stringify({ ...record, fields: describeErrors(fields) });
    if (text.length <= LOG_LINE_BYTES_MAX * 2) return text;
    return JSON.stringify({ ...record, fields: { dropped: `fields of ${text.length} characters` } });
  } catch (error) {
    // A cycle, a BigInt, or a toJSON that throws.
    return JSON.stringify({ ...record, fields: { dropped: String(error) } });
  }
}

function cut(text: string): string {
  if (text.length <= LOG_LINE_BYTES_MAX) return text;
  return `${text.slice(0, LOG_LINE_BYTES_MAX)}… (${text.length - LOG_LINE_BYTES_MAX} characters more)`;
}

/** JSON.stringify makes `{}` of an Error. */
function describeErrors(fields: LogFields): LogFields {
  const entries = Object.entries(fields).map(([name, value]) => [
    name,
    value instanceof Error ? (value.stack ?? String(value)) : value,
  ]);
  return Object.fromEntries(entries) as LogFields;
}
