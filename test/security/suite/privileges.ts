/** Who a function is: ids, capabilities, processes, descriptors, environment. */
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EPERM, sandboxPids, tryRead } from '../probe.ts';
import type { Ground } from './escapes.ts';

const NO_CAPABILITIES = '0000000000000000';
const ZEROES = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'];

function statusField(status: string, name: string): string | undefined {
  return new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim();
}

export function definePrivileges(ground: () => Ground): void {
  describe('privileges', () => {
    it('A1: every thread of every sandbox has no capability, no_new_privs and a seccomp filter', async () => {
      await ground().probe.run(({ load }) => {
        const { Worker } = load('worker_threads');
        const worker = new Worker('setTimeout(() => {}, 5000)', { eval: true });
        worker.unref();
      });
      const pids = sandboxPids(ground().bench.server);
      expect(pids.length).toBeGreaterThan(2);
      for (const pid of pids) {
        for (const thread of readdirSync(`/proc/${pid}/task`)) {
          const status = tryRead(`/proc/${pid}/task/${thread}/status`);
          if (status === '') continue;
          for (const name of ZEROES)
            expect(statusField(status, name), `${name} of ${pid}`).toBe(NO_CAPABILITIES);
          expect(statusField(status, 'NoNewPrivs')).toBe('1');
          expect(statusField(status, 'Seccomp')).toBe('2');
        }
      }
    });

    it('A1: a program that the function executes gains nothing', async () => {
      const status = await ground().probe.run(({ load }) => {
        const script = 'process.stdout.write(require("fs").readFileSync("/proc/self/status"))';
        return load('child_process').execFileSync('/usr/bin/node', ['-e', script], { encoding: 'utf8' });
      });
      for (const name of ZEROES) expect(statusField(status, name), name).toBe(NO_CAPABILITIES);
      expect(statusField(status, 'NoNewPrivs')).toBe('1');
      expect(statusField(status, 'Seccomp')).toBe('2');
    });

    it('A2: the one uid inside is a high one outside, no two sandboxes have the same, no group is inherited', () => {
      const owners = new Map<string, string>();
      for (const pid of sandboxPids(ground().bench.server)) {
        const status = tryRead(`/proc/${pid}/status`);
        const map = tryRead(`/proc/${pid}/uid_map`).trim();
        if (map === '' || statusField(status, 'NSpid')?.endsWith('\t1') !== true) continue;
        expect(tryRead(`/proc/${pid}/gid_map`).trim()).toBe(map);
        expect(statusField(status, 'Groups')).toBe('');
        for (const line of map.split('\n')) {
          // runc insists on a uid 0, which then is one more unprivileged uid outside.
          const [inner, outer, size] = line.trim().split(/\s+/).map(Number);
          expect([0, 1000]).toContain(inner);
          expect(size).toBe(1);
          expect(outer).toBeGreaterThanOrEqual(1_000_000);
          expect(owners.has(String(outer)), `uid ${outer} twice`).toBe(false);
          owners.set(String(outer), String(pid));
        }
      }
      expect(owners.size).toBeGreaterThanOrEqual(3);
    });

    it('A2 A16: no call changes who it is', async () => {
      const results = await ground().probe.run(({ syscall }) => ({
        setuid: syscall(105, 0),
        setgid: syscall(106, 0),
        setreuid: syscall(113, 0, 0),
        setgroups: syscall(116, 0, 0),
        setresuid: syscall(117, 0, 0, 0),
        setfsuid: syscall(122, 0),
        capset: syscall(126, 0, 0),
      }));
      for (const [name, result] of Object.entries(results)) expect(result, name).toBe(EPERM);
    });

    it('A9: it sees its own processes and no others', async () => {
      const names = await ground().probe.run(({ load }) => load('fs').readdirSync('/proc'));
      const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
      expect(Math.max(...pids)).toBeLessThan(1000);
      expect(names.filter((name) => !/^\d+$/.test(name)).sort()).toEqual(['self', 'thread-self']);
    });

    it('A9: /proc/1 leads nowhere outside', async () => {
      const links = await ground().probe.run(({ load }) => {
        const fs = load('fs');
        return ['root', 'cwd', 'exe'].map((name) => fs.readlinkSync(`/proc/1/${name}`));
      });
      expect(links).toEqual(['/', '/var/task', '/usr/bin/node']);
      const listing = await ground().probe.run(({ load }) => load('fs').readdirSync('/proc/1/root/'));
      expect(listing).not.toContain('home');
    });

    it('A9: a signal to a host pid or to everybody reaches nobody', async () => {
      const results = await ground().probe.run(
        ({ syscall }, pids: number[]) => pids.map((pid) => syscall(62, pid, 0)),
        [process.pid, ground().bench.server.pid],
      );
      expect(results).toEqual([-3, -3]);
      expect(ground().bench.server.hasEnded).toBe(false);
    });

    it('A10: its descriptors are its channel, its output and anonymous ones; none is a file or folder of the host', async () => {
      const links = await ground().probe.run(({ load }) => {
        const fs = load('fs');
        return fs.readdirSync('/proc/self/fd').map((fd) => {
          try {
            return fs.readlinkSync(`/proc/self/fd/${fd}`);
          } catch {
            return 'closed';
          }
        });
      });
      const allowed = /^(?:closed|\/dev\/null|\/proc\/1\/fd|\/proc\/self\/fd|(?:socket|pipe|anon_inode):.*)$/;
      expect(links.filter((link) => !allowed.test(link))).toEqual([]);
      expect(links.filter((link) => link.startsWith('socket:')).length).toBeLessThanOrEqual(3);
    });

    it('A10: the channel takes no second connection', async () => {
      const result = await ground().probe.run(
        ({ load }) =>
          new Promise<string>((resolve) => {
            const socket = load('net').connect('/run/skiff/channel.sock');
            socket.once('connect', () => resolve('connected'));
            socket.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? 'failed'));
          }),
      );
      expect(result).toMatch(/^(?:ENOENT|ECONNREFUSED)$/);
    });

    it('A11: its environment has nothing of the host\u2019s and nothing of the platform\u2019s', async () => {
      const names = await ground().probe.run(() => Object.keys(process.env).sort());
      expect(names).toEqual(['HOME', 'LANG', 'PATH', 'TMPDIR']);
    });

    it.each(['LD_PRELOAD', 'NODE_OPTIONS', 'PATH', 'SKIFF_CHANNEL'])(
      'A11: a deploy cannot set %s',
      async (name) => {
        await expect(ground().bench.deploy('reserved', { env: { [name]: '/tmp/x' } })).rejects.toThrow(
          /set by the platform/,
        );
      },
    );

    it('A16: no file of the image has a setuid or setgid bit', async () => {
      const found = await ground().probe.run(({ load }) => {
        const fs = load('fs');
        const open = ['/usr', '/lib', '/etc', '/var', '/skiff'];
        const bad: string[] = [];
        for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
          for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
            const path = `${folder}/${entry.name}`;
            if (entry.isDirectory()) open.push(path);
            else if (entry.isFile() && (fs.statSync(path).mode & 0o6000) !== 0) bad.push(path);
          }
        }
        return bad;
      });
      expect(found).toEqual([]);
    });

    it('A21: there is no terminal and its input is at its end', async () => {
      const result = await ground().probe.run(({ load, syscall }) => {
        const fs = load('fs');
        let tty = 'opened';
        try {
          fs.openSync('/dev/tty', 'r+');
        } catch (error) {
          tty = (error as NodeJS.ErrnoException).code ?? 'failed';
        }
        return {
          tty,
          input: fs.readSync(0, Buffer.alloc(1)),
          sti: syscall(16, 0, 0x5412, 'x'),
          linux: syscall(16, 0, 0x541c, 'x'),
        };
      });
      expect(result.tty).toMatch(/ENXIO|EPERM|EACCES|ENOENT/);
      expect(result).toMatchObject({ input: 0, sti: EPERM, linux: EPERM });
    });

    it('A22: a crash leaves no core file and is told as a crash; the next call is served', async () => {
      const crasher = await ground().bench.deploy('crasher', { concurrency: 1 });
      const limit = await crasher.run(({ load }) => load('fs').readFileSync('/proc/self/limits', 'utf8'));
      expect(limit).toMatch(/Max core file size\s+0\s+0/);
      const answer = await crasher.send(() => process.abort());
      expect(answer).toMatchObject({ status: 502, cause: 'crash' });
      expect(await crasher.run(() => 'alive')).toBe('alive');
    });

    it('A23: it cannot make itself less likely to be killed than the host\u2019s services', async () => {
      const result = await ground().probe.run(({ load }) => {
        const fs = load('fs');
        try {
          fs.writeFileSync('/proc/self/oom_score_adj', '-1000');
          return 'written';
        } catch (error) {
          return (error as NodeJS.ErrnoException).code;
        }
      });
      expect(result).toMatch(/EACCES|EPERM/);
    });

    it('A25: what breaks out of JavaScript is still a process without rights', async () => {
      const result = await ground().probe.run(({ load, execute }) => {
        const script = 'this.constructor.constructor("return process")().getuid()';
        const viaVm: unknown = load('vm').runInNewContext(script);
        // mov eax, 102 (getuid); syscall; ret
        const viaCode = execute(Uint8Array.of(0xb8, 102, 0, 0, 0, 0x0f, 0x05, 0xc3));
        return { viaVm, viaCode };
      });
      expect(result).toEqual({ viaVm: 1000, viaCode: 1000 });
    });
  });
}
