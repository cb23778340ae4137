/** One function: its numbers, its deployments with what one can do with them, and its log. */
import { h, type JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Alias, Deployment, FunctionRecord } from '../../../../sdk/protocol/api.ts';
import type { Api } from '../api.ts';
import { useResource } from '../hooks.ts';
import { LogView } from '../parts/log-view.ts';
import { type Column, Notice, Spark, Table } from '../parts/table.ts';
import { formatAgo, formatBytes, formatMs, formatRate } from '../parts/text.ts';
import { CallTable } from './calls.ts';
import { mayDeploy, type ViewProps } from './context.ts';

export function FunctionView(props: ViewProps & { readonly name: string }): JSX.Element {
  const { api, token, snapshot, history, onDenied, name } = props;
  const path = `/v1/functions/${encodeURIComponent(name)}`;
  const record = useResource<FunctionRecord>(api, path, 4_000, onDenied);
  const deployments = useResource<{ deployments: Deployment[] }>(api, `${path}/deployments`, 6_000, onDenied);
  const [failure, setFailure] = useState<string>();
  const stats = snapshot?.functions.find((one) => one.name === name);
  const { value } = record;
  const shift = (id: string): void => {
    if (!value?.live || !confirm(`Give ${id} all traffic of ${name}?`)) return;
    void moveLive(api, name, value.live, id).then(
      () => {
        setFailure(undefined);
        record.reload();
      },
      (error: Error) => setFailure(error.message),
    );
  };
  return h(
    'div',
    null,
    h('h1', null, name),
    h(Notice, { text: failure ?? record.error }),
    value &&
      h(
        'dl',
        { class: 'facts' },
        fact(
          'URL',
          h('a', { href: safeUrl(value.url), target: '_blank', rel: 'noopener noreferrer' }, value.url),
        ),
        fact('runtime', value.runtime ?? '–'),
        fact('access', value.access ?? '–'),
        fact(
          'calls',
          stats
            ? `${formatRate(stats.callsPerSecond)}/s, ${stats.errors} errors, ${stats.coldStarts} cold in ten seconds`
            : '–',
        ),
        fact(
          'latency',
          stats
            ? `p50 ${formatMs(stats.p50Ms)}, p95 ${formatMs(stats.p95Ms)}, p99 ${formatMs(stats.p99Ms)}`
            : '–',
        ),
        fact('last minute', h(Spark, { values: history.get(name) ?? [] })),
      ),
    h('h2', null, 'Deployments'),
    h(Table<Deployment>, {
      columns: createColumns(value?.live, mayDeploy(token) ? shift : undefined),
      rows: deployments.value?.deployments ?? [],
      keyOf: ({ id }) => id,
      empty: deployments.error ?? 'None.',
    }),
    h('h2', null, 'Last calls'),
    h(CallTable, {
      api,
      onDenied,
      query: `function=${encodeURIComponent(name)}&limit=8`,
      isOfOne: true,
      everyMs: 3_000,
    }),
    h(LogView, { api, name, key: name }),
  );
}

function fact(title: string, value: JSX.Element | string): JSX.Element[] {
  return [h('dt', null, title), h('dd', null, value)];
}

/** It comes from the server's own settings, and still only http may be followed. */
function safeUrl(url: string): string {
  return /^https?:\/\//.test(url) ? url : '#';
}

function moveLive(api: Api, name: string, live: Alias, deployment: string): Promise<Alias> {
  return api.put(`/v1/functions/${encodeURIComponent(name)}/aliases/live`, {
    targets: [{ deployment, weight: 100 }],
    version: live.version,
  });
}

function createColumns(
  live: Alias | undefined,
  onShift: ((id: string) => void) | undefined,
): Column<Deployment>[] {
  const weightOf = (id: string): number | undefined =>
    live?.targets.find(({ deployment }) => deployment === id)?.weight;
  return [
    { title: 'Id', value: ({ id }) => h('span', { class: 'mono' }, id) },
    {
      title: 'Traffic',
      isNumber: true,
      value: ({ id }) =>
        weightOf(id) === undefined ? '' : h('span', { class: 'good' }, `${weightOf(id)} %`),
    },
    { title: 'Made', value: ({ createdMs }) => formatAgo(createdMs) },
    { title: 'Image', isNumber: true, value: ({ image }) => formatBytes(image.bytes) },
    { title: 'Memory', isNumber: true, value: ({ config }) => formatBytes(config.memory) },
    { title: 'Time-out', isNumber: true, value: ({ config }) => formatMs(config.timeout) },
    { title: 'Concurrency', isNumber: true, value: ({ config }) => String(config.concurrency) },
    {
      title: 'Network',
      value: ({ config }) => (typeof config.network === 'string' ? config.network : 'allow list'),
    },
    {
      title: '',
      value: ({ id }) =>
        onShift && live && weightOf(id) !== 100
          ? h('button', { onClick: () => onShift(id) }, 'give all traffic')
          : '',
    },
  ];
}
