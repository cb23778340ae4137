import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { END, encodeFrame, FrameType } from '../../../sdk/protocol/frame.ts';
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../../sdk/protocol/limits.ts';
import { waitFor } from '../../helpers/wait.ts';
import { type Answer, GuestDriver } from './guest-driver.ts';

const MB = 1024 * 1024;
const wrap = (body: string): string => `exports.default = ${body};`;

/** Sends a body as the window allows. */
async function upload(guest: GuestDriver, stream: number, answer: Answer, total: number): Promise<string> {
  const hash = createHash('sha256');
  let sent = 0;
  for (let block = 0; sent < total; block++) {
    const bytes = Buffer.alloc(Math.min(DATA_FRAME_BYTES_MAX, total - sent), block & 255);
    await waitFor('credit', () => sent + bytes.length <= STREAM_WINDOW_BYTES + answer.granted);
    hash.update(bytes);
    sent += bytes.length;
    guest.data(stream, bytes, sent === total);
  }
  return hash.digest('hex');
}

describe('request bodies', () => {
  test('of 200 MB are read with flat memory', { timeout: 120_000 }, async () => {
    const source = wrap(`async (request) => {
      const hash = require('node:crypto').createHash('sha256');
      let bytes = 0;
      for await (const chunk of request.body) { hash.update(chunk); bytes += chunk.length; }
      return Response.json({ bytes, hash: hash.digest('hex') });
    }`);
    // As a function of 128 MB is started.
    await using guest = await GuestDriver.load({ source, nodeArgs: ['--max-old-space-size=96'] });
    const before = guest.residentBytes();
    const { stream, answer } = guest.open({ method: 'PUT', isOpen: true });
    const hash = await upload(guest, stream, answer, 200 * MB);
    await waitFor('the answer', () => answer.isSettled);
    expect(JSON.parse(Buffer.concat(answer.chunks).toString())).toEqual({ bytes: 200 * MB, hash });
    expect(guest.residentBytes() - before).toBeLessThan(75 * MB);
  });

  test('that nobody reads get no credit', async () => {
    await using guest = await GuestDriver.load({
      source: wrap('async () => { await new Promise((r) => setTimeout(r, 200)); return new Response("ok") }'),
    });
    const { stream, answer } = guest.open({ method: 'PUT', isOpen: true });
    for (let sent = 0; sent < STREAM_WINDOW_BYTES; sent += DATA_FRAME_BYTES_MAX)
      guest.data(stream, Buffer.alloc(DATA_FRAME_BYTES_MAX));
    await waitFor('the answer', () => answer.isSettled);
    expect(answer.granted).toBe(0);
    // What still arrives belongs to nobody and hurts nobody.
    guest.data(stream, Buffer.alloc(1000), true);
    expect((await guest.call()).text).toBe('ok');
  });

  test('echo while they arrive, both ways at once', async () => {
    await using guest = await GuestDriver.load({ source: wrap('(request) => new Response(request.body)') });
    const { stream, answer } = guest.open({ method: 'POST', isOpen: true, body: 'one ' });
    await waitFor('the first piece', () => answer.bytes === 4);
    guest.data(stream, Buffer.from('two '));
    await waitFor('the second piece', () => answer.bytes === 8);
    guest.data(stream, Buffer.from('three'), true);
    await waitFor('the end', () => answer.isSettled);
    expect(Buffer.concat(answer.chunks).toString()).toBe('one two three');
  });

  test('collected by text() while they arrive', async () => {
    await using guest = await GuestDriver.load({
      source: wrap('async (request) => new Response(String((await request.text()).length))'),
    });
    const { stream, answer } = guest.open({ method: 'POST', isOpen: true });
    await upload(guest, stream, answer, 3 * MB + 17);
    await waitFor('the answer', () => answer.isSettled);
    expect(Buffer.concat(answer.chunks).toString()).toBe(String(3 * MB + 17));
  });
});

