/**
 * Runs invocations of its own through the whole request path before the first real one: a stem that waits has all the
 * time in the world, a caller has not. Loads the runtime's lazy parts (streams, URL) and lets the compiler see the
 * path. Nothing of it reaches the channel. The runtime's own fetch classes are left out on purpose: they would triple
 * what a stem costs to start, and most functions never need them (web/runtime-classes.ts).
 */
import { encodeFrame, encodeHead, END, FrameType } from '../protocol/frame.ts';
import type { RequestHead } from '../protocol/invocation.ts';
import { GuestConnection } from './channel/connection.ts';
import { LightResponse } from './web/light-response.ts';

const ROUNDS = 10;

const head: RequestHead = {
  id: 'inv-warm',
  method: 'POST',
  url: 'http://warm.invalid/path?query=1',
  headers: [
    ['host', 'warm.invalid'],
    ['content-type', 'application/json'],
  ],
  deadlineMs: 0,
};

async function answer(request: Request, ctx: { signal: AbortSignal }): Promise<unknown> {
  const { pathname } = new URL(request.url);
  if (ctx.signal.aborted || request.headers.get('content-type') === null)
    return new LightResponse(null, { status: 204 });
  const body: unknown = await request.json();
  return LightResponse.json({ pathname, body });
}

/** Streams, which the runtime loads on their first use. */
function answerWithStream(): LightResponse {
  const body = new ReadableStream({
    pull(controller) {
      controller.enqueue(new TextEncoder().encode('x'));
      controller.close();
    },
  });
  return new LightResponse(body, { status: 201, headers: [['set-cookie', 'a=1']] });
}

export async function warmUp(): Promise<void> {
  const rounds = [answerWithStream, answer];
  for (const handler of rounds) {
    let settled = (): void => {};
    const connection = new GuestConnection({
      write: (_bytes, done) => {
        done();
        settled();
      },
      load: () => Promise.reject(new Error('a warm-up loads nothing')),
      env: {},
      unsentBytes: () => 0,
      onLoadFailed: () => {},
      onDrained: () => settled(),
    });
    connection.serve(handler as never, { functionName: 'warm-up', deployment: 'warm-up' });
    for (let round = 0; round < (handler === answer ? ROUNDS : 3); round++) {
      connection.receive(
        encodeFrame(FrameType.REQUEST | END, round, encodeHead(head, Buffer.from('{"a":1}'))),
      );
      while (connection.activeCount > 0) await new Promise<void>((resolve) => (settled = resolve));
    }
  }
}
