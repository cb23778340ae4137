/**
 * Hosts with other cgroup mounts than this one, as mount namespaces. A host with version 1 alone is a real one. One with
 * version 2 alone has no controllers here, since version 1 holds them: what can be shown is that this is said.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parseCgroupLayout } from '../../../infra/sandbox/cgroup/layout.ts';
import { RUNTIMES } from './sandbox-bench.ts';

const { mode, unified, all } = parseCgroupLayout(readFileSync('/proc/self/mountinfo', 'utf8'));

/** `change` is run before, inside a mount namespace of its own. */
async function onHost(change: string, runtime: string): Promise<unknown> {
  const program = new URL('cgroup-host.ts', import.meta.url).pathname;
  const args = ['--mount', '--propagation', 'private', '--', '/bin/sh', '-ec', `${change}; exec "$0" "$@"`];
  const run = promisify(execFile)('unshare', [...args, process.execPath, program, runtime]);
  const { stdout } = await run;
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}

describe.skipIf(mode !== 'hybrid').each(RUNTIMES)('with %s', (runtime) => {
  test('a host with cgroup version 1 alone: limits hold, and nothing is left', async () => {
    expect(await onHost(`umount ${unified}`, runtime)).toEqual({
      mode: 'v1',
      greeting: { code: 0, outOfMemory: false, killed: false, stdout: 'hello\n', stderr: '' },
      hog: { outOfMemory: true },
      pids: expect.any(Number),
      killed: true,
      leftovers: [],
    });
  });

  test('a host with cgroup version 2 alone and no controllers is refused with what is missing', async () => {
    const others = all.filter((point) => point !== unified);
    const change = `mount --move ${unified} /mnt; umount -l ${others.join(' ')}; mount --move /mnt /sys/fs/cgroup`;
    expect(await onHost(change, runtime)).toMatchObject({
      mode: 'v2',
      error: 'INVALID_CONFIG',
      message: expect.stringMatching(/memory.*pids|pids.*memory|cpu/),
    });
  });
});

test.runIf(mode !== 'hybrid')(`this host has ${mode} alone: it is tested by all other tests`, () => {
  expect(['v1', 'v2']).toContain(mode);
});
