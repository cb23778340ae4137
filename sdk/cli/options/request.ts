/** What a call of a function is made of on the command line: method, headers, query, and a body from anywhere. */
import { createReadStream, existsSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { usage } from '../failure.ts';
import type { Session } from '../session.ts';
import { parseAssignment, parseHeader } from './parse.ts';

export interface RequestOptions {
  readonly data?: string | undefined;
  readonly method?: string | undefined;
  readonly header?: readonly string[] | undefined;
  readonly query?: readonly string[] | undefined;
}

export interface CallRequest {
  readonly path: string;
  readonly headers: [string, string][];
  readonly signal: AbortSignal;
  readonly method?: string;
  readonly body?: string | (() => AsyncIterable<Uint8Array>);
}

export function readRequest(session: Session, path: string, options: RequestOptions): CallRequest {
  const data = options.data === undefined ? undefined : readData(session, options.data);
  const headers = (options.header ?? []).map(parseHeader);
  if (data && !headers.some(([header]) => header.toLowerCase() === 'content-type')) {
    headers.push(['content-type', data.type]);
  }
  return {
    path: addQuery(path, (options.query ?? []).map(parseAssignment)),
    headers,
    signal: session.signal,
    ...(options.method === undefined ? {} : { method: options.method.toUpperCase() }),
    ...(data === undefined ? {} : { body: data.body }),
  };
}

function addQuery(path: string, query: readonly (readonly [string, string])[]): string {
  if (query.length === 0) return path;
  const text = query.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  return `${path}${path.includes('?') ? '&' : '?'}${text}`;
}

interface Data {
  readonly body: string | (() => AsyncIterable<Uint8Array>);
  readonly type: string;
}

const TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.csv': 'text/csv; charset=utf-8',
  '.xml': 'application/xml',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
};

function readData(session: Session, data: string): Data {
  if (data === '-' || data === '@-') {
    if (session.stdin.isTTY)
      session.output.err.line('reading the body from the terminal; end it with Ctrl-D');
    return { body: () => session.stdin, type: 'application/octet-stream' };
  }
  if (data.startsWith('@')) {
    const path = resolve(session.cwd, data.slice(1));
    if (!existsSync(path))
      throw usage(`${path} does not exist`, `a text that begins with @ goes through standard input: -d -`);
    return {
      body: () => createReadStream(path),
      type: TYPES[extname(path).toLowerCase()] ?? 'application/octet-stream',
    };
  }
  return { body: data, type: isJson(data) ? 'application/json' : 'text/plain; charset=utf-8' };
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}
