/**
 * Loads a function of its own and calls it through the whole path from LOAD on, before the first real one: a stem that
 * waits has all the time in the world, a caller has not. Loads the runtime's lazy parts (streams, URL) and lets the compiler see the
 * path. Nothing of it reaches the channel. The runtime's own fetch classes are left out on purpose: they would triple
 * what a stem costs to start, and most functions never need them (web/runtime-classes.ts).
 */
import { encodeFrame, encodeHead, encodeJsonFrame, END, FrameType } from '../protocol/frame.ts';
import type { LoadCommand, RequestHead } from '../protocol/invocation.ts';
import { GuestConnection } from './channel/connection.ts';
import type { LoadedFunction } from './loader.ts';
import { LightResponse } from './web/light-response.ts';

const ROUNDS = 10;

const command: LoadCommand = {
  functionName: 'warm-up',
  deployment: 'warm-up',
  entry: '/var/task/warm-up.cjs',
  env: {},
  concurrency: 1,
  memoryBytes: 0,
};

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

/** `load` does what loading does, and gives a module's handler, which is not called. */
export async function warmUp(load: (command: LoadCommand) => Promise<LoadedFunction>): Promise<void> {
  const rounds = [answerWithStream, answer];
  for (const handler of rounds) {
    let settled = (): void => {};
    const connection = new GuestConnection({
      write: (_bytes, done) => {
        done();
        settled();
      },
      load: async (own) => ({ ...(await load(own)), handler: handler as never }),
      env: {},
      unsentBytes: () => 0,
      onLoadFailed: () => {},
      onDrained: () => settled(),
    });
    const loaded = new Promise<void>((resolve) => (settled = resolve));
    connection.receive(encodeJsonFrame(FrameType.LOAD, 0, command));
    await loaded;
    for (let round = 0; round < (handler === answer ? ROUNDS : 3); round++) {
      connection.receive(
        encodeFrame(FrameType.REQUEST | END, round, encodeHead(head, Buffer.from('{"a":1}'))),
      );
      while (connection.activeCount > 0) await new Promise<void>((resolve) => (settled = resolve));
    }
  }
}
