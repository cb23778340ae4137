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

const TIME_AT = 11;
const TIME_CHARS = 12;
const ID_CHARS = 8;

/** With a line feed. */
export function formatLogLine(out: Channel, line: LogLine, hasDate: boolean): string {
  const iso = new Date(line.atMs).toISOString();
  const time = out.style('dim', hasDate ? iso : iso.slice(TIME_AT, TIME_AT + TIME_CHARS));
  const level = formatLevel(out, line.level);
  // The end of an id is its random part: enough to see which lines belong together.
  const id = line.invocation === undefined ? '-'.padEnd(ID_CHARS) : line.invocation.slice(-ID_CHARS);
  const source = line.source === 'platform' ? out.style('magenta', 'skiff: ') : '';
  const text = `${makeSafe(line.message)}${formatLogFields(out, line.fields)}`;
  return `${time} ${level} ${out.style('dim', id)} ${source}${text}\n`;
}
