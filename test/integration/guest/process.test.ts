import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildSync } from 'esbuild';
import { encodeFrame, encodeHead, encodeJsonFrame, END, FrameType } from '../../../sdk/protocol/frame.ts';
import { FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../../sdk/protocol/limits.ts';
import { waitFor } from '../../helpers/wait.ts';
import { type Answer, bundleGuest, GuestDriver } from './guest-driver.ts';

const wrap = (body: string): string => `exports.default = ${body};`;
const echo = wrap('() => new Response("ok")');

describe('logs', () => {
  test('of console carry level, text and invocation, also after an await', async () => {
    const source = `console.log('at load');
${wrap(`async (request) => {
  console.log('a %s', 1, { b: 2 });
  await new Promise((r) => setTimeout(r, 10));
  console.debug('d'); console.info('i'); console.warn('w'); console.error(new Error('e').message);
  console.group('g'); console.log('inside'); console.groupEnd(); console.table([{ x: 1 }]); console.assert(false, 'bad');
  return new Response('ok');
}`)}`;
    await using guest = await GuestDriver.load({ source });
    expect(guest.logs.map((log) => log.message)).toEqual(['at load']);
    const answer = await guest.call();
    const lines = answer.logs.map((log) => `${log.level} ${log.message}`);
    expect(lines.slice(0, 7)).toEqual([
      'info a 1 { b: 2 }',
      'debug d',
      'info i',
      'warn w',
      'error e',
      'info g',
      'info   inside',
    ]);
    expect(lines[7]).toContain('│ x │');
    expect(lines[8]).toBe('warn Assertion failed: bad');
    expect(Math.abs((answer.logs[0]?.atMs ?? 0) - Date.now())).toBeLessThan(10_000);
  });

  test('of ctx.log carry fields, and survive what cannot be written', async () => {
    const source = wrap(`(request, { log }) => {
      const cycle = {}; cycle.self = cycle;
      log.info('plain', { a: 1, error: new Error('boom') });
      log.warn('cycle', cycle); log.error('big', { n: 1n }); log.debug('huge', { text: 'x'.repeat(100000) });
      log.info('x'.repeat(100000));
      return new Response('ok');
    }`);
    await using guest = await GuestDriver.load({ source });
    const { logs } = await guest.call();
    expect(logs[0]).toMatchObject({
      level: 'info',
      fields: { a: 1, error: expect.stringContaining('Error: boom') },
    });
    expect(logs[1]?.fields?.['dropped']).toContain('circular');
    expect(logs[2]?.fields?.['dropped']).toContain('BigInt');
    expect(logs[3]?.fields?.['dropped']).toMatch(/fields of \d+ characters/);
    expect(logs[4]?.message.length).toBeLessThan(17_000);
  });

  test('of two invocations at once do not mix', async () => {
    const source = wrap(`async (request) => {
      for (let i = 0; i < 5; i++) { await new Promise((r) => setTimeout(r, Math.random() * 10)); console.log(request.url); }
      return new Response('ok');
    }`);
    await using guest = await GuestDriver.load({ source });
    const urls = Array.from({ length: 20 }, (_, index) => `http://demo.test/${index}`);
    const answers = await Promise.all(urls.map((url) => guest.call({ url })));
    for (const [index, answer] of answers.entries()) {
      expect(answer.logs.map((log) => log.message)).toEqual(Array.from({ length: 5 }, () => urls[index]));
    }
  });

  test('beyond what the runner reads are dropped, and memory stays flat', { timeout: 60_000 }, async () => {
    const source = wrap(
      '() => { const line = "x".repeat(10000); for (let i = 0; i < 10000; i++) console.log(line); return new Response("ok") }',
    );
    await using guest = await GuestDriver.load({ source });
    const before = guest.residentBytes();
    guest.socket.pause();
    const { answer } = guest.open();
    let previous = 0;
    await waitFor(
      'memory to settle',
      async () => {
        const now = guest.residentBytes();
        const isSteady = now === previous && now > before;
        previous = now;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return isSteady;
      },
      30_000,
    );
    expect(guest.residentBytes() - before).toBeLessThan(80 * 1024 * 1024);
    guest.socket.resume();
    await waitFor('the answer', () => answer.isSettled, 20_000);
    await guest.call();
    await waitFor('the notice', () => guest.logs.some((log) => /lines were dropped/.test(log.message)));
  });

  test('leave raw stdout and stderr alone', async () => {
    await using guest = await GuestDriver.load({
      source: wrap(
        '() => { process.stdout.write("raw out\\n"); process.stderr.write("raw err\\n"); return new Response("ok") }',
      ),
    });
    expect((await guest.call()).logs).toEqual([]);
    await waitFor('output', () => guest.stdout !== '' && guest.stderr !== '');
    expect([guest.stdout, guest.stderr]).toEqual(['raw out\n', 'raw err\n']);
  });
});

describe('stack traces', () => {
  test('point into the sources when a source map lies beside the bundle', async () => {
    await using guest = await GuestDriver.start({ source: '' });
    const source = join(guest.folder, 'src.ts');
    writeFileSync(
      source,
      '\n\ntype A = string;\nexport default async (): Promise<Response> => {\n  const a: A = "x";\n  console.error(new Error("logged"));\n  throw new Error(a);\n};\n',
    );
    buildSync({
      entryPoints: [source],
      bundle: true,
      format: 'cjs',
      platform: 'node',
      minify: true,
      sourcemap: true,
      outfile: guest.entry,
    });
    guest.sendLoad();
    await waitFor('LOADED', () => guest.loaded);
    const { failure, logs } = await guest.call();
    expect(failure?.stack).toMatch(/src\.ts:7:9/);
    expect(logs[0]?.message).toMatch(/src\.ts:6:/);
  });
});

describe('protocol', () => {
  const request = encodeHead({ id: 'inv-1', method: 'GET', url: 'http://a/', headers: [], deadlineMs: 1 });
  const badLength = Buffer.alloc(9);
  badLength.writeUInt32LE(FRAME_BYTES_MAX + 1);
  const tooLong = Buffer.from(request);
  tooLong.writeUInt32LE(4_000_000, 0);

  test.each([
    ['a frame longer than the limit', badLength],
    ['a frame shorter than its header', Buffer.from([1, 0, 0, 0, 4, 0, 0, 0, 0])],
    ['a frame only guests send', encodeFrame(FrameType.RESPONSE, 1)],
    ['an unknown frame', encodeFrame(99, 1)],
    ['a head longer than its frame', encodeFrame(FrameType.REQUEST, 1, tooLong)],
    ['a head that is not JSON', encodeFrame(FrameType.REQUEST, 1, Buffer.from('\u0003\0\0\0abc'))],
    ['a head without fields', encodeFrame(FrameType.REQUEST, 1, encodeHead({ id: 'x' }))],
    ['a head that is null', encodeFrame(FrameType.REQUEST, 1, encodeHead(null))],
    ['a window of three bytes', encodeFrame(FrameType.WINDOW, 1, Buffer.alloc(3))],
    ['a cancel without JSON', encodeFrame(FrameType.CANCEL, 1, Buffer.from('{'))],
    [
      'a second LOAD',
      encodeJsonFrame(FrameType.LOAD, 0, { functionName: 'a', deployment: 'b', entry: '/x', env: {} }),
    ],
    ['random bytes', Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7919) & 255))],
  ])('ends the process on %s', async (_name, bytes) => {
    await using guest = await GuestDriver.load({ source: echo });
    guest.write(bytes);
    expect(await guest.exit).toBe(76);
  });

  test('ends the process on a stream number in use', async () => {
    await using guest = await GuestDriver.load({ source: wrap('() => new Promise(() => {})') });
    guest.write(
      Buffer.concat([
        encodeFrame(FrameType.REQUEST | END, 1, request),
        encodeFrame(FrameType.REQUEST | END, 1, request),
      ]),
    );
    expect(await guest.exit).toBe(76);
  });

  test('ends the process when a body ignores its window', async () => {
    await using guest = await GuestDriver.load({ source: wrap('() => new Promise(() => {})') });
    const { stream } = guest.open({ method: 'POST', isOpen: true });
    for (let sent = 0; sent <= STREAM_WINDOW_BYTES; sent += 65_536) guest.data(stream, Buffer.alloc(65_536));
    expect(await guest.exit).toBe(76);
  });

  test('ends the process on a REQUEST before LOAD', async () => {
    await using guest = await GuestDriver.start({ source: echo });
    guest.open();
    expect(await guest.exit).toBe(76);
  });

  test('takes frames in pieces of any size', async () => {
    await using guest = await GuestDriver.load({ source: echo });
    // Credit would be written into the middle of a frame.
    const { answer: model } = guest.open({ holdsCredit: true });
    await waitFor('the first answer', () => model.isSettled);
    const streams = [101, 102, 103];
    const answers = streams.map((stream) => {
      const answer: Answer = { ...model, chunks: [], logs: [], isSettled: false, isEnded: false };
      guest.answers.set(stream, answer);
      return answer;
    });
    const bytes = Buffer.concat(
      streams.map((stream) => encodeFrame(FrameType.REQUEST | END, stream, request)),
    );
    for (let at = 0; at < bytes.length; at += 5) {
      guest.write(bytes.subarray(at, at + 5));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor('all answers', () => answers.every((answer) => answer.isSettled));
  });

  test('answers PING, says HELLO first', async () => {
    await using guest = await GuestDriver.start({ source: echo });
    expect(guest.hello).toEqual({
      protocol: 1,
      role: 'guest',
      runtime: `node ${process.version}`,
      pid: guest.child.pid,
    });
    const pong = once(guest.socket, 'data');
    guest.write(encodeFrame(FrameType.PING, 0, Buffer.from('abc')));
    expect(((await pong) as [Buffer])[0]).toEqual(encodeFrame(FrameType.PONG, 0, Buffer.from('abc')));
  });
});

