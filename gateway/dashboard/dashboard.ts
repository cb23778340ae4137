/**
 * The dashboard: a page under /dashboard that talks to the control API with a token its user gives it.
 *
 * Invariant: it is served on an origin of its own (another port), on which there are no functions. Pages that functions
 * answer with on the gateway's own origin could otherwise read its token or act in its name, and no header prevents that
 * between pages of one origin. The gateway's /dashboard leads to it. Deliberately absent: cookies, and any data of its own.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { Hono } from 'hono';
import type { Log } from '../../infra/lib/log.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { App } from '../app.ts';
import { toProblemResponse } from '../middleware/problem.ts';
import { PageFiles } from './page-files.ts';

export const DASHBOARD_PATH = '/dashboard';

/** Nothing but this origin's own script and style; nothing that turns text into markup or code. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

const HEADERS = {
  'content-security-policy': POLICY,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'permissions-policy': 'camera=(), microphone=(), geolocation=(), payment=()',
  'cache-control': 'no-cache',
} as const;

/** What the dashboard's own port serves: the page, and the control API for it. */
export function createDashboardApp(api: App, log: Log): App {
  const files = new PageFiles(log);
  const app: App = new Hono();
  app.get('/', (c) => c.redirect(DASHBOARD_PATH));
  app.on(['GET', 'HEAD'], [DASHBOARD_PATH, `${DASHBOARD_PATH}/:file`], async (c) => {
    const file = await files.tryGet(c.req.param('file') ?? '');
    if (!file) {
      const error = new SkiffError(
        'NOT_FOUND',
        `there is no ${c.req.path}; the dashboard is at ${DASHBOARD_PATH}`,
      );
      return toProblemResponse(error, createId('req'));
    }
    const headers = { ...HEADERS, 'content-type': file.type, etag: file.etag };
    return c.req.header('if-none-match') === file.etag
      ? c.body(null, 304, headers)
      : c.body(file.body, 200, headers);
  });
  app.all('*', (c) => api.fetch(c.req.raw, c.env));
  return app;
}

/** Listens on `port`; when it is only the usual one and is taken, on any. Undefined when it cannot. */
export async function listenForDashboard(
  server: Server,
  { host, port, isGiven }: { readonly host: string; readonly port: number; readonly isGiven: boolean },
  log: Log,
): Promise<number | undefined> {
  for (const one of isGiven ? [port] : [port, 0]) {
    try {
      server.listen({ host, port: one });
      await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    } catch (error) {
      log.warn({ error, port: one }, 'the dashboard cannot listen there');
    }
  }
  return undefined;
}

/** From the gateway's origin to the dashboard's, by whatever name the gateway was reached. */
export function addDashboardRedirect(app: App, readPort: () => number | undefined): void {
  app.get(DASHBOARD_PATH, (c) => {
    const port = readPort();
    const host = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::\d+)?$/i.exec(c.req.header('host') ?? '')?.[1];
    if (port !== undefined && host !== undefined)
      return c.redirect(`http://${host}:${port}${DASHBOARD_PATH}`);
    const error = new SkiffError('NOT_FOUND', 'this gateway serves no dashboard; see SKIFF_DASHBOARD_PORT');
    return toProblemResponse(error, c.var.requestId);
  });
}
