/** All functions and what they do right now. */
import { h, type JSX } from 'preact';
import type { FunctionRecord, FunctionStats } from '../../../../sdk/protocol/api.ts';
import { useResource } from '../hooks.ts';
import { type Column, Notice, Spark, Table } from '../parts/table.ts';
import { formatMs, formatRate } from '../parts/text.ts';
import type { ViewProps } from './context.ts';

interface Row {
  readonly record: FunctionRecord;
  readonly stats: FunctionStats | undefined;
  readonly history: readonly number[];
}

export function Overview({ api, token, snapshot, history, onDenied }: ViewProps): JSX.Element {
  const { value, error } = useResource<{ functions: FunctionRecord[] }>(
    api,
    '/v1/functions',
    5_000,
    onDenied,
  );
  const rows = (value?.functions ?? []).map((record) => ({
    record,
    stats: snapshot?.functions.find(({ name }) => name === record.name),
    history: history.get(record.name) ?? [],
  }));
  const sandboxes = snapshot?.functions.reduce((sum, { sandboxes: count }) => sum + count, 0);
  return h(
    'div',
    null,
    h(Notice, { text: error }),
    h(
      'div',
      { class: 'cards' },
      card('calls a second', snapshot && formatRate(snapshot.callsPerSecond)),
      card(
        'errors a second',
        snapshot && formatRate(snapshot.errorsPerSecond),
        snapshot && snapshot.errorsPerSecond > 0 ? 'bad' : '',
      ),
      card('in flight', snapshot && String(snapshot.inFlight)),
      card('sandboxes', sandboxes === undefined ? undefined : String(sandboxes)),
      // A team is shown no hosts.
      snapshot && snapshot.nodes.length === 0 && token.namespace !== undefined
        ? null
        : card(snapshot?.nodes.length === 1 ? 'node' : 'nodes', snapshot && String(snapshot.nodes.length)),
    ),
    h('h2', null, 'Functions'),
    h(Table<Row>, {
      columns: COLUMNS,
      rows,
      keyOf: ({ record }) => record.name,
      empty: value ? 'There are no functions yet: skiff init hello && skiff deploy hello' : 'Loading …',
    }),
  );
}

function card(title: string, value: string | undefined, style = ''): JSX.Element {
  return h(
    'div',
    { class: 'card' },
    h('b', { class: style }, value ?? '–'),
    h('span', { class: 'soft' }, title),
  );
}

const COLUMNS: readonly Column<Row>[] = [
  {
    title: 'Name',
    value: ({ record }) => h('a', { href: `#/functions/${record.name}` }, record.name),
  },
  { title: 'Calls in the last minute', value: (row) => h(Spark, { values: row.history }) },
  {
    title: 'Calls/s',
    isNumber: true,
    value: ({ stats }) => (stats ? formatRate(stats.callsPerSecond) : '–'),
  },
  {
    title: 'Errors',
    isNumber: true,
    value: ({ stats }) =>
      h('span', { class: stats && stats.errors > 0 ? 'bad' : '' }, String(stats?.errors ?? '–')),
  },
  { title: 'p50', isNumber: true, value: ({ stats }) => formatMs(stats?.p50Ms) },
  { title: 'p95', isNumber: true, value: ({ stats }) => formatMs(stats?.p95Ms) },
  { title: 'Cold', isNumber: true, value: ({ stats }) => String(stats?.coldStarts ?? '–') },
  { title: 'Waiting', isNumber: true, value: ({ stats }) => String(stats?.waiting ?? '–') },
  { title: 'Sandboxes', isNumber: true, value: ({ stats }) => String(stats?.sandboxes ?? '–') },
  { title: 'Runtime', value: ({ record }) => record.runtime ?? '–' },
  {
    title: 'State',
    value: ({ record: { live } }) =>
      live === undefined
        ? h('span', { class: 'warn' }, 'not live')
        : live.targets.length > 1
          ? h('span', { class: 'warn' }, `canary ${live.targets.map(({ weight }) => weight).join('/')}`)
          : h('span', { class: 'good' }, 'live'),
  },
];
