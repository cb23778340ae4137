/** What runs by the clock. */
import { h, type JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { Schedule } from '../../../../sdk/protocol/workflow/schedules.ts';
import { useResource } from '../hooks.ts';
import { type Column, Notice, Table } from '../parts/table.ts';
import { formatAgo, formatIn, formatMs } from '../parts/text.ts';
import { mayDeploy, type ViewProps } from './context.ts';

export function Schedules({ api, token, onDenied }: ViewProps): JSX.Element {
  const { value, error, reload } = useResource<{ schedules: Schedule[] }>(
    api,
    '/v1/schedules',
    2_000,
    onDenied,
  );
  const [failure, setFailure] = useState<string>();
  const order = (name: string, verb: string): void => {
    api.post(`/v1/schedules/${encodeURIComponent(name)}/${verb}`).then(
      () => {
        setFailure(undefined);
        reload();
      },
      (problem: Error) => setFailure(problem.message),
    );
  };
  return h(
    'div',
    null,
    h('h1', null, 'Schedules'),
    h(Notice, { text: failure ?? error }),
    h(Table<Schedule>, {
      columns: createColumns(mayDeploy(token) ? order : undefined),
      rows: value?.schedules ?? [],
      keyOf: ({ name }) => name,
      empty: value ? 'None. Make one: skiff cron create nightly report --cron "0 3 * * *"' : 'Loading …',
    }),
  );
}

function createColumns(onOrder: ((name: string, verb: string) => void) | undefined): Column<Schedule>[] {
  return [
    { title: 'Name', value: ({ name }) => name },
    {
      title: 'Function',
      value: (row) => h('a', { href: `#/functions/${row.function}` }, row.function),
    },
    { title: 'When', value: describeTiming },
    {
      title: 'Next',
      value: ({ paused, nextMs }) =>
        paused
          ? h('span', { class: 'warn' }, 'paused')
          : nextMs === undefined
            ? h('span', { class: 'soft' }, 'over')
            : formatIn(nextMs),
    },
    { title: 'Last', value: ({ lastMs }) => (lastMs === undefined ? 'never' : formatAgo(lastMs)) },
    { title: 'Fired', isNumber: true, value: ({ fired }) => String(fired) },
    { title: 'Skipped', isNumber: true, value: ({ skipped }) => String(skipped) },
    { title: 'Missed', isNumber: true, value: ({ missedCount }) => String(missedCount) },
    {
      title: '',
      value: ({ name, paused }) =>
        onOrder
          ? h(
              'span',
              { class: 'buttons' },
              h('button', { onClick: () => onOrder(name, 'run') }, 'run now'),
              h(
                'button',
                { onClick: () => onOrder(name, paused ? 'resume' : 'pause') },
                paused ? 'resume' : 'pause',
              ),
            )
          : '',
    },
  ];
}

function describeTiming({ cron, every, at, timezone }: Schedule): JSX.Element | string {
  if (cron !== undefined)
    return h('span', null, h('span', { class: 'mono' }, cron), timezone === 'UTC' ? '' : ` (${timezone})`);
  return every === undefined ? `once at ${at}` : `every ${formatMs(every)}`;
}
