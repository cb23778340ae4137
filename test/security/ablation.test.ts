/**
 * Defence in depth, shown: the same attacks with one wall taken away at a time. Without seccomp, without the user
 * namespace and so on, the other walls must still stop everything, except where the table says that a wall stands alone.
 * Printed at the end. The sandbox here is started by crun from the platform's own configuration, changed in one place.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRuntimeConfig } from '../../infra/sandbox/bundle.ts';
import { loadSeccompProfile } from '../../infra/sandbox/seccomp.ts';
import { openBench, type Bench } from './probe.ts';

const run = promisify(execFile);

interface Config {
  process: {
    user: { uid: number; gid: number };
    noNewPrivileges: boolean;
    capabilities: Record<string, string[]>;
  };
  root: { readonly: boolean };
  mounts: { destination: string; options: string[] }[];
  linux: {
    namespaces: { type: string }[];
    uidMappings?: unknown;
    gidMappings?: unknown;
    seccomp?: unknown;
  };
}

const UID = 3_900_000;
const CAPABILITIES = [
  'CAP_SYS_ADMIN',
  'CAP_NET_RAW',
  'CAP_NET_ADMIN',
  'CAP_MKNOD',
  'CAP_SYS_PTRACE',
  'CAP_DAC_OVERRIDE',
  'CAP_SETUID',
  'CAP_CHOWN',
  'CAP_SYS_CHROOT',
  'CAP_SYSLOG',
  'CAP_SYS_TIME',
];

const without = (type: string) => (config: Config) => {
  config.linux.namespaces = config.linux.namespaces.filter((one) => one.type !== type);
};

const WALLS: Readonly<Record<string, (config: Config) => void>> = {
  nothing: () => {},
  seccomp: (config) => void delete config.linux.seccomp,
  'user namespace': (config) => {
    without('user')(config);
    delete config.linux.uidMappings;
    delete config.linux.gidMappings;
    config.process.user = { uid: UID, gid: UID };
  },
  'no capabilities': (config) => {
    for (const set of Object.keys(config.process.capabilities))
      config.process.capabilities[set] = CAPABILITIES;
  },
  no_new_privs: (config) => void (config.process.noNewPrivileges = false),
  'read-only root': (config) => void (config.root.readonly = false),
  'mount flags': (config) => {
    for (const mount of config.mounts) {
      mount.options = mount.options.filter((option) => !['nosuid', 'nodev', 'noexec'].includes(option));
    }
  },
  'process-only /proc': (config) => {
    for (const mount of config.mounts)
      mount.options = mount.options.filter((option) => !/^(?:subset|hidepid)=/.test(option));
  },
  'pid namespace': without('pid'),
  'ipc namespace': without('ipc'),
  'network namespace': without('network'),
};

/** Without these the kernel refuses the rest of the configuration, so they cannot be missing unseen. */
const INSEPARABLE: readonly string[] = ['no_new_privs', 'pid namespace'];

/** Attack -> the walls that stop it alone. Empty: every single one can fall. */
const ALONE: Readonly<Record<string, readonly string[]>> = {
  'A2 become root': [],
  'A4 vsock': ['seccomp'],
  'A4 packet socket': [],
  'A5 new user namespace': ['seccomp'],
  'A5 new uts namespace': [],
  'A6 mount': [],
  'A7 write core_pattern': [],
  'A8 read the kernel\u2019s command line': ['process-only /proc'],
  'A9 see processes of the host': [],
  'A15 make a device': [],
  'A15 open the kernel\u2019s memory': [],
  'A17 execute from /tmp': ['mount flags'],
  'A18 keyring': ['seccomp'],
  'A18 read the kernel log': [],
  'A18 set the clock': [],
  'A19 splice': ['seccomp'],
  'A24 System V memory': ['seccomp'],
  'A26 write to the root': [],
  'D1 reach a program of the host': ['network namespace'],
};

