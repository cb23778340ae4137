/**
 * Answers that are a stream of JSON lines, or of server-sent events. Invariant: nothing is read ahead of the client (a slow one slows only
 * itself), the generator ends when the client leaves or the gateway stops, and at most FOLLOWERS_MAX run at once.
 */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { FOLLOWERS_MAX } from '../../sdk/protocol/limits.ts';

export type LineStreamer = (
  signal: AbortSignal,
  open: (signal: AbortSignal) => AsyncGenerator<unknown>,
) => Promise<Response>;

/** How one value is written. */
export interface LineFormat {
  readonly mediaType: string;
  readonly write: (value: unknown) => string;
}

export const JSON_LINES: LineFormat = {
  mediaType: 'application/x-ndjson',
  write: (value) => `${JSON.stringify(value)}\n`,
};
/** JSON has no line breaks, so that one `data` field holds it (HTML Standard, 9.2). */
export const SERVER_SENT_EVENTS: LineFormat = {
  mediaType: 'text/event-stream',
  write: (value) => `data: ${JSON.stringify(value)}\n\n`,
};

/** The streams made by one streamer are counted together and end when `stopping` fires. */
export function createLineStreamer(
  stopping: AbortSignal,
  onFailure: (error: unknown) => void,
  format: LineFormat = JSON_LINES,
): LineStreamer {
  let open = 0;
  return async (signal, openLines) => {
    if (open >= FOLLOWERS_MAX) {
      throw new SkiffError(
        'OVERLOADED',
        `${open} streams are open on this gateway, which is the limit; try again later`,
      );
    }
    open += 1;
    const left = new AbortController();
    let isOpen = true;
    const close = () => {
      if (isOpen) open -= 1;
      isOpen = false;
      for (const source of [signal, stopping]) source.removeEventListener('abort', close);
      left.abort();
    };
    // By hand: AbortSignal.any keeps something of every stream on the signal that lives longest.
    for (const source of [signal, stopping]) source.addEventListener('abort', close);
    const lines = openLines(left.signal);
    if (signal.aborted || stopping.aborted) close();
    return new Response(toByteStream(lines, format, close, onFailure), {
      headers: {
        'content-type': format.mediaType,
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      },
    });
  };
}

function toByteStream(
  lines: AsyncGenerator<unknown>,
  format: LineFormat,
  close: () => void,
  onFailure: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await lines.next();
          if (!done) return controller.enqueue(encoder.encode(format.write(value)));
          close();
          controller.close();
        } catch (error) {
          close();
          onFailure(error);
          // The head is sent: cutting the connection is the only way left to say that the end is not the end.
          controller.error(error);
        }
      },
      cancel: close,
    },
    { highWaterMark: 0 },
  );
}
