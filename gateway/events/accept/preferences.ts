/** What a request's headers ask for: `Prefer` (RFC 7240) and the options of an event. Pure. */
import type { IncomingHttpHeaders } from 'node:http';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { EventOptions } from '../../../sdk/protocol/events.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import { WAIT_MS_MAX } from '../../../sdk/protocol/limits.ts';
import { describeIssues } from '../../../sdk/protocol/manifest.ts';

export interface Preference {
  readonly isAsync: boolean;
  /** How long the answer may be waited for before 202 (`wait`, §4.3). */
  readonly waitMs: number;
}

/** Preferences that are not understood are ignored, as §2 says. */
export function parsePrefer(value: string | readonly string[] | undefined): Preference {
  const tokens = [value ?? []]
    .flat()
    .join(',')
    .toLowerCase()
    .split(',')
    .map((token) => token.split(';')[0]?.trim() ?? '');
  const wait = tokens.map((token) => /^wait\s*=\s*"?(\d{1,6})"?$/.exec(token)?.[1]).find(Boolean);
  return {
    isAsync: tokens.includes('respond-async'),
    waitMs: Math.min(WAIT_MS_MAX, Number(wait ?? 0) * 1000),
  };
}

const OPTION_OF_HEADER = {
  [Header.delay]: 'delay',
  [Header.maxAge]: 'maxAge',
  [Header.priority]: 'priority',
  [Header.orderingKey]: 'orderingKey',
  [Header.idempotencyKey]: 'idempotencyKey',
} as const;

/** Headers that are said to the platform, not to the function. */
export const CONTROL_HEADERS: ReadonlySet<string> = new Set([
  Header.prefer,
  Header.delay,
  Header.maxAge,
  Header.priority,
  Header.orderingKey,
]);

/** @throws SkiffError BAD_REQUEST that names the header */
export function parseEventHeaders(headers: IncomingHttpHeaders): EventOptions {
  const given: Record<string, unknown> = {};
  for (const [header, option] of Object.entries(OPTION_OF_HEADER)) {
    const value = headers[header];
    if (value !== undefined) given[option] = String(value);
  }
  if (Object.keys(given).length === 0) return {};
  const parsed = EventOptions.safeParse(given);
  if (parsed.success) return parsed.data;
  throw new SkiffError('BAD_REQUEST', describeIssues(parsed.error, 'header'));
}
