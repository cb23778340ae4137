/** Routes of what goes on and of what went on: a part of the one table in routes/table.ts. */
import { z } from 'zod';
import { StatsSnapshot, Trace, TraceSpan } from '../../sdk/protocol/api.ts';
import { FunctionName } from '../../sdk/protocol/manifest.ts';
import type { RouteSpec } from '../routes/table.ts';

export const STATS_ROUTES = {
  readStats: {
    method: 'GET',
    path: '/v1/stats',
    scope: 'read',
    bound: 'sorted',
    summary: 'Calls, errors, latencies and sandboxes of the last ten seconds, by function.',
    status: 200,
    response: StatsSnapshot,
    errors: [],
  },
  followStats: {
    method: 'GET',
    path: '/v1/stats/events',
    scope: 'read',
    bound: 'sorted',
    summary: 'The same every second, as server-sent events.',
    status: 200,
    response: StatsSnapshot,
    media: 'sse',
    errors: ['OVERLOADED'],
  },
  listCalls: {
    method: 'GET',
    path: '/v1/traces',
    scope: 'read',
    bound: 'sorted',
    summary: 'The last invocations that were answered, newest first, as spans.',
    query: z.object({
      function: FunctionName.optional(),
      /** Only those that failed, answered with 500 and above, or waited for a sandbox to start. */
      only: z.enum(['failed', 'cold']).optional(),
      limit: z.coerce.number().int().min(1).max(500).default(50),
    }),
    status: 200,
    response: z.object({ calls: z.array(TraceSpan) }),
    errors: [],
  },
  readTrace: {
    method: 'GET',
    path: '/v1/traces/:id',
    scope: 'read',
    bound: 'sorted',
    summary:
      'Where the time of one of the last invocations went, with the calls that were made in its course, whichever ' +
      'gateway made them; of an asynchronous one its attempts and its steps.',
    status: 200,
    response: Trace,
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, RouteSpec>;
