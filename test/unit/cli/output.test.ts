/** What the CLI prints: tables that fit, numbers people read, colours only where they are wanted. */
import { Writable } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { createChannel, wantsColor } from '../../../sdk/cli/output/channel.ts';
import { createProgress } from '../../../sdk/cli/output/progress.ts';
import { formatAgo, formatBytes, formatMs } from '../../../sdk/cli/output/quantities.ts';
import { formatFields, formatTable, textWidth } from '../../../sdk/cli/output/table.ts';

function capture(options: { isTTY?: boolean; columns?: number; env?: Record<string, string> } = {}) {
  let text = '';
  const stream = new Writable({ write: (chunk, _encoding, done) => ((text += String(chunk)), done()) });
  const { env = {}, ...tty } = options;
  return { channel: createChannel(Object.assign(stream, tty), env), text: () => text };
}

const COLUMNS = [
  { title: 'NAME', value: (row: { name: string; note: string; n: number }) => row.name },
  { title: 'NOTE', value: (row: { name: string; note: string; n: number }) => row.note, isFlexible: true },
  {
    title: 'N',
    value: (row: { name: string; note: string; n: number }) => String(row.n),
    align: 'right' as const,
  },
];
const ROWS = [
  { name: 'hello', note: 'a long note that goes on and on', n: 7 },
  { name: 'grüße', note: '', n: 1234 },
];

describe('a table', () => {
  test('aligns its columns, numbers to the right', () => {
    expect(formatTable(capture().channel, COLUMNS, ROWS)).toEqual([
      'NAME   NOTE                                N',
      'hello  a long note that goes on and on     7',
      'grüße                                   1234',
    ]);
  });

  test('gives way in its flexible column to fit the terminal', () => {
    const lines = formatTable(capture({ isTTY: true, columns: 30 }).channel, COLUMNS, ROWS).map(
      (line) => line,
    );
    expect(lines.map(textWidth)).toEqual([30, 30, 30]);
    expect(lines[1]).toContain('a long note that…');
  });

  test('leaves out what can be spared, from the right, and then makes a block of each row', () => {
    const columns = [
      { title: 'NAME', value: (row: (typeof ROWS)[number]) => row.name },
      { title: 'N', value: (row: (typeof ROWS)[number]) => String(row.n), isSpare: true },
      { title: 'AGAIN', value: (row: (typeof ROWS)[number]) => String(row.n), isSpare: true },
    ];
    const at = (width: number): string[] =>
      formatTable(
        capture({ isTTY: true, columns: width, env: { NO_COLOR: '1' } }).channel,
        columns,
        ROWS,
      ).map(stripVTControlCharacters);
    expect(at(18)[0]).toBe('NAME   N     AGAIN');
    expect(at(17)[0]).toBe('NAME   N');
    expect(at(9)[0]).toBe('NAME');
    expect(at(4)).toEqual(['NAME  hello', '', 'NAME  grüße']);
  });

  test('is never cut in a pipe', () => {
    expect(formatTable(capture({ columns: 20 }).channel, COLUMNS, ROWS)[1]).toContain('on and on');
  });

  test('leaves out fields without a value', () => {
    const fields = formatFields(capture().channel, [
      ['name', 'x'],
      ['absent', undefined],
      ['long name', 'y'],
    ]);
    expect(fields).toEqual(['name       x', 'long name  y']);
  });
});

test('sizes, times and ages are written as people read them', () => {
  expect([0, 1023, 1024, 1536, 61 * 1024 ** 2, 5 * 1024 ** 3].map(formatBytes)).toEqual([
    '0 B',
    '1023 B',
    '1 KB',
    '1.5 KB',
    '61 MB',
    '5 GB',
  ]);
  expect([0.4, 12.6, 1400, 125_000, 300_000].map(formatMs)).toEqual([
    '0 ms',
    '13 ms',
    '1.4 s',
    '2 min 5 s',
    '5 min',
  ]);
  const nowMs = 1e12;
  expect([0, 30_000, 300_000, 7_200_000, 3 * 86_400_000].map((ms) => formatAgo(nowMs - ms, nowMs))).toEqual([
    'now',
    '30 s ago',
    '5 min ago',
    '2 h ago',
    '3 days ago',
  ]);
});

describe('colours', () => {
  test.each([
    [true, {}, true],
    [false, {}, false],
    [true, { NO_COLOR: '1' }, false],
    [true, { NO_COLOR: '' }, true],
    [false, { FORCE_COLOR: '1' }, true],
    [true, { FORCE_COLOR: '0' }, false],
    [true, { TERM: 'dumb' }, false],
    [true, { NO_COLOR: '1', FORCE_COLOR: '1' }, false],
  ])('on a terminal: %s, with %o: %s', (isTty, env, expected) => {
    expect(wantsColor(env, isTty)).toBe(expected);
  });

  test('are written only when wanted', () => {
    expect(capture({ isTTY: true }).channel.style('red', 'x')).toBe('\u001b[31mx\u001b[39m');
    expect(capture().channel.style('red', 'x')).toBe('x');
  });
});

describe('progress', () => {
  test('off a terminal is one plain line a step', () => {
    const { channel, text } = capture();
    const progress = createProgress(channel);
    progress.start('upload');
    progress.done('upload', 12, '2 files');
    progress.start('bundle');
    progress.log('warning: unused import');
    progress.stop('failed');
    expect(text()).toBe('upload     12 ms  2 files\nwarning: unused import\nbundle     failed\n');
  });

  test('on a terminal redraws the running step and leaves finished ones', () => {
    const { channel, text } = capture({ isTTY: true, env: { NO_COLOR: '1' } });
    const progress = createProgress(channel);
    progress.start('upload');
    progress.done('upload', 12, '2 files');
    progress.stop();
    // What a terminal shows: everything before a return to the start of the line is overwritten.
    const shown = text()
      .split('\n')
      .map((line) => line.slice(line.lastIndexOf('\u001b[2K') + 4));
    expect(shown[0]).toBe('✓ upload       12 ms  2 files');
  });

  test('says nothing when it must be quiet', () => {
    const { channel, text } = capture();
    const progress = createProgress(channel, true);
    progress.start('upload');
    progress.done('upload', 1);
    progress.stop('failed');
    expect(text()).toBe('');
  });
});
