/** What a destination is told: a CloudEvent (1.0, structured JSON) about the end of an invocation. Pure. */
import type { InvocationRecord } from '../../../sdk/protocol/events.ts';
import { DESTINATION_BODY_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import type { StoredResult } from '../../../infra/events/store.ts';

export const ENDED_CONTENT_TYPE = 'application/cloudevents+json; charset=utf-8';

export interface EndedEvent {
  readonly id: string;
  readonly body: Buffer;
}

export function createEndedEvent(record: InvocationRecord, result: StoredResult | undefined): EndedEvent {
  // A replayed invocation ends again: that is another event. A repeated try is not.
  const id = `${record.id}-${record.replays}`;
  const { functionName, state, reason, attempts, acceptedMs, endedMs = Date.now() } = record;
  const event = {
    specversion: '1.0',
    id,
    source: `/v1/functions/${functionName}`,
    type: `skiff.invocation.${state}`,
    subject: record.id,
    time: new Date(endedMs).toISOString(),
    datacontenttype: 'application/json',
    data: {
      invocation: record.id,
      function: functionName,
      state,
      ...(reason ? { reason } : {}),
      acceptedMs,
      endedMs,
      attempts: attempts.length,
      ...describeLast(attempts.at(-1)),
      ...(result ? { result: describeResult(result) } : {}),
    },
  };
  return { id, body: Buffer.from(JSON.stringify(event)) };
}

function describeLast(last: InvocationRecord['attempts'][number] | undefined) {
  if (!last) return {};
  return { outcome: last.outcome, ...(last.message === undefined ? {} : { message: last.message }) };
}

/** Text and JSON are readable in it; other bodies, and large ones, are fetched from the API. */
function describeResult({ head, body, blob }: StoredResult) {
  const type = head.headers.find(([name]) => name === 'content-type')?.[1];
  const described = { status: head.status, contentType: type, bytes: head.bytes };
  if (blob || body.length > DESTINATION_BODY_BYTES_MAX) return described;
  if (/^application\/(?:[\w.+-]+\+)?json\b/.test(type ?? '')) {
    try {
      return { ...described, body: JSON.parse(body.toString('utf8')) as unknown };
    } catch {
      // It says JSON and is not: then it is a text.
    }
  }
  const text = body.toString('utf8');
  return Buffer.from(text).equals(body)
    ? { ...described, body: text }
    : { ...described, bodyBase64: body.toString('base64') };
}
