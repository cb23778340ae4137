/**
 * Runs invocations of its own through the whole request path before the first real one: a stem that waits has all the
 * time in the world, a caller has not. Loads the runtime's lazy parts (fetch classes, streams, URL) and lets the
 * compiler see the path. Nothing of it reaches the channel.
 */
import { encodeFrame, encodeHead, END, FrameType } from '../protocol/frame.ts';
import type { RequestHead } from '../protocol/invocation.ts';
import { GuestConnection } from './channel/connection.ts';

const ROUNDS = 200;

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

async function answer(request: Request, ctx: { signal: AbortSignal }): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (ctx.signal.aborted || request.headers.get('content-type') === null)
    return new Response(null, { status: 204 });
  const body: unknown = await request.json();
  return Response.json({ pathname, body });
}

/** The rarer ways: real classes, streams, forms of headers. */
async function answerThoroughly(request: Request): Promise<Response> {
  const copy = new Request(request.url, { method: 'POST', body: 'x', headers: new Headers(request.headers) });
  const stream = new Response(await copy.text()).body
    ?.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextEncoderStream());
  const text = await request.clone().text();
  return new Response(stream ?? text, { status: 201, headers: [['set-cookie', 'a=1']] });
}

export async function warmUp(): Promise<void> {
  const rounds = [answerThoroughly, answer];
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