/** Runs inside; prints which attacks got through. */
const ATTACKS = String.raw`
const fs = require('fs');
const koffi = require('/var/task/node_modules/koffi');
const libc = koffi.load('libc.so.6');
const raw = libc.func('long syscall(long, long, long, long, long, long, long)');
const kept = [];
const address = (text) => { const bytes = Buffer.from(text + '\0'); kept.push(bytes); return koffi.address(bytes); };
const sys = (...args) => { while (args.length < 7) args.push(0); return Number(raw(...args)); };
const attempt = (work) => { try { return work() === true; } catch { return false; } };
const childGets = (flags) => { const pid = sys(56, flags | 17, 0, 0, 0, 0); if (pid === 0) sys(231, 0); return pid > 0; };
const results = {
  'A2 become root': attempt(() => sys(117, 0, 0, 0) === 0 && process.getuid() === 0),
  'A4 vsock': sys(41, 40, 1, 0) >= 0,
  'A4 packet socket': sys(41, 17, 3, 0x300) >= 0,
  'A5 new user namespace': childGets(0x10000000),
  'A5 new uts namespace': childGets(0x04000000),
  'A6 mount': sys(165, address('none'), address('/tmp'), address('tmpfs'), 0, 0) === 0,
  'A7 write core_pattern': attempt(() => { const file = '/proc/sys/kernel/core_pattern'; const was = fs.readFileSync(file); fs.writeFileSync(file, was); return true; }),
  'A8 read the kernel’s command line': attempt(() => fs.readFileSync('/proc/cmdline').length > 0),
  'A9 see processes of the host': attempt(() => fs.existsSync('/proc/' + process.env.HOST_PID)),
  'A15 make a device': sys(133, address('/tmp/node'), 0o20666, 257) === 0,
  'A15 open the kernel’s memory': attempt(() => fs.openSync('/proc/kcore', 'r') >= 0),
  'A17 execute from /tmp': attempt(() => { fs.copyFileSync('/usr/bin/node', '/tmp/node2'); fs.chmodSync('/tmp/node2', 0o755); return require('child_process').spawnSync('/tmp/node2', ['-e', '0']).status === 0; }),
  'A18 keyring': sys(250, 0, -3, 1) > 0,
  'A18 read the kernel log': sys(103, 3, address(' '.repeat(64)), 64) > 0,
  'A18 set the clock': sys(227, 0, address('\0'.repeat(16))) === 0,
  'A19 splice': (() => { const pipe = Buffer.alloc(8); kept.push(pipe); sys(293, koffi.address(pipe), 0); const from = fs.openSync('/usr/bin/node', 'r'); return sys(275, from, 0, pipe.readInt32LE(4), 0, 16, 0) > 0; })(),
  'A24 System V memory': sys(29, 0, 4096, 0o1600) >= 0,
  'A26 write to the root': attempt(() => { fs.writeFileSync('/usr/skiff-probe', 'x'); fs.rmSync('/usr/skiff-probe'); return true; }),
};
const socket = require('net').connect({ host: '127.0.0.1', port: Number(process.env.HOST_PORT) });
const done = (reached) => { results['D1 reach a program of the host'] = reached; process.stdout.write(JSON.stringify(results)); process.exit(0); };
socket.once('connect', () => done(true)).once('error', () => done(false));
`;

const START = `
umount -l /sys/fs/cgroup/unified 2>/dev/null
mount --bind "$1" "$2" && mount --bind "$3" "$4" || exit 1
shift 4
exec "$@"
`;

