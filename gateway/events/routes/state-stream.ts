/**
 * An invocation's changes as server-sent events: `state` with its record, first as it is, then whenever state or
 * attempts change, until it is final. Invariant: at most FOLLOWERS_MAX at once, and each ends with its client.
 */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { isFinal, type InvocationRecord } from '../../../sdk/protocol/events.ts';
import { FOLLOWERS_MAX } from '../../../sdk/protocol/limits.ts';
import type { EndWaiter } from '../accept/end-waiter.ts';
import type { EventRecords } from '../../../infra/events/cells/event-cells.ts';

export type StateStreamer = (id: string, signal: AbortSignal) => Response;

const LOOK_MS = 250;
/** Proxies close what is silent; a comment is not an event. */
const QUIET_MS = 15_000;

export function createStateStreamer(
  store: EventRecords,
  waiter: EndWaiter,
  stopping: AbortSignal,
): StateStreamer {
  let open = 0;
  return (id, signal) => {
    if (open >= FOLLOWERS_MAX) {
      throw new SkiffError(
        'OVERLOADED',
        `${open} streams are open on this gateway, which is the limit; poll instead`,
      );
    }
    open += 1;
    const states = follow(store, waiter, id, () => signal.aborted || stopping.aborted);
    const encoder = new TextEncoder();
    const stream = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { done, value } = await states.next().catch(() => ({ done: true, value: undefined }));
          if (!done) return controller.enqueue(encoder.encode(value as string));
          open -= 1;
          controller.close();
        },
        async cancel() {
          open -= 1;
          await states.return(undefined);
        },
      },
      { highWaterMark: 0 },
    );
    return new Response(stream, {
      headers: {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      },
    });
  };
}

async function* follow(
  store: EventRecords,
  waiter: EndWaiter,
  id: string,
  hasEnded: () => boolean,
): AsyncGenerator<string, void, undefined> {
  let shown = '';
  let quietSince = performance.now();
  while (!hasEnded()) {
    const record = await store.get(id);
    if (!record) return;
    const version = `${record.state} ${JSON.stringify(record.attempts)}`;
    if (version !== shown) {
      yield format(record);
      shown = version;
      quietSince = performance.now();
    } else if (performance.now() - quietSince > QUIET_MS) {
      yield ': nothing new\n\n';
      quietSince = performance.now();
    }
    if (isFinal(record.state)) return;
    await waiter.wait(id, LOOK_MS);
  }
}

function format(record: InvocationRecord): string {
  return `event: state\ndata: ${JSON.stringify(record)}\n\n`;
}
