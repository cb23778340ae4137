/** Streams: each event leaves as soon as it is written, and the stream ends when the caller goes away. */
import { setTimeout as sleep } from 'node:timers/promises';

const encoder = new TextEncoder();

export default function handle(request: Request): Response {
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      for (let n = 10; n > 0 && !request.signal.aborted; n--) {
        controller.enqueue(encoder.encode(`data: ${n}\n\n`));
        await sleep(500);
      }
      controller.close();
    },
  });
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
}
