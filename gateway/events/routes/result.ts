/** Stored results as answers: the function's own status, headers and body, as if it had been called directly. */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Header } from '../../../sdk/protocol/http.ts';
import type { StoredResult } from '../../../infra/events/store.ts';
import type { EventParts } from '../parts.ts';

interface Answer {
  readonly status: number;
  readonly headers: [string, string][];
  readonly body: Buffer | Readable;
}

type ResultParts = Pick<EventParts, 'store' | 'payloads'>;

/** Undefined when there is none (any more). */
async function tryOpen(parts: ResultParts, id: string): Promise<Answer | undefined> {
  const result = await parts.store.getResult(id);
  return result && openAnswer(parts, id, result);
}

async function openAnswer(
  { payloads }: Pick<ResultParts, 'payloads'>,
  id: string,
  result: StoredResult,
): Promise<Answer> {
  const { status, headers, bytes, isCut } = result.head;
  return {
    status,
    headers: [
      ...headers.map(([name, value]): [string, string] => [name, value]),
      [Header.invocationId, id],
      ...(result.blob || isBodiless(status)
        ? []
        : [['content-length', String(result.body.length)] as [string, string]]),
      ...(isCut ? [['skiff-result-cut', String(bytes)] as [string, string]] : []),
    ],
    body: result.blob ? await payloads.open(result.blob) : result.body,
  };
}

const isBodiless = (status: number): boolean => status === 204 || status === 304;

export async function tryCreateResultResponse(parts: ResultParts, id: string): Promise<Response | undefined> {
  const answer = await tryOpen(parts, id);
  if (!answer) return undefined;
  const { status, headers, body } = answer;
  if (isBodiless(status)) return new Response(null, { status, headers });
  const content = Buffer.isBuffer(body)
    ? new Uint8Array(body)
    : (Readable.toWeb(body) as ReadableStream<Uint8Array>);
  return new Response(content, { status, headers });
}

/** False when there is no result; nothing is written then. */
export async function writeResult(
  parts: ResultParts,
  id: string,
  response: ServerResponse,
): Promise<boolean> {
  const result = await parts.store.getResult(id);
  if (!result) return false;
  await writeStored(parts, id, result, response);
  return true;
}

export async function writeStored(
  parts: Pick<ResultParts, 'payloads'>,
  id: string,
  result: StoredResult,
  response: ServerResponse,
  more: readonly (readonly [string, string])[] = [],
): Promise<void> {
  const { status, headers, body } = await openAnswer(parts, id, result);
  if (response.destroyed) return;
  response.writeHead(status, [...headers, ...more].flat());
  if (Buffer.isBuffer(body)) response.end(isBodiless(status) ? undefined : body);
  // The head is out: a body that fails in the middle can only be cut.
  else await pipeline(body, response).catch(() => response.destroy());
}