describe('response bodies', () => {
  test('of 200 MB are written with flat memory', { timeout: 120_000 }, async () => {
    const source = wrap(`() => {
      let left = 200;
      return new Response(new ReadableStream({ pull(c) {
        if (left-- === 0) c.close(); else c.enqueue(new Uint8Array(1024 * 1024).fill(left)); } }));
    }`);
    // As a function of 128 MB is started.
    await using guest = await GuestDriver.load({ source, nodeArgs: ['--max-old-space-size=96'] });
    const before = guest.residentBytes();
    const { answer } = guest.open({ keepsBytes: false });
    await waitFor('the end', () => answer.isSettled, 60_000);
    expect(answer.bytes).toBe(200 * MB);
    expect(guest.residentBytes() - before).toBeLessThan(75 * MB);
  });

  test('stop at the window and go on with credit', async () => {
    const source = wrap('() => new Response(new Uint8Array(1024 * 1024).fill(7))');
    await using guest = await GuestDriver.load({ source });
    const { stream, answer } = guest.open({ holdsCredit: true });
    await waitFor('a full window', () => answer.bytes === STREAM_WINDOW_BYTES);
    // A call on another stream passes by: the stopped one does not hold the connection.
    await guest.call({});
    expect(answer.bytes).toBe(STREAM_WINDOW_BYTES);
    guest.grant(stream, 1);
    await waitFor('one byte more', () => answer.bytes === STREAM_WINDOW_BYTES + 1);
    guest.grant(stream, MB);
    await waitFor('the end', () => answer.isSettled);
    expect(answer.bytes).toBe(MB);
    expect(Buffer.concat(answer.chunks).every((byte) => byte === 7)).toBe(true);
  });

  test('pull no faster than the client reads', async () => {
    const source = wrap(`() => {
      let pulled = 0;
      return new Response(new ReadableStream({ pull(c) { pulled += 65536; console.log(pulled); c.enqueue(new Uint8Array(65536)) } }));
    }`);
    await using guest = await GuestDriver.load({ source });
    const { answer } = guest.open({ holdsCredit: true });
    await waitFor('a full window', () => answer.bytes === STREAM_WINDOW_BYTES);
    await guest.call({ method: 'HEAD' });
    const pulled = Number(answer.logs.at(-1)?.message);
    expect(pulled).toBeLessThanOrEqual(STREAM_WINDOW_BYTES + 3 * 65_536);
  });

  test('send their head at once and every event as it comes', async () => {
    const source = wrap(`() => {
      const { readable, writable } = new TransformStream();
      const writer = writable.getWriter();
      globalThis.say = (text) => writer.write(new TextEncoder().encode(text));
      return new Response(readable, { headers: { 'content-type': 'text/event-stream' } });
    }`)
      .replace(
        'exports.default = () =>',
        'exports.default = (request) => { if (request.url.includes("say")) { globalThis.say("data: " + request.url.at(-1) + "\\n\\n"); return new Response("") } return (() =>',
      )
      .replace(/;$/, ')() };');
    await using guest = await GuestDriver.load({ source });
    const { answer } = guest.open();
    await waitFor('the head', () => answer.head);
    expect(answer.bytes).toBe(0);
    for (const event of ['1', '2', '3']) {
      const before = answer.bytes;
      await guest.call({ url: `http://demo.test/say${event}` });
      await waitFor('the event', () => answer.bytes > before);
    }
    expect(Buffer.concat(answer.chunks).toString()).toBe('data: 1\n\ndata: 2\n\ndata: 3\n\n');
    expect(answer.isEnded).toBe(false);
  });

  test.each([
    ['errors', '(c) => c.error(new Error("source broke"))', 'Error: source broke'],
    ['gives strings', '(c) => c.enqueue("text")', 'a stream must give Uint8Array pieces'],
  ])('whose stream %s end with ERROR after the head', async (_name, pull, message) => {
    const source = wrap(
      `() => new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array(10)) }, async pull(c) { await new Promise((r) => setTimeout(r, 50)); (${pull})(c) } }))`,
    );
    await using guest = await GuestDriver.load({ source });
    const answer = await guest.call();
    expect(answer.bytes).toBe(10);
    expect(answer.failure).toMatchObject({
      cause: 'handler_error',
      message: expect.stringContaining(message),
    });
  });
});

