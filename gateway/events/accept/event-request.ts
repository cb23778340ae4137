/** The request of an event that did not come as one: from a batch, a schedule, a destination. Pure. */
import type { z } from 'zod';
import type { EventRequestHead } from '../../../sdk/protocol/events.ts';
import type { HeaderList } from '../../../sdk/protocol/invocation.ts';
import type { EventHead } from '../../../infra/events/record.ts';

/** `baseUrl` is what the function sees as its host. */
export function createRequest(
  { method, path, headers, body }: z.output<typeof EventRequestHead>,
  baseUrl: string,
  bodyBase64?: string,
): { head: EventHead; body: Buffer } {
  const content = encodeBody(body, bodyBase64);
  return {
    head: { method, url: new URL(path, baseUrl).href, headers: createHeaders(headers, content) },
    body: content.bytes,
  };
}

interface Content {
  readonly bytes: Buffer;
  readonly type: string | undefined;
}

function encodeBody(body: unknown, base64: string | undefined): Content {
  if (base64 !== undefined) return { bytes: Buffer.from(base64, 'base64'), type: 'application/octet-stream' };
  if (body === undefined) return { bytes: Buffer.alloc(0), type: undefined };
  if (typeof body === 'string') return { bytes: Buffer.from(body), type: 'text/plain; charset=utf-8' };
  return { bytes: Buffer.from(JSON.stringify(body)), type: 'application/json' };
}

function createHeaders(given: Readonly<Record<string, string>>, { bytes, type }: Content): HeaderList {
  const headers = Object.entries(given).map(([name, value]): [string, string] => [name.toLowerCase(), value]);
  const has = (name: string) => headers.some(([known]) => known === name);
  if (type !== undefined && !has('content-type')) headers.push(['content-type', type]);
  return [...headers.filter(([name]) => name !== 'content-length'), ['content-length', String(bytes.length)]];
}
