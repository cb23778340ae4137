/** One span, one log line and one count for each request to the control API. */
import { SpanKind, context, trace } from '@opentelemetry/api';
import type { MiddlewareHandler } from 'hono';
import type { HttpBindings } from '@hono/node-server';
import type { Log } from '../../infra/lib/log.ts';
import type { Metrics } from '../../infra/lib/metrics.ts';
import { startSpan } from '../../infra/lib/telemetry.ts';
import { Header } from '../../sdk/protocol/http.ts';
import type { RequestVariables } from '../routes/route.ts';

type ApiMiddleware = MiddlewareHandler<{ Bindings: HttpBindings; Variables: RequestVariables }>;

/** `route` is the path with its parameters' names, so that names of functions do not become metric labels. */
export function createObserver(log: Log, metrics: Metrics): (route: string) => ApiMiddleware {
  const requests = metrics.counter('skiff_api_requests_total', 'Requests to the control API.');
  const seconds = metrics.histogram('skiff_api_request_seconds', 'Time to the head of the answer.');
  return (route) => {
    // Probes come every second and say nothing new.
    const level = route === '/healthz' || route === '/readyz' || route === '/metrics' ? 'debug' : 'info';
    return async (c, next) => {
      const { method } = c.req;
      const startMs = performance.now();
      const span = startSpan(`${method} ${route}`, {
        kind: SpanKind.SERVER,
        traceparent: c.req.header(Header.traceparent),
        attributes: { 'http.request.method': method, 'http.route': route },
      });
      await context.with(trace.setSpan(context.active(), span), async () => {
        await next();
        const { status } = c.res;
        const ms = performance.now() - startMs;
        requests.add({ method, route, status: String(status) });
        seconds.observe(ms / 1000, { method, route });
        log[level](
          {
            requestId: c.var.requestId,
            method,
            path: c.req.path,
            status,
            ms: Math.round(ms * 10) / 10,
            token: c.var.token?.id,
          },
          'request',
        );
        span.setAttribute('http.response.status_code', status);
      });
      span.end();
    };
  };
}
