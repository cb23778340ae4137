/** A client's request as the function sees it: the gateway's rules for headers, without what only a proxy needs. */
import type { IncomingMessage } from 'node:http';
import { Header, HOP_BY_HOP } from '../../protocol/http.ts';
import type { RequestHead } from '../../protocol/invocation.ts';
import { NAME_PATTERN } from '../../protocol/manifest.ts';

const REPLACED: ReadonlySet<string> = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  Header.invocationId,
  Header.attempt,
]);

export function createRequestHead(
  request: IncomingMessage,
  path: string,
  id: string,
  timeoutMs: number,
): RequestHead {
  const headers: [string, string][] = [];
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = (request.rawHeaders[i] as string).toLowerCase();
    if (!HOP_BY_HOP.has(name) && !REPLACED.has(name))
      headers.push([name, request.rawHeaders[i + 1] as string]);
  }
  const host = request.headers.host ?? 'localhost';
  const address = request.socket.remoteAddress?.replace(/^::ffff:/, '') ?? 'unknown';
  const node = address.includes(':') ? `"[${address}]"` : address;
  headers.push(['forwarded', `for=${node};host="${host}";proto=http`]);
  headers.push(['x-forwarded-for', address], ['x-forwarded-proto', 'http'], ['x-forwarded-host', host]);
  headers.push([Header.invocationId, id]);
  const { traceparent } = request.headers;
  return {
    id,
    method: request.method ?? 'GET',
    url: `http://${host}${path}`,
    headers,
    deadlineMs: Date.now() + timeoutMs,
    ...(typeof traceparent === 'string' ? { traceparent } : {}),
  };
}

export interface DevTarget {
  /** Undefined: whatever function is meant when none is named. */
  readonly name: string | undefined;
  /** Path and query for the function, beginning with "/". */
  readonly path: string;
}

/** `/f/<name>/…` as on a server, or the host `<name>.localhost`. */
export function parseTarget(url: string, host: string | undefined): DevTarget {
  const named = /^\/f\/([^/?]+)(.*)$/s.exec(url);
  if (named?.[1] !== undefined && NAME_PATTERN.test(named[1])) {
    const rest = named[2] ?? '';
    return { name: named[1], path: rest.startsWith('/') ? rest : `/${rest}` };
  }
  const byHost = /^([a-z0-9-]+)\.localhost(?::\d+)?$/i.exec(host ?? '');
  return { name: byHost?.[1]?.toLowerCase(), path: url };
}
