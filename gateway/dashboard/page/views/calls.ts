/** The last calls, and of one of them where its time went. */
import { h, type JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Trace, TraceSpan } from '../../../../sdk/protocol/api.ts';
import type { Api } from '../api.ts';
import { useResource } from '../hooks.ts';
import { LogView } from '../parts/log-view.ts';
import { type Column, Notice, Table } from '../parts/table.ts';
import { formatAgo, formatMs, makeVisible } from '../parts/text.ts';
import type { ViewProps } from './context.ts';

const ALL = '';

export function Calls(props: ViewProps & { readonly id: string | undefined }): JSX.Element {
  const [only, setOnly] = useState(ALL);
  if (props.id !== undefined) return h(TraceView, { ...props, id: props.id });
  const choice = (value: string, title: string): JSX.Element => h('option', { value }, title);
  return h(
    'div',
    null,
    h(
      'div',
      { class: 'row' },
      h('h1', null, 'Calls'),
      h(
        'select',
        {
          'aria-label': 'which',
          value: only,
          onChange: (event: Event) => setOnly((event.currentTarget as HTMLSelectElement).value),
        },
        choice(ALL, 'all'),
        choice('failed', 'failed'),
        choice('cold', 'cold starts'),
      ),
    ),
    h(CallTable, {
      api: props.api,
      onDenied: props.onDenied,
      query: `limit=100${only === ALL ? '' : `&only=${only}`}`,
      everyMs: 2_000,
    }),
  );
}

export function CallTable(props: {
  readonly api: Api;
  readonly onDenied: () => void;
  readonly query: string;
  /** All are of one function. */
  readonly isOfOne?: boolean;
  readonly everyMs: number;
}): JSX.Element {
  const { api, onDenied, query, isOfOne, everyMs } = props;
  const { value, error } = useResource<{ calls: TraceSpan[] }>(api, `/v1/traces?${query}`, everyMs, onDenied);
  return h(
    'div',
    null,
    h(Notice, { text: error }),
    h(Table<TraceSpan>, {
      columns: isOfOne ? COLUMNS.filter(({ title }) => title !== 'Function') : COLUMNS,
      rows: value?.calls ?? [],
      keyOf: ({ id }) => id,
      empty: value ? 'None lately. Gateways remember their last few thousand.' : 'Loading …',
    }),
  );
}

const COLUMNS: readonly Column<TraceSpan>[] = [
  {
    title: 'Invocation',
    value: ({ id }) => h('a', { class: 'mono', href: `#/calls/${id}` }, id),
  },
  {
    title: 'Function',
    value: ({ functionName }) => h('a', { href: `#/functions/${functionName}` }, functionName),
  },
  { title: 'Result', value: describeResult },
  { title: 'All', isNumber: true, value: ({ ms }) => formatMs(ms) },
  { title: 'Queue', isNumber: true, value: ({ queueMs }) => formatMs(queueMs) },
  { title: 'Cold', isNumber: true, value: ({ coldMs }) => (coldMs ? formatMs(coldMs) : '') },
  { title: 'Exec', isNumber: true, value: ({ execMs }) => formatMs(execMs) },
  { title: 'Node', value: ({ node }) => node ?? '' },
  { title: 'When', value: ({ startMs }) => formatAgo(startMs) },
];

function describeResult({ cause, status }: TraceSpan): JSX.Element {
  const isBad = cause !== undefined || (status ?? 0) >= 500;
  const style = isBad ? 'bad' : status === undefined || status >= 400 ? 'warn' : 'good';
  return h('span', { class: style }, cause ?? String(status ?? 'left by its caller'));
}

function TraceView({ api, id, onDenied }: ViewProps & { readonly id: string }): JSX.Element {
  const { value, error } = useResource<Trace>(api, `/v1/traces/${encodeURIComponent(id)}`, 30_000, onDenied);
  const [first] = value?.spans ?? [];
  return h(
    'div',
    null,
    h('h1', { class: 'mono' }, id),
    h(Notice, { text: error }),
    first &&
      h(
        'p',
        null,
        h('a', { href: `#/functions/${first.functionName}` }, first.functionName),
        ' ',
        describeResult(first),
        ` in ${formatMs(first.ms)}`,
        first.node === undefined ? '' : ` on ${first.node}`,
      ),
    first?.detail !== undefined && h('p', { class: 'bad' }, makeVisible(first.detail)),
    value && h(Waterfall, { trace: value }),
    first && h(LogView, { api, name: first.functionName, invocation: id, key: id }),
  );
}

const PARTS = [
  ['queue', 'queueMs'],
  ['cold', 'coldMs'],
  ['exec', 'execMs'],
] as const;

/** One line for each call: waiting, starting, running, and the rest of its answer. */
function Waterfall({ trace: { spans, steps = [], acceptedMs } }: { readonly trace: Trace }): JSX.Element {
  const zeroMs = acceptedMs ?? spans[0]?.startMs ?? 0;
  const endMs = Math.max(zeroMs + 0.1, ...spans.map(({ startMs, ms }) => startMs + (ms ?? 0)));
  const x = (ms: number): string => `${((ms / (endMs - zeroMs)) * 1_000).toFixed(1)}`;
  return h(
    'dl',
    { class: 'waterfall' },
    ...spans.flatMap((span) => {
      let atMs = span.startMs - zeroMs;
      const bars: JSX.Element[] = [
        h('rect', { class: 'whole', x: x(atMs), width: x(span.ms ?? 0), y: 4, height: 12 }),
      ];
      for (const [name, key] of PARTS) {
        const ms = span[key] ?? 0;
        bars.push(h('rect', { class: name, x: x(atMs), width: x(ms), y: 4, height: 12 }));
        atMs += ms;
      }
      const label = span.attempt === undefined ? span.functionName : `attempt ${span.attempt}`;
      const times = PARTS.filter(([, key]) => (span[key] ?? 0) > 0).map(
        ([name, key]) => `${name} ${formatMs(span[key])}`,
      );
      return [
        h('dt', { class: span.parent === undefined ? '' : 'inner' }, label),
        h(
          'dd',
          null,
          h('svg', { viewBox: '0 0 1000 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...bars),
          h('span', { class: 'soft' }, [`${formatMs(span.ms)} in all`, ...times].join(', ')),
        ),
      ];
    }),
    ...steps.flatMap(({ name, kind, atMs = zeroMs, dueMs = atMs, isPending }) => {
      const untilMs = Math.min(dueMs, endMs);
      const bar = { x: x(atMs - zeroMs), width: x(Math.max(untilMs - atMs, (endMs - zeroMs) / 200)) };
      const word = kind === 'step' ? 'stored' : isPending ? `${kind}s` : kind;
      return [
        h('dt', { class: 'inner' }, makeVisible(name)),
        h(
          'dd',
          null,
          h(
            'svg',
            { viewBox: '0 0 1000 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
            h('rect', { class: kind === 'step' ? 'stored' : kind, ...bar, y: 4, height: 12 }),
          ),
          h('span', { class: 'soft' }, `${word} after ${formatMs(atMs - zeroMs)}`),
        ),
      ];
    }),
  );
}
