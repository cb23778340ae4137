/**
 * Turns a client's request line and headers into what the function sees. Pure.
 * The function gets the path after its name, the real client address in Forwarded and X-Forwarded-*, and no
 * hop-by-hop header. Nothing here decodes or normalises the path: `..` and `%2f` stay the function's business and
 * cannot name another function, because the name is cut off the raw path first.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Header, HOP_BY_HOP } from '../../sdk/protocol/http.ts';
import { FUNCTION_NAME_PATTERN, NAME_PATTERN } from '../../sdk/protocol/manifest.ts';

export interface Target {
  readonly name: string;
  /** A deployment's id or an alias, from `name@version`; absent: whatever is live. */
  readonly version?: string;
  /** Path and query for the function, beginning with "/". */
  readonly path: string;
}

const PREFIX = '/f/';

/** Undefined when the URL is not an invocation or its name cannot be one. */
export function tryParseTarget(url: string): Target | undefined {
  if (!url.startsWith(PREFIX)) return undefined;
  const rest = url.slice(PREFIX.length);
  const end = rest.search(/[/?]/);
  const subject = end === -1 ? rest : rest.slice(0, end);
  const at = subject.indexOf('@');
  const name = at === -1 ? subject : subject.slice(0, at);
  if (name.length > 63 || !FUNCTION_NAME_PATTERN.test(name)) return undefined;
  const tail = end === -1 ? '' : rest.slice(end);
  const path = tail.startsWith('/') ? tail : `/${tail}`;
  if (at === -1) return { name, path };
  const version = subject.slice(at + 1);
  return version.length <= 63 && NAME_PATTERN.test(version) ? { name, version, path } : undefined;
}

/** What keeps a caller on one of an alias's deployments: a header, or a cookie of that name. */
export function stickyKey(request: IncomingMessage): string | undefined {
  const header = request.headers[Header.stickyKey];
  if (typeof header === 'string' && header !== '') return header;
  const { cookie } = request.headers;
  return cookie === undefined ? undefined : /(?:^|;\s*)skiff-sticky-key=([^;]{1,256})/.exec(cookie)?.[1];
}

const HOST_PATTERN = /^[a-z0-9.:[\]_-]{1,255}$/i;

/** Undefined when the Host header cannot be part of a URL. */
export function tryBuildUrl(request: IncomingMessage, path: string): string | undefined {
  const host = request.headers.host ?? 'localhost';
  return HOST_PATTERN.test(host) ? `http://${host}${path}` : undefined;
}

const REPLACED: ReadonlySet<string> = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'traceparent',
  Header.invocationId,
  Header.attempt,
  Header.caller,
]);

/** Name and value pairs for the guest: lower case, in order, duplicates kept. */
export function buildHeaders(request: IncomingMessage, isTrustedProxy: boolean): [string, string][] {
  const headers: [string, string][] = [];
  const raw = request.rawHeaders;
  const named = connectionNames(request.headers.connection);
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] as string).toLowerCase();
    if (HOP_BY_HOP.has(name) || REPLACED.has(name) || named?.has(name)) continue;
    headers.push([name, raw[i + 1] as string]);
  }
  const address = request.socket.remoteAddress?.replace(/^::ffff:/, '') ?? 'unknown';
  const host = request.headers.host ?? '';
  const earlier = isTrustedProxy ? request.headers['x-forwarded-for'] : undefined;
  const node = address.includes(':') ? `"[${address}]"` : address;
  headers.push(['forwarded', `for=${node};host="${host}";proto=http`]);
  headers.push(['x-forwarded-for', earlier ? `${String(earlier)}, ${address}` : address]);
  headers.push(['x-forwarded-proto', 'http'], ['x-forwarded-host', host]);
  return headers;
}

/** RFC 9110 §7.6.1: headers that Connection names are hop-by-hop too. */
function connectionNames(value: string | undefined): Set<string> | undefined {
  if (value === undefined || value === 'keep-alive' || value === 'close') return undefined;
  return new Set(
    value
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
}

/** Whether it may be for a queue or a record of answers: a preference, a key, or a batch of events. */
export function asksForMore(headers: IncomingHttpHeaders): boolean {
  return (
    headers.prefer !== undefined ||
    headers['idempotency-key'] !== undefined ||
    headers['content-type']?.startsWith('application/cloudevents-batch') === true
  );
}
