/**
 * What every runtime class promises, whatever program is behind it: the same function, the same walls, the same limits,
 * told in the same words. Runs against every runtime that this machine has.
 */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { ENOSYS, EPERM, openBench, sandboxPids, type Bench, type Probe } from './probe.ts';

/** EPERM, EACCES, EINVAL, ENOSYS, EAFNOSUPPORT: kernels differ in how they say no. */
const REFUSED = [EPERM, -13, -22, ENOSYS, -97];

/** Class -> program. */
const CLASSES = Object.entries({ crun: 'crun', runc: 'runc', gvisor: 'runsc' }).filter(([, program]) => {
  const isThere = spawnSync(program, ['--version']).status === 0;
  if (!isThere) process.stderr.write(`skipped: the runtime ${program} is not installed\n`);
  return isThere;
});

describe('runtime classes', () => {
  let bench: Bench;
  let client: Client;
  let neighbourUrl: string;
  const probes = new Map<string, Probe>();

  beforeAll(async () => {
    const classes = CLASSES.map(([name, program]) => `${name}=${program}`).join(',');
    bench = await openBench('crun', { SKIFF_RUNTIME_CLASSES: classes });
    client = createClient({ url: bench.server.url, token: bench.server.adminToken });
    await client.secrets.set('password', 'xyzzy');
    neighbourUrl = await bench.deployNeighbour('neighbour');
    await Promise.all(
      CLASSES.map(async ([runtimeClass]) => {
        const config = { runtimeClass, secrets: ['password'], memory: '256MB', concurrency: 1 };
        probes.set(runtimeClass, await bench.deploy(`probe-${runtimeClass}`, config));
      }),
    );
  });
  // Fails when any runtime leaves a process, mount or cgroup.
  afterAll(() => bench?.server.stop());

  describe.each(CLASSES)('%s', (name) => {
    const probe = (): Probe => probes.get(name) as Probe;

    it('A1 A2: nobody, without capabilities', async () => {
      const [status, uid] = await probe().run(({ load }) => [
        load('fs').readFileSync('/proc/self/status', 'utf8'),
        process.getuid?.(),
      ]);
      expect(uid).toBe(1000);
      for (const line of String(status).match(/^Cap\w+:\t\w+$/gm) ?? []) expect(line).toMatch(/\t0+$/);
    });

    it('A3 A5 A6 A18: system calls that a function never needs are refused', async () => {
      const results = await probe().run(({ syscall }) => ({
        mount: syscall(165, 0, 0, 0, 0, 0),
        unshare: syscall(272, 0x1000_0000),
        clone3: syscall(435, 0, 0),
        vsock: syscall(41, 40, 1, 0),
        packet: syscall(41, 17, 3, 0x300),
        bpf: syscall(321, 0, 0, 0),
        keyctl: syscall(250, 0, -3, 1),
        reboot: syscall(169, 0, 0, 0, 0),
        setuid: syscall(105, 0),
      }));
      for (const [call, result] of Object.entries(results)) expect(REFUSED, call).toContain(result);
    });

    it('A7 A9 A12 A15: knobs, others\u2019 processes, its own code and devices are out of reach', async () => {
      const found = await probe().run(({ load }) => {
        const fs = load('fs');
        const tryTo = (run: () => unknown): boolean => {
          try {
            run();
            return true;
          } catch {
            return false;
          }
        };
        return {
          knob: tryTo(() => fs.writeFileSync('/proc/sys/kernel/core_pattern', 'x')),
          sysrq: tryTo(() => fs.writeFileSync('/proc/sysrq-trigger', 'h')),
          memory: tryTo(() => fs.closeSync(fs.openSync('/proc/kcore', 'r'))),
          code: tryTo(() => fs.appendFileSync('/var/task/index.cjs', 'x')),
          root: tryTo(() => fs.writeFileSync('/usr/probe', 'x')),
          disk: tryTo(() => fs.closeSync(fs.openSync('/dev/vda', 'r'))),
          hostFile: tryTo(() => fs.readFileSync('/root/.bashrc')),
          pids: fs.readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).length,
        };
      });
      const { pids, ...reached } = found;
      expect(pids).toBeLessThan(4);
      expect(Object.entries(reached).filter(([, isReached]) => isReached)).toEqual([]);
    });

    it('A17: what it writes it cannot execute', async () => {
      const status = await probe().run(({ load }) => {
        load('fs').writeFileSync('/tmp/script', '#!/bin/sh\nexit 0\n', { mode: 0o755 });
        const { error } = load('child_process').spawnSync('/tmp/script');
        return (error as NodeJS.ErrnoException | undefined)?.code;
      });
      expect(status).toBe('EACCES');
    });

    it('D1: no network but its loopback', async () => {
      const reached = await probe().run(
        async ({ load }, port) => {
          const dial = (host: string) =>
            new Promise<boolean>((resolve) => {
              const socket = load('net').connect({ host, port });
              socket.setTimeout(2_000, () => (socket.destroy(), resolve(false)));
              socket.once('error', () => resolve(false));
              socket.once('connect', () => (socket.destroy(), resolve(true)));
            });
          const devices = Object.keys(load('os').networkInterfaces()).filter((device) => device !== 'lo');
          return [await dial('127.0.0.1'), await dial('1.1.1.1'), devices.length];
        },
        Number(new URL(bench.server.url).port),
      );
      expect(reached).toEqual([false, false, 0]);
    });

    it('F10: its secret is a variable and a file', async () => {
      const values = await probe().run(({ load }) => [
        process.env['PASSWORD'],
        load('fs').readFileSync('/run/secrets/password', 'utf8'),
      ]);
      expect(values).toEqual(['xyzzy', 'xyzzy']);
    });

    it('B12: a full /tmp says so', async () => {
      const code = await probe().run(({ load }) => {
        const fs = load('fs');
        try {
          for (let i = 0; i < 200; i++) fs.writeFileSync(`/tmp/f${i}`, Buffer.alloc(1024 * 1024));
          return 'none';
        } catch (error) {
          return (error as NodeJS.ErrnoException).code;
        } finally {
          for (const file of fs.readdirSync('/tmp')) fs.rmSync(`/tmp/${file}`);
        }
      });
      expect(code).toMatch(/ENOSPC|EFBIG/);
    });

    it('I1: a memory bomb ends by its own limit and is told so; the next call is served', async () => {
      const answer = await probe().send(() => {
        const kept: Buffer[] = [];
        for (;;) kept.push(Buffer.alloc(8 * 1024 * 1024, kept.length + 1));
      });
      expect(answer).toMatchObject({ status: 502, cause: 'out_of_memory' });
      expect((await fetch(neighbourUrl)).status).toBe(200);
      expect(await probe().run(() => 'served')).toBe('served');
    });

    it('B6: a time-out ends every process of it', async () => {
      const deaf = await bench.deploy(`deaf-${name}`, { runtimeClass: name, timeout: '2s', memory: '128MB' });
      const before = sandboxPids(bench.server).length;
      expect(await deaf.run(() => 'served')).toBe('served');
      const answer = await deaf.send(() => {
        process.on('SIGTERM', () => {});
        for (;;);
      });
      expect(answer).toMatchObject({ status: 504, cause: 'timeout' });
      await client.remove(`deaf-${name}`);
      await expect
        .poll(() => sandboxPids(bench.server).length, { timeout: 15_000 })
        .toBeLessThanOrEqual(before);
    });

    it('a crash is told as one, and its last words are in the log', async () => {
      const answer = await probe().send(() => {
        process.stderr.write('last words\n', () => process.exit(3));
        return new Promise(() => {});
      });
      expect(answer).toMatchObject({ status: 502, cause: 'crash' });
      expect(await probe().run(() => 'served')).toBe('served');
    });
  });

  it('after kill -9 of the runner, sandboxes of every class are reaped before it is ready again', async () => {
    const before = new Set(sandboxPids(bench.server));
    expect(before.size).toBeGreaterThan(0);
    const old = bench.server.kill('runner');
    await expect.poll(() => bench.server.state.processes['runner'], { timeout: 10_000 }).not.toBe(old);
    for (const probe of probes.values())
      await expect
        .poll(async () => (await probe.send(() => 'again')).value, { timeout: 20_000 })
        .toBe('again');
    expect(sandboxPids(bench.server).filter((pid) => before.has(pid))).toEqual([]);
  });

  it('a class that the host does not have is refused at deploy, with those it has', async () => {
    const known = ['default', ...CLASSES.map(([name]) => name)].join(', ');
    await expect(bench.deploy('odd', { runtimeClass: 'kata' })).rejects.toThrow(`it has ${known}`);
  });
});
