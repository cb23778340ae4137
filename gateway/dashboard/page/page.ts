/** The dashboard's page: signs in, follows the statistics, and shows the view that the address names. */
import { h, render, type JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { StatsSnapshot, TokenRecord } from '../../../sdk/protocol/api.ts';
import { createApi, keepToken, readToken } from './api.ts';
import { useResource, useStream } from './hooks.ts';
import { Builds } from './views/builds.ts';
import { Calls } from './views/calls.ts';
import type { ViewProps } from './views/context.ts';
import { Events } from './views/events.ts';
import { FunctionView } from './views/function.ts';
import { Login } from './views/login.ts';
import { Nodes, Stores } from './views/nodes.ts';
import { Overview } from './views/overview.ts';
import { Schedules } from './views/schedules.ts';

const VIEWS = [
  ['', 'Functions'],
  ['calls', 'Calls'],
  ['events', 'Events'],
  ['schedules', 'Schedules'],
  ['builds', 'Builds'],
  ['nodes', 'Nodes'],
  ['stores', 'Stores'],
] as const;
/** Hosts and their stores are no team's. */
const OPERATORS: ReadonlySet<string> = new Set(['nodes', 'stores']);
const HISTORY_POINTS = 60;

function Page(): JSX.Element {
  const [token, setToken] = useState(readToken());
  const leave = (): void => {
    keepToken(undefined);
    setToken(undefined);
  };
  return token === undefined
    ? h(Login, { onLogin: setToken })
    : h(Dashboard, { token, onLeave: leave, key: token });
}

function Dashboard({
  token,
  onLeave,
}: {
  readonly token: string;
  readonly onLeave: () => void;
}): JSX.Element {
  const api = useMemo(() => createApi(token), [token]);
  const path = useHash();
  const me = useResource<TokenRecord>(api, '/v1/whoami', 60_000, onLeave);
  const [snapshot, setSnapshot] = useState<StatsSnapshot>();
  const [isLive, setLive] = useState(false);
  const history = useMemo(() => new Map<string, number[]>(), []);
  useStream<StatsSnapshot>(
    api,
    '/v1/stats/events',
    (next) => {
      remember(history, next);
      setSnapshot(next);
    },
    setLive,
  );
  const [first = '', second] = path.split('/');
  return h(
    'div',
    null,
    h(
      'header',
      null,
      h('span', { class: 'brand' }, 'Skiff'),
      h(
        'nav',
        { 'aria-label': 'views' },
        ...VIEWS.filter(([view]) => me.value?.namespace === undefined || !OPERATORS.has(view)).map(
          ([view, title]) => {
            const isHere = first === view || (view === '' && first === 'functions');
            return h('a', { href: `#/${view}`, 'aria-current': isHere ? 'page' : undefined }, title);
          },
        ),
      ),
      h('span', { class: isLive ? 'good' : 'warn', role: 'status' }, isLive ? 'live' : 'not connected'),
      h('span', { class: 'soft' }, me.value?.name ?? ''),
      h('button', { onClick: onLeave }, 'Sign out'),
    ),
    h(
      'main',
      null,
      me.value && showView(first, second, { api, token: me.value, snapshot, history, onDenied: onLeave }),
      me.error !== undefined && me.value === undefined && h('p', { class: 'notice' }, me.error),
    ),
  );
}

function showView(view: string, name: string | undefined, props: ViewProps): JSX.Element {
  if (view === 'functions' && name !== undefined) return h(FunctionView, { ...props, name, key: name });
  if (view === 'calls') return h(Calls, { ...props, id: name, key: name ?? '' });
  if (view === 'events') return h(Events, props);
  if (view === 'schedules') return h(Schedules, props);
  if (view === 'builds') return h(Builds, props);
  if (view === 'nodes') return h(Nodes, props);
  if (view === 'stores') return h(Stores, props);
  return h(Overview, props);
}

function remember(history: Map<string, number[]>, { functions }: StatsSnapshot): void {
  for (const { name, callsPerSecond } of functions) {
    history.set(name, [...(history.get(name) ?? []), callsPerSecond].slice(-HISTORY_POINTS));
  }
}

/** The part of the address behind `#/`. */
function useHash(): string {
  const read = (): string => decodeURIComponent(location.hash.replace(/^#\/?/, ''));
  const [path, setPath] = useState(read());
  useEffect(() => {
    const onChange = (): void => setPath(read());
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, []);
  return path;
}

render(h(Page, null), document.getElementById('root') as HTMLElement);