describe('cancel', () => {
  test('answers at once, aborts both signals, and settles when the handler does', async () => {
    const source = wrap(`async (request, ctx) => {
      await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
      console.log(String(request.signal.aborted), request.signal === ctx.signal, ctx.signal.reason.name);
      await new Promise((resolve) => setTimeout(resolve, 100));
      return new Response('too late');
    }`);
    await using guest = await GuestDriver.load({ source });
    const { stream, answer } = guest.open();
    await guest.call({ method: 'HEAD' }).catch(() => {});
    guest.cancel(stream, 'timeout');
    await waitFor('ERROR', () => answer.failure);
    expect(answer.failure).toMatchObject({ cause: 'timeout', started: true });
    expect(answer.isSettled).toBe(false);
    await waitFor('SETTLED', () => answer.isSettled);
    expect(answer.logs.map((log) => log.message)).toEqual(['true true AbortError']);
    expect(answer.head).toBeUndefined();
  });

  test('reaches a handler that asks for its signal later', async () => {
    const source = wrap(
      'async (request, ctx) => { await new Promise((r) => setTimeout(r, 100)); console.log(ctx.signal.aborted); return new Response("") }',
    );
    await using guest = await GuestDriver.load({ source });
    const { stream, answer } = guest.open();
    guest.cancel(stream, 'client disconnected');
    await waitFor('SETTLED', () => answer.isSettled);
    expect(answer.logs[0]?.message).toBe('true');
    expect(answer.failure).toMatchObject({ cause: 'platform', message: 'cancelled: client disconnected' });
  });

  test('stops a body that is being written, and tells its source', async () => {
    const source = wrap(
      '() => new Response(new ReadableStream({ pull: (c) => c.enqueue(new Uint8Array(65536)), cancel: () => console.log("source told") }))',
    );
    await using guest = await GuestDriver.load({ source });
    const { stream, answer } = guest.open({ holdsCredit: true });
    await waitFor('a full window', () => answer.bytes === STREAM_WINDOW_BYTES);
    guest.cancel(stream, 'client disconnected');
    await waitFor('SETTLED', () => answer.isSettled);
    expect(answer.failure?.cause).toBe('platform');
    expect(answer.logs.map((log) => log.message)).toEqual(['source told']);
  });

  test('fails a body that is being read', async () => {
    const source = wrap(
      'async (request) => { try { await request.text() } catch (error) { console.log(error.name) } return new Response("") }',
    );
    await using guest = await GuestDriver.load({ source });
    const { stream, answer } = guest.open({ method: 'POST', isOpen: true });
    guest.cancel(stream, 'client disconnected');
    await waitFor('SETTLED', () => answer.isSettled);
    expect(answer.logs.map((log) => log.message)).toEqual(['AbortError']);
  });

  test('of what has ended or never was does nothing', async () => {
    await using guest = await GuestDriver.load({ source: wrap('() => new Response("ok")') });
    await guest.call();
    guest.cancel(1, 'timeout');
    guest.cancel(77, 'timeout');
    guest.grant(78, 5);
    expect((await guest.call()).text).toBe('ok');
  });
});

describe('many at once', () => {
  test('two thousand invocations on one connection keep their bodies apart', async () => {
    await using guest = await GuestDriver.load({
      source: wrap(
        'async (request) => { await new Promise((r) => setTimeout(r, Math.random() * 20)); return new Response(request.url + (await request.text())) }',
      ),
    });
    const calls = Array.from({ length: 2000 }, (_, index) =>
      guest.call({ method: 'POST', url: `http://demo.test/${index}`, body: `:${index}` }),
    );
    const answers = await Promise.all(calls);
    expect(answers.map((answer) => answer.text)).toEqual(
      calls.map((_, index) => `http://demo.test/${index}:${index}`),
    );
  });

  test('a stream number may be used again once it settled', async () => {
    await using guest = await GuestDriver.load({ source: wrap('() => new Response("ok")') });
    const first = await guest.call();
    first.isSettled = false;
    first.isEnded = false;
    first.frames = 0;
    const head = Buffer.from('{"id":"inv-1","method":"GET","url":"http://a/","headers":[],"deadlineMs":1}');
    const length = Buffer.alloc(4);
    length.writeUInt32LE(head.length);
    guest.write(encodeFrame(FrameType.REQUEST | END, 1, Buffer.concat([length, head])));
    await waitFor('SETTLED again', () => first.isSettled);
    expect(first.frames).toBe(2);
  });

  test('waitUntil holds SETTLED back, not the answer', async () => {
    const source = wrap(
      '(request, ctx) => { ctx.waitUntil(new Promise((resolve) => { globalThis.finish = resolve })); if (request.method === "PUT") globalThis.finish(); return new Response("ok") }',
    );
    await using guest = await GuestDriver.load({ source });
    const { answer } = guest.open();
    await waitFor('the answer', () => answer.isEnded);
    await delay(50);
    expect(answer.isSettled).toBe(false);
  });
});
