/**
 * CloudEvents 1.0 as the HTTP binding brings them: binary (ce- headers), structured and batched (JSON). A function gets
 * every one in binary mode. Pure. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
 */
import type { IncomingHttpHeaders } from 'node:http';
import { createHash } from 'node:crypto';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { HeaderList } from '../../../sdk/protocol/invocation.ts';
import { EVENTS_PER_BATCH_MAX } from '../../../sdk/protocol/limits.ts';

export type CloudEventMode = 'binary' | 'structured' | 'batch';

export interface BinaryCloudEvent {
  /** `content-type`, `content-length` and the ce- headers. */
  readonly headers: HeaderList;
  readonly body: Buffer;
}

const STRUCTURED = 'application/cloudevents+json';
const BATCH = 'application/cloudevents-batch+json';
const REQUIRED = ['id', 'source', 'specversion', 'type'] as const;
const NAME = /^[a-z0-9]{1,64}$/;

/** Undefined when the request is no CloudEvent; it may be an ordinary one then. */
export function cloudEventMode(headers: IncomingHttpHeaders): CloudEventMode | undefined {
  const [type = ''] = (headers['content-type'] ?? '').toLowerCase().split(';');
  if (type.trim() === STRUCTURED) return 'structured';
  if (type.trim() === BATCH) return 'batch';
  return REQUIRED.every((name) => headers[`ce-${name}`] !== undefined) ? 'binary' : undefined;
}

/** @throws SkiffError BAD_REQUEST that names what is wrong */
export function parseCloudEvents(mode: 'structured' | 'batch', body: Buffer): BinaryCloudEvent[] {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    throw new SkiffError('BAD_REQUEST', 'the body says that it is a CloudEvent and is not JSON');
  }
  if (mode === 'structured') return [toBinary(value, 'the event')];
  if (!Array.isArray(value)) throw new SkiffError('BAD_REQUEST', 'a batch of CloudEvents is a JSON array');
  if (value.length > EVENTS_PER_BATCH_MAX) {
    const text = `the batch has ${value.length} events; the limit is ${EVENTS_PER_BATCH_MAX}: send several`;
    throw new SkiffError('BAD_REQUEST', text);
  }
  return value.map((event, i) => toBinary(event, `event ${i + 1} of the batch`));
}

function toBinary(value: unknown, what: string): BinaryCloudEvent {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new SkiffError('BAD_REQUEST', `${what} is not a JSON object`);
  const { data, data_base64: base64, datacontenttype, ...attributes } = value as Record<string, unknown>;
  for (const name of REQUIRED) {
    const given = attributes[name];
    if (typeof given !== 'string' || given === '')
      throw new SkiffError('BAD_REQUEST', `${what} has no attribute "${name}", which CloudEvents require`);
  }
  if (attributes['specversion'] !== '1.0')
    throw new SkiffError(
      'BAD_REQUEST',
      `${what} has specversion ${String(attributes['specversion'])}; 1.0 is known`,
    );
  const headers: [string, string][] = [];
  for (const [name, attribute] of Object.entries(attributes)) {
    if (!NAME.test(name) || !['string', 'number', 'boolean'].includes(typeof attribute))
      throw new SkiffError(
        'BAD_REQUEST',
        `${what} has an attribute "${name.slice(0, 64)}" that CloudEvents do not allow`,
      );
    headers.push([`ce-${name}`, encodeValue(String(attribute))]);
  }
  const type = typeof datacontenttype === 'string' ? datacontenttype : 'application/json';
  const body = encodeData(data, base64, type, what);
  if (body.length > 0) headers.push(['content-type', encodeValue(type)]);
  headers.push(['content-length', String(body.length)]);
  return { headers, body };
}

function encodeData(data: unknown, base64: unknown, type: string, what: string): Buffer {
  if (base64 !== undefined) {
    if (typeof base64 === 'string' && data === undefined && /^[A-Za-z0-9+/]*={0,2}$/.test(base64))
      return Buffer.from(base64, 'base64');
    throw new SkiffError('BAD_REQUEST', `${what} has a data_base64 that is not base64, or data beside it`);
  }
  if (data === undefined) return Buffer.alloc(0);
  const isJson = /^[^;]*[/+]json\b/i.test(type);
  return Buffer.from(!isJson && typeof data === 'string' ? data : JSON.stringify(data));
}

/** §3.1.3.2: everything that is not printable ASCII, and space, `"` and `%`. */
function encodeValue(value: string): string {
  return value.replace(/[^\x21\x23\x24\x26-\x7e]/gu, (character) =>
    [...Buffer.from(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );
}

/** Events of one source and id are one event (§3.1.1 of the specification): the same as an idempotency key. */
export function cloudEventKey(headers: Readonly<Record<string, string | string[] | undefined>>): string {
  const text = `${String(headers['ce-source'])}\n${String(headers['ce-id'])}`;
  return `cloudevent-${createHash('sha256').update(text).digest('hex')}`;
}
