/**
 * `fetch` over node:http, as far as the client needs it. The global one loads undici, which is 37 of the 72 ms a
 * request costs a fresh process; an ES import of node:http loads it too, hence `getBuiltinModule`.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { type ClientResponse, type FetchInit, readChunks } from '../../client/fetch.ts';

export interface HttpResponse extends ClientResponse {
  readonly body: IncomingMessage;
  readonly statusText: string;
  /** Name, value, name, value … as they came. */
  readonly rawHeaders: readonly string[];
}

export function httpFetch(url: string, init: FetchInit): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    const target = new URL(url);
    const http = process.getBuiltinModule(target.protocol === 'https:' ? 'node:https' : 'node:http');
    const request = http.request(target, {
      method: init.method,
      headers: groupHeaders(init.headers),
      ...(init.signal === undefined ? {} : { signal: init.signal }),
    });
    let hasResponse = false;
    request.on('response', (message) => {
      hasResponse = true;
      resolve(createResponse(message));
    });
    request.on('error', reject);
    sendBody(request, init.body).catch((error: Error) => {
      // A server may refuse a body before it has all of it; its answer is worth more than our broken pipe.
      if (!hasResponse) request.destroy(error);
    });
  });
}

/** Repeated names become lists: the array form of node:http would leave out `host`. */
function groupHeaders(headers: readonly (readonly [string, string])[]): Record<string, string[]> {
  const grouped: Record<string, string[]> = {};
  for (const [name, value] of headers) (grouped[name.toLowerCase()] ??= []).push(value);
  return grouped;
}

async function sendBody(request: ClientRequest, body: FetchInit['body']): Promise<void> {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
    request.end(body);
    return;
  }
  for await (const chunk of readChunks(body)) {
    if (request.destroyed) return;
    if (!request.write(chunk)) await drained(request);
  }
  request.end();
}

function drained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      request.off('drain', done);
      request.off('close', done);
      resolve();
    };
    request.on('drain', done);
    request.on('close', done);
  });
}

function createResponse(message: IncomingMessage): HttpResponse {
  return {
    status: message.statusCode as number,
    statusText: message.statusMessage ?? '',
    rawHeaders: message.rawHeaders,
    headers: {
      get(name) {
        const value = message.headers[name.toLowerCase()];
        return value === undefined ? null : Array.isArray(value) ? value.join(', ') : value;
      },
      *entries() {
        for (let i = 0; i + 1 < message.rawHeaders.length; i += 2) {
          yield [message.rawHeaders[i] as string, message.rawHeaders[i + 1] as string];
        }
      },
    },
    body: message,
    async text() {
      const chunks: Uint8Array[] = [];
      for await (const chunk of message as AsyncIterable<Uint8Array>) chunks.push(chunk);
      return Buffer.concat(chunks).toString('utf8');
    },
  };
}
