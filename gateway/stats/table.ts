/** Routes of what goes on and of what went on: a part of the one table in routes/table.ts. */
import { StatsSnapshot, Trace } from '../../sdk/protocol/api.ts';
import type { RouteSpec } from '../routes/table.ts';

export const STATS_ROUTES = {
  readStats: {
    method: 'GET',
    path: '/v1/stats',
    scope: 'read',
    summary: 'Calls, errors, latencies and sandboxes of the last ten seconds, by function.',
    status: 200,
    response: StatsSnapshot,
    errors: [],
  },
  followStats: {
    method: 'GET',
    path: '/v1/stats/events',
    scope: 'read',
    summary: 'The same every second, as server-sent events.',
    status: 200,
    response: StatsSnapshot,
    media: 'sse',
    errors: ['OVERLOADED'],
  },
  readTrace: {
    method: 'GET',
    path: '/v1/traces/:id',
    scope: 'read',
    summary:
      'Where the time of one of the last invocations went, with the calls that were made in its course; of an ' +
      'asynchronous one its attempts.',
    status: 200,
    response: Trace,
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, RouteSpec>;
