/**
 * Columns that fit the terminal: the widest flexible column gives way first, then those that can be spared are left out,
 * and where even that is too wide each row becomes a block of lines. In a pipe nothing is cut or left out.
 */
import { stripVTControlCharacters } from 'node:util';
import type { Channel } from './channel.ts';

export interface Column<Row> {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** May be shortened. Give it to texts that are readable when cut, never to ids that are copied. */
  readonly isFlexible?: boolean;
  /** Left out where there is no room; the one furthest to the right first. */
  readonly isSpare?: boolean;
  /** `style` colours for the channel; widths are counted without colours. */
  value(row: Row): string;
}

const GAP = '  ';
const FLEXIBLE_CHARS_MIN = 12;
const segmenter = new Intl.Segmenter();

export function textWidth(text: string): number {
  const plain = stripVTControlCharacters(text);
  // ASCII is nearly everything and needs no segmenter.
  if (/^[\x20-\x7e]*$/.test(plain)) return plain.length;
  return [...segmenter.segment(plain)].length;
}

function cutText(text: string, width: number): string {
  return textWidth(text) <= width ? text : `${stripVTControlCharacters(text).slice(0, width - 1)}…`;
}

export function formatTable<Row>(
  channel: Channel,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): string[] {
  const cells = rows.map((row) => columns.map((column) => column.value(row)));
  const widths = columns.map((column, i) =>
    Math.max(column.title.length, ...cells.map((line) => textWidth(line[i] as string))),
  );
  if (channel.isTty && !shrink(columns, widths, channel.columns)) {
    const spare = columns.findLastIndex(({ isSpare }) => isSpare === true);
    if (spare >= 0) return formatTable(channel, columns.toSpliced(spare, 1), rows);
    return cells.flatMap((line, row) => [
      ...(row === 0 ? [] : ['']),
      ...formatFields(
        channel,
        columns.map(({ title }, i) => [title, line[i] as string]),
      ),
    ]);
  }
  const pad = (text: string, i: number): string => {
    const shown = cutText(text, widths[i] as number);
    const space = ' '.repeat((widths[i] as number) - textWidth(shown));
    return columns[i]?.align === 'right' ? space + shown : shown + space;
  };
  const head = columns.map((column, i) => channel.style('dim', pad(column.title, i))).join(GAP);
  return [head.trimEnd(), ...cells.map((line) => line.map(pad).join(GAP).trimEnd())];
}

export function printTable<Row>(
  channel: Channel,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): void {
  for (const line of formatTable(channel, columns, rows)) channel.line(line);
}

/** Narrows flexible columns; false when that is not enough. */
function shrink<Row>(columns: readonly Column<Row>[], widths: number[], columnsMax: number): boolean {
  const total = (): number =>
    widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1);
  while (total() > columnsMax) {
    const candidates = widths.map((width, i) =>
      columns[i]?.isFlexible && width > FLEXIBLE_CHARS_MIN ? width : 0,
    );
    const widest = Math.max(...candidates);
    if (widest === 0) return false;
    const i = candidates.indexOf(widest);
    widths[i] = Math.max(FLEXIBLE_CHARS_MIN, widest - (total() - columnsMax));
  }
  return true;
}

/** `name  value` lines for a single thing. */
export function formatFields(
  channel: Channel,
  fields: readonly (readonly [string, string | undefined])[],
): string[] {
  const shown = fields.filter((field): field is readonly [string, string] => field[1] !== undefined);
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${channel.style('dim', name.padEnd(width))}${GAP}${value}`);
}
