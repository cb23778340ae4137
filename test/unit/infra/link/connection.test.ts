import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FrameConnection } from '../../../../infra/link/connection.ts';
import { encodeHeadText, type Frame, FrameType } from '../../../../sdk/protocol/frame.ts';
import { encodeEnvelope, parseEnvelope, type Route } from '../../../../sdk/protocol/invocation.ts';
import { waitFor } from '../../../helpers/wait.ts';

const server = createServer();
let sender: FrameConnection;
const received: Frame[] = [];

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  sender = new FrameConnection(connect(port, '127.0.0.1'), { onFrame() {}, onClose() {} });
  const [socket] = await accepted;
  // A view into the read buffer: kept longer than the callback.
  const onFrame = (frame: Frame) => received.push({ ...frame, payload: Buffer.from(frame.payload) });
  new FrameConnection(socket, { onFrame, onClose() {} });
});
afterAll(() => {
  sender.close();
  server.close();
});

async function receive(count: number): Promise<Frame[]> {
  await waitFor('frames', () => received.length >= count);
  return received.splice(0);
}

const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.constant('é'.repeat(9_000)));
const bytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(70_000).fill(7)));

describe('texts written in place', () => {
  it('arrive as the envelope that would have been made of them, in order with other frames', async () => {
    const one = fc.record({ dep: text, head: text, body: bytes });
    await fc.assert(
      fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 20 }), async (all) => {
        for (const [index, { dep, head, body }] of all.entries()) {
          sender.sendTexts(FrameType.REQUEST, index, JSON.stringify({ dep }), head, Buffer.from(body));
          sender.send(FrameType.PING, index);
        }
        const frames = await receive(all.length * 2);
        for (const [index, { dep, head, body }] of all.entries()) {
          const [frame, ping] = frames.slice(index * 2, index * 2 + 2) as [Frame, Frame];
          const payload = encodeHeadText(head, Buffer.from(body));
          expect(frame.payload.equals(encodeEnvelope({ dep } as Route, payload))).toBe(true);
          expect(parseEnvelope(frame.payload).route).toEqual({ dep });
          expect(ping).toMatchObject({ type: FrameType.PING, stream: index });
        }
      }),
      { numRuns: 40 },
    );
  });
});
