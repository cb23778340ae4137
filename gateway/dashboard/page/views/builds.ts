/** Builds of the last day. */
import { h, type JSX } from 'preact';
import type { BuildRecord } from '../../../../sdk/protocol/api.ts';
import { useResource } from '../hooks.ts';
import { type Column, Notice, Table } from '../parts/table.ts';
import { formatAgo, formatMs, makeVisible } from '../parts/text.ts';
import type { ViewProps } from './context.ts';

const STYLE: Readonly<Record<BuildRecord['state'], string>> = {
  queued: 'soft',
  running: 'warn',
  succeeded: 'good',
  failed: 'bad',
  cancelled: 'soft',
};

const COLUMNS: readonly Column<BuildRecord>[] = [
  { title: 'Build', value: ({ id }) => h('span', { class: 'mono' }, id) },
  {
    title: 'Function',
    value: ({ functionName }) => h('a', { href: `#/functions/${functionName}` }, functionName),
  },
  { title: 'State', value: ({ state }) => h('span', { class: STYLE[state] }, state) },
  { title: 'Ordered', value: ({ createdMs }) => formatAgo(createdMs) },
  {
    title: 'Took',
    isNumber: true,
    value: ({ createdMs, endedMs }) => (endedMs === undefined ? '–' : formatMs(endedMs - createdMs)),
  },
  {
    title: 'Why not',
    isWide: true,
    value: ({ error }) => (error ? makeVisible(error.message.split('\n', 1)[0] ?? '') : ''),
  },
];

export function Builds({ api, onDenied }: ViewProps): JSX.Element {
  const { value, error } = useResource<{ builds: BuildRecord[] }>(
    api,
    '/v1/builds?limit=50',
    2_000,
    onDenied,
  );
  return h(
    'div',
    null,
    h('h1', null, 'Builds'),
    h(Notice, { text: error }),
    h(Table<BuildRecord>, {
      columns: COLUMNS,
      rows: value?.builds ?? [],
      keyOf: ({ id }) => id,
      empty: 'None in the last day.',
    }),
  );
}
