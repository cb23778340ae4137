import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from '../../../sdk/protocol/limits.ts';
import { waitFor } from '../../helpers/wait.ts';
import {
  bundleGuest,
  GuestDriver,
  type GuestOptions,
  type StartGuest,
} from '../../integration/guest/guest-driver.ts';
import type { Sandbox } from '../../../infra/sandbox/contract.ts';
import { MB, SandboxBench } from './sandbox-bench.ts';

const wrap = (body: string): string => `exports.default = ${body};`;

describe('the guest in a real sandbox', () => {
  let bench: SandboxBench;
  let sandbox: Sandbox;
  beforeAll(async () => {
    bench = await SandboxBench.open();
    mkdirSync(join(bench.root, 'skiff'));
    copyFileSync(bundleGuest(), join(bench.root, 'skiff/guest.cjs'));
  });
  afterAll(() => bench.close());

  /** As the runner starts one: channel and task folder mounted read-only, three quarters of the memory for the heap. */
  const inSandbox: StartGuest = async (folder, file, options) => {
    const task = join(folder, 'task');
    mkdirSync(task);
    writeFileSync(join(task, file), options.source);
    const memoryBytes = options.memoryBytes ?? 128 * MB;
    sandbox = await bench.launch({
      args: [
        '/usr/bin/node',
        `--max-old-space-size=${Math.floor((memoryBytes / MB) * 0.75)}`,
        '/skiff/guest.cjs',
      ],
      cwd: '/var/task',
      memoryBytes,
      mounts: [
        { source: folder, target: '/run/skiff' },
        { source: task, target: '/var/task', propagate: true },
      ],
    });
    const { pid, stdout, stderr } = sandbox;
    const exit = sandbox.exited.then(({ code }) => code);
    return { process: { pid, stdout, stderr, exit, kill: () => sandbox.kill() }, entry: `/var/task/${file}` };
  };
  const load = (options: GuestOptions) => GuestDriver.load({ memoryBytes: 128 * MB, ...options }, inSandbox);

  test('answers, knows its memory and processors, and cannot write to its own code', async () => {
    const source = wrap(`async (request) => {
      const fs = require('node:fs'); const os = require('node:os');
      const attempt = (file) => { try { fs.writeFileSync(file, 'x'); return 'wrote' } catch (error) { return error.code } };
      return Response.json({ code: attempt(__filename), agent: attempt('/skiff/guest.cjs'), channel: attempt('/run/skiff/x'), tmp: attempt('/tmp/x'),
        memory: os.totalmem(), cpus: os.cpus().length > 0, parallel: os.availableParallelism() > 0, pid: process.pid, uid: process.getuid() });
    }`);
    await using guest = await load({ source });
    expect(JSON.parse((await guest.call()).text)).toEqual({
      code: 'EROFS',
      agent: 'EROFS',
      channel: 'EROFS',
      tmp: 'wrote',
      memory: 128 * MB,
      cpus: true,
      parallel: true,
      pid: 1,
      uid: 1000,
    });
  });

  test('streams 200 MB in and out within 96 MB of memory', { timeout: 120_000 }, async () => {
    const source = wrap(`async (request) => {
      if (request.method === 'GET') {
        let left = 3200;
        return new Response(new ReadableStream({ pull(c) { if (left-- === 0) c.close(); else c.enqueue(new Uint8Array(65536)) } }));
      }
      let bytes = 0;
      for await (const chunk of request.body) bytes += chunk.length;
      return new Response(String(bytes));
    }`);
    await using guest = await load({ source, memoryBytes: 96 * MB });
    const { answer: down } = guest.open({ keepsBytes: false });
    await waitFor('the download', () => down.isSettled, 60_000);
    expect(down.bytes).toBe(200 * MB);
    const { stream, answer: up } = guest.open({ method: 'PUT', isOpen: true });
    for (let sent = 0; sent < 200 * MB; sent += DATA_FRAME_BYTES_MAX) {
      await waitFor('credit', () => sent + DATA_FRAME_BYTES_MAX <= STREAM_WINDOW_BYTES + up.granted);
      guest.data(stream, Buffer.alloc(DATA_FRAME_BYTES_MAX), sent + DATA_FRAME_BYTES_MAX === 200 * MB);
    }
    await waitFor('the answer', () => up.isSettled);
    expect(Buffer.concat(up.chunks).toString()).toBe(String(200 * MB));
  });

  test('that eats its memory is ended as out of memory, one that crashes is not', async () => {
    const source = wrap(`(request) => {
      if (request.url.endsWith('crash')) process.abort();
      const kept = []; for (;;) kept.push(Buffer.alloc(4 * 1024 * 1024, 1));
    }`);
    const hungry = await load({ source });
    hungry.open();
    expect(await sandbox.exited).toMatchObject({ outOfMemory: true });
    await hungry.close();
    const crashing = await load({ source });
    crashing.open({ url: 'http://demo.test/crash' });
    expect(await sandbox.exited).toMatchObject({ outOfMemory: false, killed: false });
    await crashing.close();
  });

  test('is quiet while frozen and goes on when thawed', async () => {
    await using guest = await load({
      source: wrap('() => new Response("ok")') + 'setInterval(() => console.log("tick"), 5);',
    });
    await waitFor('ticks', () => guest.logs.length > 2);
    await sandbox.freeze();
    const { answer } = guest.open();
    const count = guest.logs.length;
    const cpu = (await sandbox.usage()).cpuMs;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([answer.isEnded, guest.logs.length <= count + 1]).toEqual([false, true]);
    expect((await sandbox.usage()).cpuMs - cpu).toBeLessThan(1);
    await sandbox.thaw();
    await waitFor('the answer', () => answer.isSettled);
  });

  test('ends with its channel, and with its runner', async () => {
    const guest = await load({ source: wrap('() => new Response("ok")') });
    guest.socket.destroy();
    expect(await sandbox.exited).toEqual({ code: 0, outOfMemory: false, killed: false });
    await guest.close();
  });

  test('leaves no trace of a tenant before it is given a function', async () => {
    const guest = await GuestDriver.start({ source: wrap('() => new Response("ok")') }, inSandbox);
    const environment = readFileSync(`/proc/${sandbox.pid}/environ`, 'utf8').split('\0').filter(Boolean);
    expect(environment).toEqual(['PATH=/usr/bin:/bin', 'HOME=/']);
    guest.sendLoad({ env: { SECRET: 'canary-7351' } });
    await waitFor('LOADED', () => guest.loaded);
    expect(readFileSync(`/proc/${sandbox.pid}/environ`, 'utf8')).not.toContain('canary');
    expect(readFileSync(`/proc/${sandbox.pid}/cmdline`, 'utf8')).not.toContain('canary');
    await guest.close();
  });
});
