/** What a function may do to files: its own, the platform's, the host's, its neighbours'. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EPERM, cgroupName, tryRead } from '../probe.ts';
import { besideNeighbour } from './bombs.ts';
import type { Ground } from './escapes.ts';

const READ_ONLY = [
  '/probe',
  '/usr/bin/node',
  '/usr/bin/probe',
  '/etc/passwd',
  '/skiff/guest.cjs',
  '/var/task/index.cjs',
  '/var/task/probe',
  '/run/skiff/probe',
  '/lib/probe',
  '/sys/probe',
  '/proc/1/exe',
  '/proc/1/root/probe',
];

export function defineFilesystem(ground: () => Ground): void {
  const tryWrite = (path: string): Promise<string | undefined> =>
    ground().probe.run(({ load }, file) => {
      try {
        load('fs').appendFileSync(file, 'x');
        return 'written';
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    }, path);

  describe('files', () => {
    it.each(READ_ONLY)('A12 A26: %s cannot be written', async (path) => {
      expect(await tryWrite(path)).toMatch(/^(?:EROFS|EACCES|ETXTBSY|ENOENT|EPERM)$/);
    });

    it('A26: the root is read-only, without set-user-ids and devices, and has no writable layer', async () => {
      const mounts = await ground().probe.run(({ load }) =>
        load('fs').readFileSync('/proc/self/mountinfo', 'utf8'),
      );
      const root = mounts.split('\n').find((line) => line.split(' ')[4] === '/');
      expect(root?.split(' ')[5]?.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
      expect(root).not.toMatch(/upperdir|userxattr/);
    });

    it('A27: no mount of it is shared, and one made on the host later does not appear', async () => {
      const read = () =>
        ground().probe.run(({ load }) => load('fs').readFileSync('/proc/self/mountinfo', 'utf8'));
      const before = await read();
      expect(before).not.toMatch(/ shared:/);
      const folder = mkdtempSync(join(tmpdir(), 'skiff-later-'));
      execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', folder]);
      try {
        expect((await read()).split('\n').length).toBe(before.split('\n').length);
      } finally {
        execFileSync('umount', [folder]);
        rmSync(folder, { recursive: true });
      }
    });

    it('A26: no mount of it is writable and executable, and none honours set-user-ids', async () => {
      const mounts = await ground().probe.run(({ load }) =>
        load('fs').readFileSync('/proc/self/mountinfo', 'utf8'),
      );
      // A device node is no file system: flags of its own mount mean nothing.
      for (const line of mounts
        .trim()
        .split('\n')
        .filter((one) => !one.includes(' - devtmpfs '))) {
        const options = line.split(' ')[5]?.split(',') ?? [];
        expect(options, line).toContain('nosuid');
        if (options.includes('rw')) expect(options, line).toContain('noexec');
      }
    });

    it('A14: it sees no cgroup file, and which groups it is in stays hidden', async () => {
      const { cgroup, sys } = await ground().probe.run(({ load }) => ({
        cgroup: load('fs').readFileSync('/proc/self/cgroup', 'utf8'),
        sys: load('fs').readdirSync('/sys'),
      }));
      expect(sys).toEqual([]);
      for (const line of cgroup.trim().split('\n')) expect(line).toMatch(/:\/$/);
      expect(cgroup).not.toContain(cgroupName(ground().bench.server));
    });

    it('A15: only the harmless devices are there', async () => {
      const devices = await ground().probe.run(({ load }) => {
        const fs = load('fs');
        return fs
          .readdirSync('/dev', { withFileTypes: true })
          .filter((entry) => !entry.isSymbolicLink())
          .map((entry) => entry.name);
      });
      const harmless = ['full', 'null', 'random', 'tty', 'urandom', 'zero'];
      expect(
        devices.filter((name) => !harmless.includes(name) && name !== 'pts' && name !== 'console'),
      ).toEqual([]);
    });

    it.each([
      ['disk', 0o60660, 254 * 256],
      ['kernel memory', 0o20660, 1 * 256 + 1],
      ['kvm', 0o20660, 10 * 256 + 232],
      ['fuse', 0o20660, 10 * 256 + 229],
      ['whiteout', 0o20000, 0],
    ])('A15: a device node cannot be made: %s', async (_name, mode, device) => {
      const results = await ground().probe.run(
        ({ syscall }, ...[kind, number]: [number, number]) => [
          syscall(133, '/tmp/node', kind, number),
          syscall(259, -100, '/tmp/node', kind, number),
        ],
        mode,
        device,
      );
      expect(results).toEqual([EPERM, EPERM]);
    });

    it('A16: it cannot give a file to somebody else or mark it set-user-id for others', async () => {
      const results = await ground().probe.run(({ syscall, load }) => {
        load('fs').writeFileSync('/tmp/owned', 'x');
        const list = [
          syscall(92, '/tmp/owned', 0, 0),
          syscall(188, '/tmp/owned', 'security.capability', 'x', 1, 0),
        ];
        load('fs').rmSync('/tmp/owned');
        return list;
      });
      expect(results).toEqual([EPERM, EPERM]);
    });

    it('A24: /tmp is its own, and there is no shared memory folder', async () => {
      const seen = await ground().probe.run(({ load }) => {
        load('fs').writeFileSync('/tmp/mine', 'x');
        return load('fs').existsSync('/dev/shm');
      });
      expect(seen).toBe(false);
      expect(await ground().compat.run(({ load }) => load('fs').existsSync('/tmp/mine'))).toBe(false);
    });

    it('A24: other functions\u2019 code and sandboxes cannot be named', async () => {
      const { dataDir } = ground().bench.server;
      const result = await ground().probe.run(
        ({ load }, paths) => paths.filter((path) => load('fs').existsSync(path)),
        [
          dataDir,
          `${dataDir}/runner`,
          '/run/netns',
          '/run/skiff/uids',
          '/var/lib/skiff',
          '/root',
          '/home',
          '/work',
        ],
      );
      expect(result).toEqual([]);
    });

    it('B12: a full /tmp says so inside and takes nothing of the host\u2019s disk', async () => {
      const filler = await ground().bench.deploy('filler', { concurrency: 1 });
      const free = () => {
        const { bavail, bsize } = statfsSync(ground().bench.server.dataDir);
        return bavail * bsize;
      };
      const before = free();
      const filling = filler.run(({ load }) => {
        const fs = load('fs');
        const piece = Buffer.alloc(1024 * 1024);
        let written = 0;
        try {
          for (;;) written += fs.writeSync(fs.openSync(`/tmp/f${Math.floor(written / 8e6)}`, 'a'), piece);
        } catch (error) {
          return [(error as NodeJS.ErrnoException).code, written];
        }
      });
      const bytes = await besideNeighbour(ground(), filling);
      expect(bytes[0]).toBe('ENOSPC');
      expect(bytes[1]).toBeLessThanOrEqual(64 * 1024 * 1024);
      // Logs and other servers write as well; a sandbox's 64 MB would be far more.
      expect(before - free()).toBeLessThan(48 * 1024 * 1024);
    });

    it('B12: a million small files end at the inode limit', async () => {
      const filler = await ground().bench.deploy('inodes', { concurrency: 1 });
      const filling = filler.run(({ load }) => {
        const fs = load('fs');
        let files = 0;
        try {
          for (; files < 1_000_000; files++) fs.closeSync(fs.openSync(`/tmp/i${files}`, 'w'));
        } catch (error) {
          return [(error as NodeJS.ErrnoException).code, files] as const;
        }
        return ['none', files] as const;
      });
      const [code, made] = await besideNeighbour(ground(), filling);
      expect(code).toBe('ENOSPC');
      expect(made).toBeLessThan(17_000);
    });

    it('A14: the host\u2019s release agents are empty', () => {
      expect(tryRead('/sys/fs/cgroup/memory/release_agent').trim()).toBe('');
      expect(
        tryRead(`/sys/fs/cgroup/memory/${cgroupName(ground().bench.server)}/notify_on_release`).trim(),
      ).toMatch(/^0?$/);
    });
  });
}
