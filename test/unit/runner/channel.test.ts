import { beforeEach, describe, expect, test } from 'vitest';
import { CallLine } from '../../../runner/channel/call-line.ts';
import { Channel } from '../../../runner/channel/channel.ts';
import { encodeHead, END, type Frame, FrameType, parseHead, parseJson } from '../../../sdk/protocol/frame.ts';
import type { CallFailure, RoutedCall } from '../../../sdk/protocol/invocation.ts';
import { CALLS_PER_SANDBOX_MAX, STREAM_WINDOW_BYTES } from '../../../sdk/protocol/limits.ts';
import { createDeployment } from '../../helpers/deployment.ts';

interface Sent {
  readonly type: number;
  readonly isEnd: boolean;
  readonly stream: number;
  readonly payload: Buffer;
}

const record =
  (into: Sent[]) =>
  (type: number, stream: number, payload: Buffer = Buffer.alloc(0)) =>
    void into.push({ type: type & ~END, isEnd: (type & END) !== 0, stream, payload });

let toGuest: Sent[];
let toGateway: Sent[];
let violations: string[];
let chatter: number;
let channel: Channel;
let line: CallLine;

const PARENT = 7;

beforeEach(() => {
  toGuest = [];
  toGateway = [];
  violations = [];
  chatter = 0;
  line = new CallLine({ send: record(toGateway) });
  channel = new Channel(createDeployment('me', { config: { calls: ['other', 'alias=real'] } }), {
    send: record(toGuest),
    chatter: () => void chatter++,
    violate: (what) => void violations.push(what),
  });
  channel.begin(PARENT, {
    line,
    invocation: 'inv-1',
    depth: 2,
    deadlineMs: Date.now() + 1_000,
    traceparent: '00-x',
  });
});

const frame = (type: number, stream: number, payload: Buffer = Buffer.alloc(0), isEnd = false): Frame => ({
  type,
  isEnd,
  stream,
  payload,
});

function call(stream: number, head: object = {}, body = Buffer.alloc(0), isEnd = true): void {
  const whole = { parent: PARENT, target: 'other', method: 'GET', path: '/', headers: [], ...head };
  channel.onGuestFrame(frame(FrameType.CALL, stream, encodeHead(whole, body), isEnd));
}

const failure = (): CallFailure => parseJson(toGuest.at(-1)?.payload ?? Buffer.alloc(0)) as CallFailure;

describe('an honest call', () => {
  test('goes to the gateway with what only the runner knows, and the answer comes back under its own number', () => {
    call(900, { target: 'alias', method: 'POST', path: '/a?b', headers: [['x', 'y']] }, Buffer.from('body'));
    const [sent] = toGateway;
    const { head, body } = parseHead(sent?.payload ?? Buffer.alloc(0));
    expect(head as RoutedCall).toMatchObject({
      functionName: 'real',
      caller: 'me',
      invocation: 'inv-1',
      depth: 3,
      traceparent: '00-x',
      method: 'POST',
      path: '/a?b',
      headers: [['x', 'y']],
    });
    expect([sent?.isEnd, body.toString()]).toEqual([true, 'body']);
    line.onFrame(
      frame(FrameType.CALL_RESPONSE, sent?.stream ?? 0, encodeHead({ status: 200, headers: [] }), true),
    );
    expect(toGuest).toMatchObject([{ type: FrameType.CALL_RESPONSE, stream: 900, isEnd: true }]);
    expect(violations).toEqual([]);
  });

  test('loses the headers that are the platform\u2019s word', () => {
    call(1, {
      headers: [
        ['skiff-caller', 'admin'],
        ['skiff-call-depth', '0'],
        ['host', 'x'],
        ['ok', '1'],
      ],
    });
    expect((parseHead(toGateway[0]?.payload ?? Buffer.alloc(0)).head as RoutedCall).headers).toEqual([
      ['ok', '1'],
    ]);
  });

  test('may send its window, and more as the gateway grants', () => {
    call(1, {}, Buffer.alloc(0), false);
    channel.onGuestFrame(frame(FrameType.CALL_DATA, 1, Buffer.alloc(STREAM_WINDOW_BYTES)));
    const credit = Buffer.alloc(4);
    credit.writeUInt32LE(10);
    line.onFrame(frame(FrameType.CALL_WINDOW, toGateway[0]?.stream ?? 0, credit));
    channel.onGuestFrame(frame(FrameType.CALL_DATA, 1, Buffer.alloc(10), true));
    expect(violations).toEqual([]);
    expect(toGateway.map(({ payload }) => payload.length)).toEqual([
      expect.any(Number),
      STREAM_WINDOW_BYTES,
      10,
    ]);
  });
});

