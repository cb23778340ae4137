import { readFileSync, symlinkSync, mkdirSync, writeFileSync, mkdtempSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitFor } from '../../helpers/wait.ts';
import { finish, RUNTIMES, SandboxBench } from './sandbox-bench.ts';

describe.each(RUNTIMES)('a sandbox of %s', (runtime) => {
  let bench: SandboxBench;
  beforeAll(async () => {
    bench = await SandboxBench.open(runtime);
  });
  afterAll(() => bench.close());

  test('has no capability, no new privileges and a seccomp filter, seen from the host, in every thread', async () => {
    const sandbox = await bench.launch({
      args: ['/usr/bin/node', '--max-old-space-size=100', '-e', 'setInterval(() => {}, 1000)'],
    });
    const tasks = await waitFor('threads', () => {
      const list = readdirSync(`/proc/${sandbox.pid}/task`);
      return list.length > 4 && list;
    });
    for (const task of tasks) {
      const status = readFileSync(`/proc/${sandbox.pid}/task/${task}/status`, 'utf8');
      expect(status.match(/^Cap\w+:\t(\w+)$/gm)).toHaveLength(5);
      for (const line of status.match(/^Cap\w+:\t\w+$/gm) ?? []) expect(line).toMatch(/\t0+$/);
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      expect(status).toMatch(/^Seccomp:\t2$/m);
      expect(status).toMatch(/^Groups:\s*$/m);
      expect(status).toMatch(new RegExp(`^Uid:\\t${sandbox.uid}\\t${sandbox.uid}\\t`, 'm'));
    }
    sandbox.kill();
    await sandbox.exited;
  });

  test('maps only uids of its own, none below a million, none of a neighbour', async () => {
    const sandboxes = await Promise.all([bench.launch(), bench.launch()]);
    const uids = sandboxes.flatMap((sandbox) => {
      const text =
        readFileSync(`/proc/${sandbox.pid}/uid_map`, 'utf8') +
        readFileSync(`/proc/${sandbox.pid}/gid_map`, 'utf8');
      const rows = text
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/).map(Number));
      for (const [, host = 0, size] of rows) {
        expect(size).toBe(1);
        expect(host).toBeGreaterThanOrEqual(1_000_000);
      }
      return [...new Set(rows.map(([, host]) => host))];
    });
    expect(new Set(uids).size).toBe(uids.length);
    for (const sandbox of sandboxes) sandbox.kill();
    await Promise.all(sandboxes.map((sandbox) => sandbox.exited));
  });

  test('has namespaces of its own, all seven', async () => {
    const sandbox = await bench.launch();
    const inode = (pid: number | string, name: string) =>
      readFileSync(`/proc/${pid}/mountinfo`).length >= 0 &&
      process.getBuiltinModule('node:fs').readlinkSync(`/proc/${pid}/ns/${name}`);
    for (const name of ['user', 'pid', 'mnt', 'ipc', 'uts', 'cgroup', 'net']) {
      expect(inode(sandbox.pid, name)).not.toBe(inode('self', name));
    }
    sandbox.kill();
    await sandbox.exited;
  });

  test('has a root that cannot be written to, a /tmp that cannot be executed from, and nothing else', async () => {
    const { stdout } = await bench.sh(`
      for f in /x /usr/bin/x /etc/x /run/x /var/task/x; do ( : > $f ) 2>/dev/null && echo "wrote $f"; done
      cat /bin/cat > /tmp/cat && echo "copied"
      /tmp/cat /dev/null 2>/dev/null && echo "executed from /tmp"
      cat /proc/self/mountinfo`);
    const [first, ...rest] = stdout.trim().split('\n');
    expect(first).toBe('copied');
    const mounts = rest.map((line) => line.split(' '));
    const points = mounts.map((fields) => fields[4] as string);
    expect(points.filter((point) => !point.startsWith('/dev/')).sort()).toEqual([
      '/',
      '/dev',
      '/proc',
      '/run/secrets',
      '/tmp',
    ]);
    const options = (point: string) => mounts.find((fields) => fields[4] === point)?.[5]?.split(',');
    expect(options('/')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
    expect(options('/tmp')).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'noexec']));
    expect(options('/proc')).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'noexec']));
    // A field between the options and the dash would be a peer group: mounts would travel.
    for (const line of rest) expect(line).not.toMatch(/shared:/);
  });

  test('sees of /proc its own processes only', async () => {
    const names = (await bench.node(
      "console.log(JSON.stringify(require('fs').readdirSync('/proc')))",
    )) as string[];
    expect(names.filter((name) => !/^\d+$/.test(name)).sort()).toEqual(['self', 'thread-self']);
    expect(names).toContain('1');
    expect(names.length).toBeLessThan(6);
  });

  test('in compat mode sees more of /proc, with the dangerous parts masked or read-only', async () => {
    const { stdout } = await bench.sh(
      'cat /proc/meminfo >/dev/null && echo meminfo; cat /proc/kcore /proc/timer_list /proc/keys 2>/dev/null | cat; for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do ( echo x > $f ) 2>/dev/null && echo "wrote $f"; done; true',
      { isolation: 'compat' },
    );
    expect(stdout).toBe('meminfo\n');
  });

  test('has no devices but the harmless ones', async () => {
    const script = `const fs = require('fs'); const ok = [];
      for (const name of fs.readdirSync('/dev')) { try { fs.closeSync(fs.openSync('/dev/' + name, 'r')); if (fs.statSync('/dev/' + name).isCharacterDevice()) ok.push(name) } catch {} }
      console.log(JSON.stringify(ok.sort()))`;
    const names = (await bench.node(script)) as string[];
    expect(['full', 'null', 'random', 'urandom', 'zero'].every((name) => names.includes(name))).toBe(true);
    for (const name of names) expect(['full', 'null', 'random', 'stdin', 'urandom', 'zero']).toContain(name);
  });

  test('has no network but a loopback', async () => {
    const names = await bench.node(
      "console.log(JSON.stringify(Object.keys(require('os').networkInterfaces())))",
    );
    expect(['[]', '["lo"]']).toContain(JSON.stringify(names));
  });

  test('joins the network namespace it is given, also one that is younger than the host object', async () => {
    const { execFileSync } = process.getBuiltinModule('node:child_process');
    const name = `skiff-test-${process.pid}`;
    execFileSync('ip', ['netns', 'add', name]);
    try {
      execFileSync('ip', ['-n', name, 'link', 'add', 'mark0', 'type', 'veth', 'peer', 'name', 'mark1']);
      execFileSync('ip', ['-n', name, 'addr', 'add', '10.9.8.7/24', 'dev', 'mark0']);
      for (const link of ['mark0', 'mark1']) execFileSync('ip', ['-n', name, 'link', 'set', link, 'up']);
      const script =
        "console.log(JSON.stringify(require('os').networkInterfaces().mark0?.[0].address ?? null))";
      expect(await bench.node(script, { networkNamespace: name })).toBe('10.9.8.7');
    } finally {
      execFileSync('ip', ['netns', 'del', name]);
    }
    await expect(bench.launch({ networkNamespace: 'absent' })).rejects.toThrow(/absent cannot be opened/);
  });

  test('inherits no descriptor, and has no terminal', async () => {
    const script = `const fs = require('fs');
      const links = fs.readdirSync('/proc/self/fd').flatMap((fd) => { try { return [fd + ' ' + fs.readlinkSync('/proc/self/fd/' + fd)] } catch { return [] } });
      let tty = 'none'; try { fs.openSync('/dev/tty', 'r'); tty = 'open' } catch {}
      console.log(JSON.stringify({ tty, files: links.filter((link) => /\\d+ \\//.test(link)) }))`;
    const { tty, files } = (await bench.node(script)) as { tty: string; files: string[] };
    expect(tty).toBe('none');
    expect(['[]', '["0 /dev/null"]']).toContain(JSON.stringify(files));
  });

  test('gets a mount point where an image put a link, and nothing outside changes', async () => {
    const hostile = mkdtempSync(join(bench.folder, 'hostile-'));
    const canary = mkdtempSync(join(bench.folder, 'canary-'));
    for (const name of ['proc', 'dev', 'tmp', 'work']) symlinkSync(canary, join(hostile, name));
    const { code, stdout } = await bench.sh(
      'echo x > /tmp/x && cat /tmp/x && cat /work/hello; [ -e /dev/null ] && cat /proc/self/comm',
      {
        lowerDirs: [hostile, bench.root],
        mounts: [{ source: makeFolder(bench, { hello: 'from the host\n' }), target: '/work' }],
      },
    );
    expect([code, stdout]).toEqual([0, 'x\nfrom the host\ncat\n']);
    expect(readdirSync(canary)).toEqual([]);
    expect(readdirSync(hostile).sort()).toEqual(['dev', 'proc', 'tmp', 'work']);
  });

  test('of several folders shows them merged, the first on top, and mounts where the image has no folder', async () => {
    const lower = makeFolder(bench, { a: 'lower a\n', b: 'lower b\n' });
    const upper = makeFolder(bench, { a: 'upper a\n' });
    const { stdout } = await bench.sh('cat /a /b /opt/new/deep/hello', {
      lowerDirs: [upper, lower, bench.root],
      mounts: [{ source: makeFolder(bench, { hello: 'mounted\n' }), target: '/opt/new/deep' }],
    });
    expect(stdout).toBe('upper a\nlower b\nmounted\n');
  });

  test('of a folder that was removed and made again shows the new one', async () => {
    const fs = process.getBuiltinModule('node:fs');
    const layer = makeFolder(bench, { word: 'old\n' });
    const read = async () => (await bench.sh('cat /word', { lowerDirs: [layer, bench.root] })).stdout;
    expect(await read()).toBe('old\n');
    fs.rmSync(layer, { recursive: true });
    fs.mkdirSync(layer);
    fs.writeFileSync(join(layer, 'word'), 'new\n');
    expect(await read()).toBe('new\n');
  });

  test('may write where it is told to, without devices, setuid or execution', async () => {
    const source = makeFolder(bench, {});
    const uid = bench.host.allocateUid();
    process.getBuiltinModule('node:fs').chownSync(source, uid, uid);
    const { stdout } = await bench.sh(
      'echo hi > /work/out; cat /bin/cat > /work/cat; /work/cat /work/out 2>/dev/null; cat /proc/self/mountinfo',
      {
        uid,
        mounts: [{ source, target: '/work', writable: true }],
      },
    );
    expect(readFileSync(join(source, 'out'), 'utf8')).toBe('hi\n');
    expect(stdout).not.toMatch(/^hi$/m);
    const options = stdout
      .split('\n')
      .find((line) => line.split(' ')[4] === '/work')
      ?.split(' ')[5];
    expect(options?.split(',')).toEqual(expect.arrayContaining(['rw', 'nosuid', 'nodev', 'noexec']));
  });

  test('does not see host mounts made later, except below a folder that propagates', async () => {
    const fs = process.getBuiltinModule('node:fs');
    const { execFileSync } = process.getBuiltinModule('node:child_process');
    const shared = makeFolder(bench, {});
    execFileSync('mount', ['-t', 'tmpfs', 'skiff-test', shared]);
    execFileSync('mount', ['--make-shared', shared]);
    // The runtime's mount namespace receives what comes later only below mounts that were there before it.
    await bench.host.close();
    await bench.openHost();
    try {
      fs.mkdirSync(join(shared, 'in'));
      fs.mkdirSync(join(shared, 'out'));
      const sandbox = await bench.launch({
        args: [
          '/bin/sh',
          '-c',
          'until [ -e /var/task/sub/hello ]; do sleep 0.02; done; cat /var/task/sub/hello; [ -e /work/sub/hello ] && echo leaked',
        ],
        mounts: [
          { source: join(shared, 'in'), target: '/var/task', propagate: true },
          { source: join(shared, 'out'), target: '/work' },
        ],
      });
      for (const name of ['out', 'in']) {
        fs.mkdirSync(join(shared, name, 'sub'));
        execFileSync('mount', [
          '--bind',
          makeFolder(bench, { hello: `${name}\n` }),
          join(shared, name, 'sub'),
        ]);
      }
      expect((await finish(sandbox)).stdout).toBe('in\n');
    } finally {
      execFileSync('umount', ['-R', '-l', shared]);
    }
  });

  test('says clearly why it cannot start, and leaves nothing', async () => {
    await expect(bench.launch({ args: ['/bin/absent'] })).rejects.toMatchObject({
      code: 'COLD_START_FAILED',
      message: expect.stringContaining('/bin/absent'),
    });
    await expect(bench.launch({ mounts: [{ source: '/absent', target: '/work' }] })).rejects.toThrow(
      /\/absent does not exist/,
    );
    await expect(bench.launch({ id: '../x' })).rejects.toThrow(/not a sandbox id/);
    await expect(bench.launch({ uid: 1_000_000_000 })).rejects.toThrow(/does not come from allocateUid/);
    await expect(bench.launch({ lowerDirs: [join(bench.folder, 'absent')] })).rejects.toMatchObject({
      code: 'COLD_START_FAILED',
    });
    await expect(bench.launch({ memoryBytes: 1 })).rejects.toMatchObject({ code: expect.any(String) });
    expect(bench.cgroupFolders()).toEqual([]);
    expect((await bench.sh('echo fine')).stdout).toBe('fine\n');
  });
});

function makeFolder(bench: SandboxBench, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(bench.folder, 'files-'));
  // Below a 0700 folder, as in the data folder.
  const inner = join(folder, 'inner');
  mkdirSync(inner, { mode: 0o755 });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(inner, name), text);
  return inner;
}
