/** Hosts that run sandboxes, and what the stores use of their budgets. */
import { h, type JSX } from 'preact';
import type { NodeRecord, Usage } from '../../../../sdk/protocol/api.ts';
import { useResource } from '../hooks.ts';
import { type Column, Notice, Table } from '../parts/table.ts';
import { formatAgo, formatBytes } from '../parts/text.ts';
import type { ViewProps } from './context.ts';

const NODES: readonly Column<NodeRecord>[] = [
  { title: 'Host', value: ({ hostname }) => hostname },
  { title: 'Id', value: ({ id }) => h('span', { class: 'mono' }, id) },
  {
    title: 'Status',
    value: ({ status = 'ready', health }) =>
      h('span', { class: status === 'ready' ? 'good' : 'warn', title: health?.message }, status),
  },
  {
    title: 'Availability',
    value: ({ availability }) =>
      h('span', { class: availability === 'active' ? 'good' : 'warn' }, availability),
  },
  {
    title: 'Memory',
    value: ({ used, capacity }) => bar(used.memoryBytes, capacity.memoryBytes, formatBytes),
  },
  { title: 'Cores', isNumber: true, value: ({ capacity }) => String(capacity.cpus) },
  { title: 'Sandboxes', isNumber: true, value: ({ used }) => String(used.sandboxes) },
  { title: 'Busy slots', isNumber: true, value: ({ used }) => String(used.busySlots) },
  { title: 'Stems', isNumber: true, value: ({ used }) => String(used.stems) },
  { title: 'Last sign of life', value: ({ heartbeatMs }) => formatAgo(heartbeatMs) },
];

export function Nodes({ snapshot }: ViewProps): JSX.Element {
  return h(
    'div',
    null,
    h('h1', null, 'Nodes'),
    h(Table<NodeRecord>, {
      columns: NODES,
      rows: snapshot?.nodes ?? [],
      keyOf: ({ id }) => id,
      empty: snapshot ? 'No runner is alive; see skiff doctor.' : 'Loading …',
    }),
  );
}

const STORES: readonly Column<Usage>[] = [
  { title: 'Store', value: ({ store }) => store },
  {
    title: 'Size',
    value: ({ bytes, bytesMax }) => (bytes === undefined ? '–' : bar(bytes, bytesMax, formatBytes)),
  },
  {
    title: 'Count',
    value: ({ count, countMax }) => (count === undefined ? '–' : bar(count, countMax, String)),
  },
  {
    title: 'Can be freed',
    isNumber: true,
    value: ({ reclaimableBytes }) => (reclaimableBytes === undefined ? '–' : formatBytes(reclaimableBytes)),
  },
];

export function Stores({ api, onDenied }: ViewProps): JSX.Element {
  const { value, error } = useResource<{ stores: Usage[] }>(api, '/v1/df', 4_000, onDenied);
  return h(
    'div',
    null,
    h('h1', null, 'Stores'),
    h(Notice, { text: error }),
    h(Table<Usage>, {
      columns: STORES,
      rows: value?.stores ?? [],
      keyOf: ({ store }) => store,
      empty: 'Loading …',
    }),
  );
}

function bar(
  value: number,
  max: number | undefined,
  format: (value: number) => string,
): JSX.Element | string {
  if (max === undefined || max === 0) return format(value);
  return h('span', null, h('progress', { value, max }), ` ${format(value)} of ${format(max)}`);
}