describe.skipIf(process.arch !== 'x64')('walls', () => {
  let bench: Bench;
  let folder: string;
  let rootfs: string;
  let task: string;
  let host: Server;
  const table = new Map<string, Record<string, boolean>>();

  beforeAll(async () => {
    bench = await openBench('crun');
    await bench.deploy('probe');
    const runner = join(bench.server.dataDir, 'runner');
    const roots = join(runner, 'store', 'rootfs');
    rootfs = join(
      roots,
      readdirSync(roots).find((name) => existsSync(join(roots, name, 'fs/usr/bin/node'))) as string,
      'fs',
    );
    const sandboxes = join(runner, 'sandboxes');
    task = join(
      sandboxes,
      readdirSync(sandboxes).find((name) =>
        existsSync(join(sandboxes, name, 'task/node_modules/koffi')),
      ) as string,
      'task',
    );
    folder = mkdtempSync(join(tmpdir(), 'skiff-walls-'));
    host = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
    await once(host, 'listening');
  });
  afterAll(async () => {
    host?.close();
    if (folder) rmSync(folder, { recursive: true, force: true });
    await bench?.server.stop();
    process.stdout.write(`\n${formatTable(table)}\n`);
  });

  async function attackWithout(wall: string): Promise<Record<string, boolean>> {
    const bundle = mkdtempSync(join(folder, 'b-'));
    const [root, code] = [join(bundle, 'root'), join(bundle, 'task')];
    for (const one of [root, code]) mkdirSync(one, { mode: 0o755 });
    for (const one of [folder, bundle]) await run('chmod', ['755', one]);
    const config = createRuntimeConfig({
      spec: {
        id: 'walls',
        lowerDirs: [],
        args: ['/usr/bin/node', '-e', ATTACKS],
        env: {
          HOST_PID: String(process.pid),
          HOST_PORT: String((host.address() as AddressInfo).port),
          HOME: '/tmp',
        },
        memoryBytes: 512 * 1024 ** 2,
        cpu: 1,
        pidsMax: 64,
        tmpBytes: 256 * 1024 ** 2,
        isolation: 'strict',
        mounts: [],
      },
      uid: UID,
      rootPath: root,
      mounts: [{ source: code, target: '/var/task', options: ['rbind', 'ro', 'nosuid', 'nodev'] }],
      seccomp: loadSeccompProfile(process.arch),
    }) as Config;
    (WALLS[wall] as (config: Config) => void)(config);
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    const id = `walls-${process.pid}-${table.size}`;
    const crun = [
      'crun',
      '--root',
      join(folder, 'state'),
      '--cgroup-manager=disabled',
      'run',
      '--bundle',
      bundle,
      id,
    ];
    const args = [
      '--mount',
      '--propagation',
      'slave',
      '--',
      '/bin/sh',
      '-c',
      START,
      'skiff',
      rootfs,
      root,
      task,
      code,
      ...crun,
    ];
    const { stdout } = await run('unshare', args, { timeout: 20_000 });
    return JSON.parse(stdout) as Record<string, boolean>;
  }

  it.each(INSEPARABLE)('A29: without %s no sandbox starts', async (wall) => {
    await expect(attackWithout(wall)).rejects.toMatchObject({ stdout: '' });
  });

  it.each(Object.keys(WALLS).filter((wall) => !INSEPARABLE.includes(wall)))(
    'A29: without %s',
    async (wall) => {
      const results = await attackWithout(wall);
      table.set(wall, results);
      const through = Object.keys(results).filter((attack) => results[attack]);
      const expected = Object.keys(ALONE).filter((attack) => ALONE[attack]?.includes(wall));
      expect(through.sort()).toEqual(expected.sort());
      expect(Object.keys(results).sort()).toEqual(Object.keys(ALONE).sort());
    },
  );
});

/** Attacks down, walls across; `X` where the attack got through when that wall was missing. */
function formatTable(table: ReadonlyMap<string, Record<string, boolean>>): string {
  const walls = [...table.keys()];
  const width = Math.max(...Object.keys(ALONE).map((attack) => attack.length));
  const rows = Object.keys(ALONE).map((attack) =>
    [attack.padEnd(width), ...walls.map((wall) => (table.get(wall)?.[attack] ? 'X' : '.').padStart(3))].join(
      ' ',
    ),
  );
  const legend = walls.map((wall, index) => `  ${String(index + 1).padStart(2)} without ${wall}`);
  const head = [' '.repeat(width), ...walls.map((_, index) => String(index + 1).padStart(3))].join(' ');
  return ['walls that stand alone are marked X', ...legend, head, ...rows].join('\n');
}