test('ends with the invocation that made it, on both sides; then it can make none', () => {
  call(1);
  channel.end(PARENT);
  expect(toGateway.at(-1)).toMatchObject({ type: FrameType.CALL_CANCEL });
  expect(failure().code).toBe('TIMEOUT');
  call(2);
  expect(failure().code).toBe('BAD_REQUEST');
  expect(toGateway.length).toBe(2);
});

test('is told when its gateway is lost', () => {
  call(1);
  line.end();
  expect(failure()).toMatchObject({ code: 'UNAVAILABLE' });
});

test.each([
  ['what is not declared', { target: 'secret' }, 'FORBIDDEN'],
  ['a name of Object', { target: 'constructor' }, 'FORBIDDEN'],
  ['the function behind an alias by its own name', { target: 'real' }, 'FORBIDDEN'],
  ['an invocation that is not there', { parent: 8 }, 'BAD_REQUEST'],
])('refuses a call of %s and sends nothing on', (_what, head, code) => {
  call(1, head);
  expect(failure().code).toBe(code);
  expect(toGateway).toEqual([]);
});

test('refuses calls after the invocation\u2019s time, and more than CALLS_PER_SANDBOX_MAX at a time', () => {
  channel.begin(9, {
    line,
    invocation: 'inv-2',
    depth: 0,
    deadlineMs: Date.now() - 1,
    traceparent: undefined,
  });
  call(1, { parent: 9 });
  expect(failure().code).toBe('TIMEOUT');
  for (let i = 0; i <= CALLS_PER_SANDBOX_MAX; i++) call(100 + i);
  expect(failure().code).toBe('THROTTLED');
  expect(toGateway.length).toBe(CALLS_PER_SANDBOX_MAX);
});

test.each<[string, () => void]>([
  ['a number in use', () => (call(1), call(1))],
  ['a head that is none', () => call(1, { path: 3 })],
  ['a path that would begin another request', () => call(1, { path: '/ HTTP/1.1\r\nx: y' })],
  ['a path without a slash', () => call(1, { path: 'http://evil/' })],
  ['a header with a line break', () => call(1, { headers: [['a', 'b\r\nc: d']] })],
  ['a method that is none', () => call(1, { method: 'GET /x' })],
  ['a first body beyond its window', () => call(1, {}, Buffer.alloc(STREAM_WINDOW_BYTES + 1))],
  [
    'more body than was granted',
    () => {
      call(1, {}, Buffer.alloc(1), false);
      channel.onGuestFrame(frame(FrameType.CALL_DATA, 1, Buffer.alloc(STREAM_WINDOW_BYTES)));
    },
  ],
  [
    'body after the end',
    () => {
      call(1);
      channel.onGuestFrame(frame(FrameType.CALL_DATA, 1, Buffer.alloc(1)));
    },
  ],
  [
    'a window that is no number',
    () => {
      call(1);
      channel.onGuestFrame(frame(FrameType.CALL_WINDOW, 1, Buffer.alloc(3)));
    },
  ],
])('ends a sandbox that sends %s', (_what, attack) => {
  attack();
  expect(violations.length).toBe(1);
});

test('counts frames of calls that it does not know', () => {
  channel.onGuestFrame(frame(FrameType.CALL_DATA, 55, Buffer.alloc(10)));
  channel.onGuestFrame(frame(FrameType.CALL_CANCEL, 55));
  expect([chatter, toGateway.length, violations.length]).toEqual([2, 0, 0]);
});
