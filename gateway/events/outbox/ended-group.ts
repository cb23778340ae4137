/** What an event is told that has waited for a group: a batch of the CloudEvents that destinations get, in order. */
import { GROUP_BODY_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import type { EventRecords } from '../../../infra/events/cells/event-cells.ts';
import { createEndedEvent } from './ended-event.ts';

export const GROUP_CONTENT_TYPE = 'application/cloudevents-batch+json';
const READ_AT_ONCE = 50;

/** Members whose record has expired meanwhile are left out, and results beyond GROUP_BODY_BYTES_MAX. */
export async function describeGroup(store: EventRecords, ids: readonly string[]): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for (let at = 0; at < ids.length; at += READ_AT_ONCE) {
    const records = await store.getMany(ids.slice(at, at + READ_AT_ONCE));
    const results = await Promise.all(records.map(({ id }) => store.getResult(id)));
    for (const [i, record] of records.entries()) {
      const whole = createEndedEvent(record, results[i]).body;
      const isTooMuch = bytes + whole.length > GROUP_BODY_BYTES_MAX;
      const part = isTooMuch ? createEndedEvent(record, undefined).body : whole;
      bytes += part.length;
      parts.push(Buffer.from(parts.length === 0 ? '[' : ','), part);
    }
  }
  return Buffer.concat(parts.length === 0 ? [Buffer.from('[]')] : [...parts, Buffer.from(']')]);
}