describe('life and end', () => {
  test('ends with the channel', async () => {
    await using guest = await GuestDriver.load({ source: wrap('() => new Promise(() => {})') });
    guest.open();
    guest.socket.destroy();
    expect(await guest.exit).toBe(0);
  });

  test('on SIGTERM finishes what runs, then ends', async () => {
    await using guest = await GuestDriver.load({
      source: wrap(
        'async () => { await new Promise((r) => setTimeout(r, 300)); return new Response("done") }',
      ),
    });
    const { answer } = guest.open();
    await guest.call({ method: 'HEAD' });
    const { answer: second } = guest.open();
    guest.child.kill('SIGTERM');
    expect(await guest.exit).toBe(0);
    expect([answer.isSettled, second.isSettled]).toEqual([true, true]);
  });

  test('tells the machine of the memory limit', async () => {
    const source = wrap(
      '() => Response.json([require("node:os").totalmem(), process.constrainedMemory(), require("node:os").cpus().length > 0])',
    );
    await using guest = await GuestDriver.load({ source, memoryBytes: 100_000_000 });
    expect((await guest.call()).text).toBe('[100000000,100000000,true]');
  });

  test('without channel or entry says so and ends', async () => {
    const child = spawn(process.execPath, [bundleGuest()], { env: { SKIFF_CHANNEL: '/nonexistent' } });
    let stderr = '';
    child.stderr.on('data', (text) => (stderr += text));
    expect((await once(child, 'close'))[0]).toBe(1);
    expect(stderr).toContain('there is nothing to serve');
  });
});

