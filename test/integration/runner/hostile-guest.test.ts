import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openRedis } from '../../../infra/lib/redis.ts';
import { encodeFrame, encodeHead, encodeJsonFrame, END, FrameType } from '../../../sdk/protocol/frame.ts';
import { FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../../sdk/protocol/limits.ts';
import { type TestRedis, startRedis } from '../../helpers/redis.ts';
import { GuestBench, type ScriptedGuest } from '../../helpers/scripted-guest.ts';
import { waitFor } from '../../helpers/wait.ts';

let redis: TestRedis;
let connection: Redis;
let bench: GuestBench;
const started: ScriptedGuest[] = [];
const uncaught: unknown[] = [];
const onUncaught = (error: unknown): void => void uncaught.push(error);

beforeAll(async () => {
  redis = await startRedis();
  connection = openRedis(redis.url);
  await connection.connect();
  bench = await GuestBench.open(connection);
  process.on('uncaughtException', onUncaught).on('unhandledRejection', onUncaught);
});
afterEach(() => {
  for (const { guest } of started.splice(0)) guest.kill();
  expect(uncaught.splice(0)).toEqual([]);
});
afterAll(async () => {
  process.off('uncaughtException', onUncaught).off('unhandledRejection', onUncaught);
  await bench.close();
  connection.disconnect();
  await redis.close();
});

async function start(): Promise<ScriptedGuest> {
  const guest = await bench.start();
  started.push(guest);
  return guest;
}

const credit = (bytes: number): Buffer => {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(bytes);
  return payload;
};
const respond = (stream: number, body = Buffer.alloc(0), flags = END): Buffer =>
  encodeFrame(FrameType.RESPONSE | flags, stream, encodeHead({ status: 200, headers: [] }, body));

/** What is sent while one call runs, given its stream; each breaks a rule. */
const VIOLATIONS: readonly (readonly [string, (stream: number) => Buffer])[] = [
  ['a length of zero', () => Buffer.alloc(9)],
  ['a length beyond the limit', () => Buffer.from([0xff, 0xff, 0xff, 0x7f, 6, 0, 0, 0, 0])],
  ['an unknown type', (stream) => encodeFrame(99, stream)],
  ['a frame that only a runner sends', (stream) => encodeFrame(FrameType.REQUEST, stream, encodeHead({}))],
  ['LOAD', () => encodeJsonFrame(FrameType.LOAD, 0, {})],
  ['REFUSED', (stream) => encodeFrame(FrameType.REFUSED, stream)],
  ['a second HELLO', () => encodeJsonFrame(FrameType.HELLO, 0, { protocol: 1 })],
  ['a HELLO that is not JSON', () => encodeFrame(FrameType.HELLO, 0, Buffer.from('{'))],
  ['a code cache nobody asked for', () => encodeFrame(FrameType.CODE_CACHE, 0, Buffer.from('x'))],
  ['a second LOADED', () => encodeJsonFrame(FrameType.LOADED, 0, { ok: true })],
  ['a log record that is not JSON', (stream) => encodeFrame(FrameType.LOG, stream, Buffer.from('not json'))],
  ['an error that is not JSON', (stream) => encodeFrame(FrameType.ERROR, stream, Buffer.from([0xff]))],
  ['DATA before RESPONSE', (stream) => encodeFrame(FrameType.DATA, stream, Buffer.from('x'))],
  ['RESPONSE without a head', (stream) => encodeFrame(FrameType.RESPONSE, stream)],
  [
    'a head longer than its frame',
    (stream) => encodeFrame(FrameType.RESPONSE, stream, Buffer.from([255, 255, 0, 0, 1])),
  ],
  [
    'two RESPONSE frames',
    (stream) => Buffer.concat([respond(stream, undefined, 0), respond(stream, undefined, 0)]),
  ],
  ['more body than was granted, at once', (stream) => respond(stream, Buffer.alloc(STREAM_WINDOW_BYTES + 1))],
  [
    'more body than was granted, in pieces',
    (stream) =>
      Buffer.concat([
        respond(stream, undefined, 0),
        ...Array.from({ length: 5 }, () => encodeFrame(FrameType.DATA, stream, Buffer.alloc(65_536))),
      ]),
  ],
  ['WINDOW without a number', (stream) => encodeFrame(FrameType.WINDOW, stream, Buffer.alloc(3))],
  [
    'credit for more than it was sent',
    (stream) => encodeFrame(FrameType.WINDOW, stream, credit(0xffff_ffff)),
  ],
];

describe('a guest that breaks the protocol', () => {
  it.each(VIOLATIONS)(
    '%s: is killed, its call fails as a crash, another guest answers',
    async (_name, attack) => {
      const [hostile, honest] = [await start(), await start()];
      const failing = hostile.call(Buffer.from('body'));
      const serving = honest.call();
      hostile.socket.write(attack(failing.stream));
      expect(await failing.ended).toMatchObject({ cause: 'crash' });
      expect(hostile.guest.violation).toBeDefined();
      expect(hostile.instance.state).toBe('gone');
      honest.socket.write(respond(serving.stream));
      expect(await serving.ended).toEqual({});
    },
  );

  it('D6: whatever bytes come, in whatever pieces: nothing is thrown, and nobody else is touched', async () => {
    const honest = await start();
    const anyFrame = fc
      .record({
        type: fc.integer({ min: 0, max: 255 }),
        stream: fc.oneof(fc.constant('own'), fc.constant('next'), fc.nat({ max: 2 ** 32 - 1 })),
        payload: fc.oneof(
          fc.uint8Array({ maxLength: 300 }),
          fc.json().map((text) => Buffer.from(text)),
          fc.tuple(fc.json(), fc.uint8Array({ maxLength: 50 })).map(([head, body]) => {
            const json = Buffer.from(head);
            return Buffer.concat([credit(json.length), json, body]);
          }),
          fc.nat({ max: 2 ** 32 - 1 }).map(credit),
        ),
      })
      .map((frame) => ({ ...frame, kind: 'frame' as const }));
    const anyBytes = fc
      .uint8Array({ maxLength: 200 })
      .map((payload) => ({ kind: 'bytes' as const, payload }));
    const script = fc.array(
      fc.oneof({ weight: 4, arbitrary: anyFrame }, { weight: 1, arbitrary: anyBytes }),
      {
        minLength: 1,
        maxLength: 12,
      },
    );
    await fc.assert(
      fc.asyncProperty(script, fc.integer({ min: 1, max: 64 }), async (steps, pieceBytes) => {
        const hostile = await bench.start();
        const { stream, ended } = hostile.call(Buffer.from('abc'));
        let hasEnded = false;
        void ended.then(() => (hasEnded = true));
        const bytes = Buffer.concat(
          steps.map((step) => {
            if (step.kind === 'bytes') return Buffer.from(step.payload);
            const target =
              step.stream === 'own'
                ? stream
                : step.stream === 'next'
                  ? (stream + 1) % 2 ** 32
                  : Number(step.stream);
            return encodeFrame(step.type, target, Buffer.from(step.payload));
          }),
        );
        for (let at = 0; at < bytes.length; at += pieceBytes * 7)
          hostile.socket.write(bytes.subarray(at, at + pieceBytes * 7));
        hostile.socket.end();
        await waitFor('its end', () => hostile.instance.state === 'gone' && hasEnded, 5_000);
        const check = honest.call();
        honest.socket.write(
          Buffer.concat([respond(check.stream), encodeFrame(FrameType.SETTLED, check.stream)]),
        );
        expect(await check.ended).toEqual({});
      }),
      { numRuns: 400 },
    );
    expect(honest.guest.violation).toBeUndefined();
  }, 120_000);

  it('D6: an answer to another\u2019s call cannot be given: streams of one sandbox mean nothing in another', async () => {
    const [hostile, honest] = [await start(), await start()];
    const call = honest.call();
    for (let guess = 0; guess < 100; guess++) hostile.socket.write(respond(call.stream + guess));
    honest.socket.write(respond(call.stream, Buffer.from('honest')));
    await call.ended;
    await waitFor('the answer', () => call.answers.some(({ payload }) => payload.includes('honest')));
  });
});

describe('floods', () => {
  it('D6: a frame in pieces of one byte costs no more than its length', async () => {
    const hostile = await start();
    const { stream, ended } = hostile.call();
    const frame = encodeFrame(
      FrameType.LOG,
      stream,
      Buffer.from(JSON.stringify({ level: 'info', message: 'x'.repeat(200_000) })),
    );
    const cpu = process.cpuUsage();
    for (let at = 0; at < frame.length; at += 16) {
      hostile.socket.write(frame.subarray(at, at + 16));
      if (at % 4_096 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    hostile.socket.write(respond(stream));
    expect(await ended).toEqual({});
    const { user, system } = process.cpuUsage(cpu);
    expect((user + system) / 1_000).toBeLessThan(5_000);
  });

  it('I5: log frames without end are read slowly, and the call beside them is answered', async () => {
    const [hostile, honest] = [await start(), await start()];
    const line = encodeJsonFrame(FrameType.LOG, 0, { level: 'info', message: 'y'.repeat(50_000), atMs: 0 });
    const until = performance.now() + 1_500;
    let written = 0;
    const flood = (async () => {
      while (performance.now() < until && !hostile.guest.isGone) {
        written += line.length;
        if (!hostile.socket.write(line)) {
          await Promise.race([
            new Promise((resolve) => hostile.socket.once('drain', resolve)),
            new Promise((resolve) => setTimeout(resolve, 50)),
          ]);
          if (hostile.socket.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    })();
    const call = honest.call();
    honest.socket.write(respond(call.stream));
    expect(await call.ended).toEqual({});
    await flood;
    const read = written - hostile.socket.writableLength;
    expect(read).toBeLessThan(64 * 1024 * 1024);
  });

  it('D6: a guest that does not read its channel is ended before what waits for it fills the runner', async () => {
    const hostile = await start();
    hostile.socket.pause();
    const body = Buffer.alloc(FRAME_BYTES_MAX / 2);
    for (let sent = 0; sent < 200 && !hostile.guest.isGone; sent++) {
      hostile.guest.send(FrameType.DATA, 1, body);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(hostile.guest.violation).toMatch(/does not read/);
  });
});
