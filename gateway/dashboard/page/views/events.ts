/** Asynchronous invocations: what waits, and those that could not be done, to be tried again or let go. */
import { h, type JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { InvocationRecord } from '../../../../sdk/protocol/events.ts';
import { useResource } from '../hooks.ts';
import { type Column, Notice, Table } from '../parts/table.ts';
import { formatAgo, makeVisible } from '../parts/text.ts';
import { mayDeploy, type ViewProps } from './context.ts';

interface EventStats {
  readonly durability: string;
  readonly problem?: string;
  readonly unfinished: number;
  readonly dead: number;
  readonly queued: number;
  readonly held: number;
}

export function Events({ api, token, onDenied }: ViewProps): JSX.Element {
  const stats = useResource<EventStats>(api, '/v1/events/stats', 2_000, onDenied);
  const dead = useResource<{ invocations: InvocationRecord[]; total: number }>(
    api,
    '/v1/dlq?limit=100',
    4_000,
    onDenied,
  );
  const [failure, setFailure] = useState<string>();
  const order = (path: string, body: object, question?: string): void => {
    if (question !== undefined && !confirm(question)) return;
    api.post(path, body).then(
      () => {
        setFailure(undefined);
        dead.reload();
        stats.reload();
      },
      (error: Error) => setFailure(error.message),
    );
  };
  const { value } = stats;
  const total = dead.value?.total ?? 0;
  return h(
    'div',
    null,
    h('h1', null, 'Events'),
    h(Notice, { text: failure ?? value?.problem ?? stats.error }),
    h(
      'div',
      { class: 'cards' },
      card('not finished', value?.unfinished),
      card('in the queue', value?.queued),
      card('running', value?.held),
      card('dead or expired', value?.dead, value && value.dead > 0 ? 'bad' : ''),
    ),
    h(
      'div',
      { class: 'row' },
      h('h2', null, 'Dead letters'),
      mayDeploy(token) &&
        total > 0 &&
        h('button', { onClick: () => order('/v1/dlq/replay', { all: true }) }, 'replay all'),
      mayDeploy(token) &&
        total > 0 &&
        h(
          'button',
          {
            onClick: () => order('/v1/dlq/purge', { all: true }, `Remove ${total} invocations for good?`),
          },
          'remove all',
        ),
    ),
    h(Table<InvocationRecord>, {
      columns: createColumns(mayDeploy(token) ? (id) => order('/v1/dlq/replay', { ids: [id] }) : undefined),
      rows: dead.value?.invocations ?? [],
      keyOf: ({ id }) => id,
      empty: dead.error ?? 'None: everything that was accepted was done, or will be.',
    }),
  );
}

function card(title: string, value: number | undefined, style = ''): JSX.Element {
  return h(
    'div',
    { class: 'card' },
    h('b', { class: style }, value === undefined ? '–' : String(value)),
    h('span', { class: 'soft' }, title),
  );
}

function createColumns(onReplay: ((id: string) => void) | undefined): Column<InvocationRecord>[] {
  return [
    {
      title: 'Invocation',
      value: ({ id }) => h('a', { class: 'mono', href: `#/calls/${id}` }, id),
    },
    {
      title: 'Function',
      value: ({ functionName }) => h('a', { href: `#/functions/${functionName}` }, functionName),
    },
    {
      title: 'Why',
      value: ({ state, reason }) =>
        h('span', { class: 'bad' }, reason === undefined ? state : `${state}: ${reason}`),
    },
    { title: 'Tries', isNumber: true, value: ({ attempts }) => String(attempts.length) },
    { title: 'Ended', value: ({ endedMs }) => (endedMs === undefined ? '' : formatAgo(endedMs)) },
    {
      title: 'Last',
      isWide: true,
      value: ({ attempts }) => makeVisible(attempts.at(-1)?.message ?? String(attempts.at(-1)?.status ?? '')),
    },
    {
      title: '',
      value: ({ id }) => (onReplay ? h('button', { onClick: () => onReplay(id) }, 'replay') : ''),
    },
  ];
}
