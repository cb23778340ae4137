import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeFrame,
  encodeHead,
  END,
  FrameError,
  FrameReader,
  FrameType,
  parseHead,
  parseJson,
} from '../../../sdk/protocol/frame.ts';
import { FRAME_BYTES_MAX } from '../../../sdk/protocol/limits.ts';

interface Seen {
  readonly type: number;
  readonly isEnd: boolean;
  readonly stream: number;
  readonly payload: string;
}

function read(bytes: Buffer, cuts: readonly number[]): Seen[] {
  const seen: Seen[] = [];
  const reader = new FrameReader((frame) => seen.push({ ...frame, payload: frame.payload.toString('hex') }));
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted((a, b) => a - b);
  let start = 0;
  for (const end of [...ends, bytes.length]) {
    reader.push(bytes.subarray(start, end));
    start = end;
  }
  return seen;
}

const frames = fc.array(
  fc.record({
    type: fc.integer({ min: 1, max: 14 }),
    isEnd: fc.boolean(),
    stream: fc.integer({ min: 0, max: 0xffff_ffff }),
    payload: fc.uint8Array({ maxLength: 300 }),
  }),
  { maxLength: 20 },
);

describe('frames', () => {
  it('come out as they went in, however the bytes were cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(), { maxLength: 30 }), (given, cuts) => {
        const bytes = Buffer.concat(
          given.map((one) =>
            encodeFrame(one.type | (one.isEnd ? END : 0), one.stream, Buffer.from(one.payload)),
          ),
        );
        const expected = given.map((one) => ({ ...one, payload: Buffer.from(one.payload).toString('hex') }));
        expect(read(bytes, cuts)).toEqual(expected);
      }),
    );
  });

  it('random bytes give frames or a FrameError, never another error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        try {
          read(Buffer.from(bytes), []);
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError);
        }
      }),
    );
  });

  it.each([0, 4, FRAME_BYTES_MAX + 1, 0xffff_ffff])('a length of %i is refused at once', (length) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(length);
    expect(() => new FrameReader(() => {}).push(bytes)).toThrow(FrameError);
  });

  it('a frame that has not arrived whole is not delivered', () => {
    const bytes = encodeFrame(FrameType.DATA, 1, Buffer.from('hello'));
    expect(read(bytes.subarray(0, -1), [])).toEqual([]);
  });
});

describe('heads', () => {
  it('carry JSON and the first bytes of a body', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.uint8Array({ maxLength: 200 }), (head, body) => {
        const parsed = parseHead(encodeHead(head, Buffer.from(body)));
        expect(JSON.stringify(parsed.head)).toBe(JSON.stringify(head));
        expect([...parsed.body]).toEqual([...body]);
      }),
    );
  });

  it('random payloads give a head or a FrameError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        for (const parse of [parseHead, parseJson]) {
          try {
            parse(Buffer.from(bytes));
          } catch (error) {
            expect(error).toBeInstanceOf(FrameError);
          }
        }
      }),
    );
  });
});
