/** Values of options. A bad one is a usage error that names the value and shows a good one. */
import { InvalidArgumentError } from 'commander';
import { tryParseMs } from '../../protocol/units.ts';
import { usage } from '../failure.ts';

/** For options that may be given several times. */
export function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

export function parseCount(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value);
  throw new InvalidArgumentError(`"${value}" is not a whole number.`);
}

export function parsePercent(value: string): number {
  const percent = Number(value.replace(/%$/, ''));
  if (Number.isInteger(percent) && percent >= 1 && percent <= 100) return percent;
  throw new InvalidArgumentError(`"${value}" is not a share; give whole percents from 1 to 100.`);
}

/** `30s`, `500ms`, `90d`, as milliseconds. */
export function parseDuration(value: string): number {
  const ms = tryParseMs(value);
  if (ms !== undefined) return ms;
  throw new InvalidArgumentError(`"${value}" is not a duration; write 30s, 500ms, 5m.`);
}

/** `NAME=value`; the value may contain `=`. */
export function parseAssignment(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw usage(`"${text}" is not of the form name=value`);
}

/** `Name: value`, as curl takes it. */
export function parseHeader(text: string): [string, string] {
  const at = text.indexOf(':');
  const name = text.slice(0, at).trim();
  if (at > 0 && /^[\w!#$%&'*+.^`|~-]+$/.test(name)) return [name, text.slice(at + 1).trim()];
  throw usage(`"${text}" is not a header`, `write it as 'name: value'`);
}

/** `5m` ago, or a date and time, as epoch milliseconds. */
export function parseSince(text: string, nowMs: number): number {
  const ms = tryParseMs(text);
  if (ms !== undefined) return nowMs - ms;
  const atMs = Date.parse(text);
  if (!Number.isNaN(atMs)) return atMs;
  throw usage(`"${text}" is not a time`, 'write 30s, 5m, 2h, or 2026-01-31T12:00');
}
