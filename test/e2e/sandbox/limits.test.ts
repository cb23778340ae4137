import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitFor } from '../../helpers/wait.ts';
import { finish, MB, RUNTIMES, SandboxBench } from './sandbox-bench.ts';

const HOG = 'const kept = []; for (;;) kept.push(Buffer.alloc(8 * 1024 * 1024, 1));';
const SPIN = 'const end = Date.now() + 1500; while (Date.now() < end);';

describe.each(RUNTIMES)('limits of a sandbox of %s', (runtime) => {
  let bench: SandboxBench;
  beforeAll(async () => {
    bench = await SandboxBench.open(runtime);
  });
  afterAll(() => bench.close());

  const node = (script: string, changes: object = {}) =>
    bench.run(['/usr/bin/node', '--max-old-space-size=100', '-e', script], changes);

  test('on memory end the process and say so', async () => {
    expect(await node(HOG, { memoryBytes: 128 * MB })).toMatchObject({
      code: 137,
      outOfMemory: true,
      killed: false,
    });
  });

  test('on memory count what lies in /tmp', async () => {
    const script =
      "const fs = require('fs'); for (let i = 0; i < 200; i++) fs.appendFileSync('/tmp/x', Buffer.alloc(1024 * 1024))";
    const exit = await node(script, { memoryBytes: 96 * MB, tmpBytes: 256 * MB });
    expect(exit).toMatchObject({ outOfMemory: true });
  });

  test('a death by another cause is not called out of memory', { timeout: 20_000 }, async () => {
    expect(await bench.sh('kill -9 $$; exit 1')).toMatchObject({ outOfMemory: false });
    expect(await bench.sh('exit 7')).toEqual({
      code: 7,
      outOfMemory: false,
      killed: false,
      stdout: '',
      stderr: '',
    });
  });

  test('on processes stop a fork bomb inside', async () => {
    // Node itself has about a dozen threads.
    const script = `const { spawn } = require('child_process'); let failed = 0;
      const one = () => spawn('/bin/sleep', ['60']).on('error', () => failed++);
      for (let i = 0; i < 60; i++) try { one() } catch { failed++ }
      setTimeout(() => console.log(failed), 500); setInterval(() => {}, 1000);`;
    const args = ['/usr/bin/node', '--max-old-space-size=100', '-e', script];
    const sandbox = await bench.launch({ args, pidsMax: 40 });
    let output = '';
    sandbox.stdout.on('data', (text) => (output += text));
    sandbox.stderr.resume();
    await waitFor('its report', () => output.includes('\n'));
    const { pids } = await sandbox.usage();
    expect(pids).toBeGreaterThan(30);
    expect(pids).toBeLessThanOrEqual(40);
    expect(Number(output)).toBeGreaterThan(15);
    sandbox.kill();
    await sandbox.exited;
  });

  test('on CPU hold within a tenth', async () => {
    const sandbox = await bench.launch({
      args: ['/usr/bin/node', '--max-old-space-size=100', '-e', SPIN.replace('1500', '60000')],
      cpu: 0.25,
    });
    const done = finish(sandbox);
    await delay(300);
    const before = await sandbox.usage();
    const started = performance.now();
    await delay(2_000);
    const used = ((await sandbox.usage()).cpuMs - before.cpuMs) / (performance.now() - started);
    expect(used).toBeLessThan(0.25 * 1.15);
    await sandbox.setLimits({ memoryBytes: 256 * MB, cpu: 0.05, pidsMax: 64 });
    const lower = await sandbox.usage();
    await delay(1_000);
    expect((await sandbox.usage()).cpuMs - lower.cpuMs).toBeLessThan(100);
    sandbox.kill();
    await done;
  });

  test('on /tmp say ENOSPC, for bytes and for files', async () => {
    const script = `const fs = require('fs'); const codes = [];
      try { for (;;) fs.appendFileSync('/tmp/x', Buffer.alloc(1024 * 1024)) } catch (error) { codes.push(error.code) }
      fs.rmSync('/tmp/x');
      try { for (let i = 0; ; i++) fs.writeFileSync('/tmp/' + i, '') } catch (error) { codes.push(error.code) }
      console.log(JSON.stringify(codes))`;
    expect(await bench.node(script, { tmpBytes: 8 * MB })).toEqual(['ENOSPC', 'ENOSPC']);
  });

  test('change while it runs; one that cannot hold is refused', async () => {
    const script =
      'const kept = Buffer.alloc(90 * 1024 * 1024, 1); console.log("ready"); setInterval(() => kept.length, 1000)';
    const sandbox = await bench.launch({ args: ['/usr/bin/node', '--max-old-space-size=100', '-e', script] });
    let output = '';
    sandbox.stdout.on('data', (text) => (output += text));
    sandbox.stderr.resume();
    await waitFor('ready', () => output.includes('ready'));
    expect((await sandbox.usage()).memoryBytes).toBeGreaterThan(90 * MB);
    await sandbox.setLimits({ memoryBytes: 300 * MB, cpu: 2, pidsMax: 100 });
    await sandbox.setLimits({ memoryBytes: 200 * MB, cpu: 0.5, pidsMax: 50 });
    // v1 answers EBUSY; v2 takes the limit and kills.
    const refused = await sandbox
      .setLimits({ memoryBytes: 16 * MB, cpu: 1, pidsMax: 50 })
      .catch((error: Error) => error);
    if (refused instanceof Error) expect(refused.message).toMatch(/the kernel refused 16777216/);
    sandbox.kill();
    await sandbox.exited;
  });

  test('of all sandboxes together hold, and the host survives', async () => {
    // Four times 400 MB under a common cap of 1 GB.
    const hog =
      'const kept = []; setInterval(() => { if (kept.length < 45) kept.push(Buffer.alloc(8 * 1024 * 1024, 1)) }, 5)';
    const sandboxes = await Promise.all(
      Array.from({ length: 4 }, () =>
        bench.launch({
          args: ['/usr/bin/node', '--max-old-space-size=100', '-e', hog],
          memoryBytes: 400 * MB,
        }),
      ),
    );
    for (const sandbox of sandboxes) {
      sandbox.stdout.resume();
      sandbox.stderr.resume();
    }
    const first = await Promise.race(sandboxes.map((sandbox) => sandbox.exited));
    // On v1 runc removes the group in which the kernel counted, and the sandbox's own limit was not reached.
    if (runtime === 'crun') expect(first).toMatchObject({ outOfMemory: true });
    else expect(first).toMatchObject({ code: 137 });
    for (const sandbox of sandboxes) sandbox.kill();
    await Promise.all(sandboxes.map((sandbox) => sandbox.exited));
  });
});
