/** What functions log, shown on a terminal: coloured by level, and unable to do anything to the terminal. */
import type { LogLine } from '../../client/index.ts';
import type { Channel, Style } from './channel.ts';

const LEVEL_STYLE: Readonly<Record<LogLine['level'], Style>> = {
  debug: 'dim',
  info: 'cyan',
  warn: 'yellow',
  error: 'red',
};
const LEVEL_CHARS = 5;

export function formatLevel(out: Channel, level: LogLine['level']): string {
  return out.style(LEVEL_STYLE[level], level.padEnd(LEVEL_CHARS));
}

/** A function may log anything, also sequences that would move a terminal's cursor or set its title. */
export function makeSafe(text: string): string {
  return text.replaceAll(/(?![\t\n])\p{Cc}/gu, '\u{fffd}').trimEnd();
}

/** With a space before it; empty when there are none. */
export function formatLogFields(out: Channel, fields: LogLine['fields']): string {
  const hasFields = fields !== undefined && Object.keys(fields).length > 0;
  return hasFields ? ` ${out.style('dim', makeSafe(JSON.stringify(fields)))}` : '';
}
