/** What a function says when it calls another, in the one form that is sent. */
import type { InvokeInit } from '../../protocol/context.ts';
import { HOP_BY_HOP } from '../../protocol/http.ts';
import { LightHeaders } from '../web/light-headers.ts';
import type { CallInit } from './outgoing.ts';

/** @throws TypeError when it makes no sense */
export function fromInvokeInit(init: InvokeInit): CallInit {
  const { path = '/', body, json, signal } = init;
  if (body !== undefined && json !== undefined) throw new TypeError('give body or json, not both');
  const headers = [...new LightHeaders(init.headers)];
  const hasType = headers.some(([name]) => name === 'content-type');
  const given = json === undefined ? body : JSON.stringify(json);
  if (!hasType && json !== undefined) headers.push(['content-type', 'application/json']);
  if (!hasType && json === undefined && typeof body === 'string')
    headers.push(['content-type', 'text/plain;charset=UTF-8']);
  return {
    method: (init.method ?? (given === undefined ? 'GET' : 'POST')).toUpperCase(),
    path: path.startsWith('/') ? path : `/${path}`,
    headers: headers.filter(isSent),
    body: typeof given === 'string' ? Buffer.from(given) : given,
    signal,
  };
}

/** Of a fetch. */
export function fromRequest(request: Request): CallInit {
  const { pathname, search } = new URL(request.url);
  return {
    method: request.method,
    path: `${pathname}${search}`,
    headers: [...request.headers].filter(isSent),
    body: request.body ?? undefined,
    signal: request.signal,
  };
}

function isSent([name]: readonly [string, string]): boolean {
  return !HOP_BY_HOP.has(name) && name !== 'host' && name !== 'content-length';
}