describe('HTTP mode', () => {
  async function startHttp(
    source: string,
  ): Promise<{ url: string; output: () => string; stop: () => Promise<number> } & AsyncDisposable> {
    const folder = mkdtempSync(join(tmpdir(), 'skiff-guest-http-'));
    const entry = join(folder, 'index.cjs');
    writeFileSync(entry, source);
    const child = spawn(process.execPath, [bundleGuest()], {
      env: { SKIFF_CHANNEL: '/nonexistent', SKIFF_ENTRY: entry, PORT: '0' },
    });
    let output = '';
    child.stdout.on('data', (text) => (output += text));
    child.stderr.on('data', (text) => (output += text));
    const port = await waitFor('the port', () => /listening on port (\d+)/.exec(output)?.[1]);
    const stop = async (): Promise<number> => {
      child.kill('SIGTERM');
      return ((await once(child, 'exit')) as [number])[0];
    };
    return {
      url: `http://127.0.0.1:${port}`,
      output: () => output,
      stop,
      async [Symbol.asyncDispose]() {
        child.kill('SIGKILL');
        rmSync(folder, { recursive: true, force: true });
      },
    };
  }

  test('serves the same handlers: bodies, streams, cookies, failures, a clean end', async () => {
    const source = wrap(`async (request, ctx) => {
      const { pathname, search } = new URL(request.url);
      if (pathname === '/fail') throw new Error('secret detail');
      if (pathname === '/cookies') return new Response(null, { status: 204, headers: [['set-cookie', 'a=1'], ['set-cookie', 'b=2']] });
      if (pathname === '/stream') return new Response(request.body);
      ctx.log.info('seen', { path: pathname });
      return Response.json({ method: request.method, search, body: await request.text() });
    }`);
    await using server = await startHttp(source);
    const echoed = await fetch(`${server.url}/x?q=1`, { method: 'POST', body: 'hello' });
    expect(await echoed.json()).toEqual({ method: 'POST', search: '?q=1', body: 'hello' });
    const cookies = await fetch(`${server.url}/cookies`);
    expect([cookies.status, cookies.headers.getSetCookie()]).toEqual([204, ['a=1', 'b=2']]);
    const big = Buffer.alloc(20 * 1024 * 1024, 'abc');
    const streamed = await fetch(`${server.url}/stream`, { method: 'POST', body: big });
    expect(Buffer.from(await streamed.arrayBuffer()).equals(big)).toBe(true);
    const failed = await fetch(`${server.url}/fail`);
    expect([failed.status, failed.headers.get('skiff-cause')]).toEqual([500, 'handler_error']);
    expect(await failed.text()).not.toContain('secret');
    expect(server.output()).toContain('seen {"path":"/x"}');
    expect(await server.stop()).toBe(0);
  });

  test('aborts the signal when the client leaves', async () => {
    await using server = await startHttp(
      wrap(
        'async (request) => { await new Promise((r) => request.signal.addEventListener("abort", r)); console.log("aborted"); return new Response("") }',
      ),
    );
    const controller = new AbortController();
    const call = fetch(server.url, { signal: controller.signal }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    controller.abort();
    await call;
    await waitFor('the abort', () => server.output().includes('aborted'));
  });
});
