/** A function's log as it grows: at the end while its reader is at the end, still where they scrolled up. */
import { h, type JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { LogLine } from '../../../../sdk/protocol/api.ts';
import type { Api } from '../api.ts';
import { useStream } from '../hooks.ts';
import { makeVisible } from './text.ts';

const LINES_MAX = 1_000;
const TAIL = 200;
const CLASSES: Readonly<Record<LogLine['level'], string>> = {
  debug: 'soft',
  info: '',
  warn: 'warn',
  error: 'bad',
};
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export function LogView(props: {
  readonly api: Api;
  readonly name: string;
  /** Only what was logged in its course. */
  readonly invocation?: string;
}): JSX.Element {
  const { api, name, invocation } = props;
  const [lines, setLines] = useState<readonly LogLine[]>([]);
  const [level, setLevel] = useState<LogLine['level']>('debug');
  const box = useRef<HTMLPreElement>(null);
  const isAtEnd = useRef(true);
  const seen = useRef('');
  const path = `/v1/functions/${encodeURIComponent(name)}/logs?follow=true&tail=${TAIL}&level=${level}${invocation === undefined ? '' : `&invocation=${encodeURIComponent(invocation)}`}`;
  useEffect(() => {
    setLines([]);
    seen.current = '';
  }, [path]);
  useStream<LogLine>(
    api,
    path,
    (line) => {
      // A stream that was opened again tells its tail again.
      if (line.cursor <= seen.current && line.cursor.length <= seen.current.length) return;
      seen.current = line.cursor;
      setLines((known) => [...known, line].slice(-LINES_MAX));
    },
    () => {},
  );
  useEffect(() => {
    const element = box.current;
    if (element && isAtEnd.current) element.scrollTop = element.scrollHeight;
  }, [lines]);
  const onScroll = (event: Event): void => {
    const { scrollHeight, scrollTop, clientHeight } = event.currentTarget as HTMLElement;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < 24;
  };
  return h(
    'section',
    null,
    h(
      'div',
      { class: 'row' },
      h('h2', null, 'Logs'),
      h(
        'select',
        {
          'aria-label': 'level',
          value: level,
          onChange: (event: Event) =>
            setLevel((event.currentTarget as HTMLSelectElement).value as LogLine['level']),
        },
        ...LEVELS.map((one) =>
          h('option', { value: one }, one === 'debug' ? 'all levels' : `${one} and worse`),
        ),
      ),
    ),
    h(
      'pre',
      { class: 'log', ref: box, onScroll, tabIndex: 0 },
      lines.length === 0 && h('span', { class: 'soft' }, 'Nothing yet; lines appear as they are logged.'),
      ...lines.map((line) => h('div', { key: line.cursor }, ...formatLine(line))),
    ),
  );
}

function formatLine(line: LogLine): JSX.Element[] {
  const time = new Date(line.atMs).toISOString().slice(11, 23);
  const id = line.invocation?.slice(-8) ?? '-'.padEnd(8);
  const hasFields = line.fields !== undefined && Object.keys(line.fields).length > 0;
  const source = line.source === 'platform' ? 'skiff: ' : '';
  return [
    h('span', { class: 'soft' }, `${time} ${id} `),
    h(
      'span',
      { class: CLASSES[line.level] },
      `${line.level.padEnd(5)} ${source}${makeVisible(line.message)}`,
    ),
    h('span', { class: 'soft' }, hasFields ? ` ${makeVisible(JSON.stringify(line.fields))}` : ''),
  ];
}
