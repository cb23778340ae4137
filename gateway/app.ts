/**
 * The control API: one Hono app made from the route table (routes/table.ts) and its handlers.
 * Invariant: every answer carries a request id and the security headers; every failure is a problem document.
 * Deliberately absent: invocations (/f/<name>), which never pass through here, and listening (main.ts).
 */
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import { SkiffError } from '../sdk/protocol/errors.ts';
import { Header } from '../sdk/protocol/http.ts';
import { createId } from '../sdk/protocol/ids.ts';
import { createEventHandlers } from './events/routes/handlers.ts';
import { authorize, type Concern } from './middleware/auth.ts';
import { parseInput, readJson } from './middleware/input.ts';
import { createObserver } from './middleware/observe.ts';
import { classify, toProblemResponse } from './middleware/problem.ts';
import type { GatewayParts } from './parts.ts';
import { createBuildHandlers } from './routes/builds.ts';
import { createFunctionHandlers } from './routes/functions.ts';
import { createLineStreamer, SERVER_SENT_EVENTS } from './routes/lines.ts';
import { createLogHandlers } from './routes/logs.ts';
import { createPlatformHandlers } from './routes/platform.ts';
import type { ApiContext, Handlers, RequestVariables } from './routes/route.ts';
import { ROUTES, type RouteId, type RouteSpec } from './routes/table.ts';
import { createRegistryHandlers } from './registries/handlers.ts';
import { createSecretHandlers } from './secrets/handlers.ts';
import { createTokenHandlers } from './routes/tokens.ts';
import { createStatsHandlers } from './stats/handlers.ts';
import { createTraceHandlers } from './stats/trace.ts';
import { createUploadHandlers } from './routes/uploads.ts';
import { createUsageHandlers } from './routes/usage.ts';
import { createExplainHandlers } from './swarm/explain.ts';
import { createNodeHandlers, createSwarmHandlers } from './swarm/handlers.ts';
import { createServiceHandlers } from './swarm/service/handlers.ts';
import { createVolumeHandlers } from './swarm/volumes.ts';

export type App = Hono<{ Bindings: HttpBindings; Variables: RequestVariables }>;

/** The answers are data, never pages: nothing may frame, sniff or cache them. */
const securityHeaders = secureHeaders({
  contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
  xFrameOptions: 'DENY',
  // Whether there is TLS is known to whoever terminates it, not here.
  strictTransportSecurity: false,
  referrerPolicy: 'no-referrer',
});

export function createApp(parts: GatewayParts): App {
  const app: App = new Hono();
  const observe = createObserver(parts.log, parts.metrics);
  app.use(async (c, next) => {
    c.set('requestId', createId('req'));
    await next();
    c.res.headers.set(Header.requestId, c.var.requestId);
    if (!c.res.headers.has('cache-control')) c.res.headers.set('cache-control', 'no-store');
  });
  app.use(securityHeaders);
  app.onError((error, c) => {
    const known = classify(error);
    if (known.row.fault === 'platform') {
      parts.log.error(
        { error, requestId: c.var.requestId, method: c.req.method, path: c.req.path },
        known.code,
      );
    }
    return toProblemResponse(known, c.var.requestId);
  });
  app.notFound((c) => {
    const error = new SkiffError(
      'NOT_FOUND',
      `there is no ${c.req.path}; GET /openapi.json lists what there is`,
    );
    return toProblemResponse(error, c.var.requestId);
  });
  const handlers = createHandlers(parts);
  for (const [id, spec] of Object.entries(ROUTES) as [RouteId, RouteSpec][]) {
    app.on(spec.method, spec.path, observe(spec.path), (c) => handle(parts, spec, handlers[id], c));
  }
  refuseOtherMethods(app, observe);
  return app;
}

function createHandlers(parts: GatewayParts): Handlers {
  const onCut = (error: unknown): void => parts.log.warn({ error }, 'stream cut');
  const streamLines = createLineStreamer(parts.stopping, onCut);
  const streamEvents = createLineStreamer(parts.stopping, onCut, SERVER_SENT_EVENTS);
  return {
    ...createUploadHandlers(parts),
    ...createBuildHandlers(parts, streamLines),
    ...createFunctionHandlers(parts),
    ...createLogHandlers(parts, streamLines),
    ...createSwarmHandlers(parts),
    ...createNodeHandlers(parts),
    ...createServiceHandlers(parts),
    ...createVolumeHandlers(parts),
    ...createExplainHandlers(parts),
    ...createUsageHandlers(parts),
    ...createStatsHandlers(parts, streamEvents),
    ...createTraceHandlers(parts),
    ...createEventHandlers(parts),
    ...createTokenHandlers(parts),
    ...createSecretHandlers(parts),
    ...createRegistryHandlers(parts),
    ...createPlatformHandlers(parts),
  };
}

/** Routes of one function: `name` is a function's here, and something else's in other paths. */
const FUNCTION_PATH = '/v1/functions/:name';

/** What a request is about, as far as its route tells. */
function concernOf({ path, bound }: RouteSpec, c: ApiContext): Concern {
  const name = c.req.param('name');
  if (path.startsWith(FUNCTION_PATH)) return { functionName: name };
  return bound === 'name' ? { name } : { isSorted: bound === 'sorted' };
}

async function handle(
  parts: GatewayParts,
  spec: RouteSpec,
  handler: Handlers[RouteId],
  c: ApiContext,
): Promise<Response> {
  // A stream cannot tell what its head would be without being opened, and nobody would close it again.
  if ((spec.media === 'ndjson' || spec.media === 'sse') && c.req.raw.method === 'HEAD')
    throw methodNotAllowed(c, [spec.method]);
  if (spec.scope !== 'public') {
    const authorization = c.req.header('authorization');
    c.set('token', await authorize(parts.verifyToken, authorization, spec.scope, concernOf(spec, c)));
  }
  const input = {
    ...c.req.param(),
    query: spec.query && parseInput(spec.query, c.req.query(), 'query'),
    body:
      spec.body && spec.body !== 'bytes'
        ? parseInput(spec.body, await readJson(c.req.raw), 'body')
        : undefined,
    // Made on first use: most handlers never look, and a signal for each request is not free.
    get signal() {
      return c.req.raw.signal;
    },
  };
  // The table's types tie each handler to its own input; the loop over the table loses that tie.
  const result = await (handler as (input: unknown, c: ApiContext) => Promise<unknown>)(input, c);
  if (result instanceof Response) return result;
  if (result === undefined) return c.body(null, 204);
  return c.json(result as object, spec.status as 200);
}

/** 405 with Allow (RFC 9110 §15.5.6) where the path exists and the method does not. */
function refuseOtherMethods(app: App, observe: ReturnType<typeof createObserver>): void {
  const methods = new Map<string, string[]>();
  for (const { method, path } of Object.values(ROUTES)) {
    methods.set(path, [...(methods.get(path) ?? []), method]);
  }
  for (const [path, allowed] of methods) {
    app.all(path, observe(path), (c) => {
      c.header('allow', allowed.join(', '));
      const error = methodNotAllowed(c, allowed);
      return toProblemResponse(error, c.var.requestId, { allow: allowed.join(', ') });
    });
  }
}

function methodNotAllowed(c: ApiContext, allowed: readonly string[]): SkiffError {
  return new SkiffError(
    'METHOD_NOT_ALLOWED',
    `${c.req.raw.method} ${c.req.path} is not a thing; it has ${allowed.join(', ')}`,
  );
}
