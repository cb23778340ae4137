import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkExposure, checkPrivateFiles, checkSandboxes } from '../../../infra/host/checks/audit.ts';
import { createHostView, type HostView } from '../../../infra/host/checks/check.ts';
import * as kernel from '../../../infra/host/checks/kernel.ts';
import { checkNode, checkPrograms, isAtLeast, parseVersion } from '../../../infra/host/checks/programs.ts';
import { checkSecurity } from '../../../infra/host/checks/security.ts';
import { formatChecks } from '../../../infra/host/doctor.ts';

let root: string;
let view: HostView;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'skiff-host-'));
  view = createHostView(root, join(root, 'bin'));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text: string, mode = 0o644): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text, { mode });
}

const V1_MOUNTS = ['cpu,cpuacct', 'memory', 'pids']
  .map((name) => `cgroup /sys/fs/cgroup/${name} cgroup rw,${name} 0 0`)
  .join('\n');

describe('cgroups', () => {
  test('are found in a pure v2 host, and what is absent is named with how to enable it', () => {
    put('/sys/fs/cgroup/cgroup.controllers', 'cpuset cpu io memory pids\n');
    expect(kernel.checkCgroups(view)).toMatchObject({ status: 'ok', detail: 'v2: cpu, memory, pids' });
    put('/sys/fs/cgroup/cgroup.controllers', 'cpu\n');
    const check = kernel.checkCgroups(view);
    expect(check.status).toBe('missing');
    expect(check.fix).toContain('+memory +pids');
  });

  test('are found in pure v1 and in hybrid hosts', () => {
    put('/proc/self/mounts', V1_MOUNTS);
    expect(kernel.readCgroups(view)).toEqual({ mode: 'v1', missing: [] });
    put('/proc/self/mounts', `${V1_MOUNTS}\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0`);
    expect(kernel.readCgroups(view)).toEqual({ mode: 'hybrid', missing: [] });
  });

  test('that are not there at all are missing', () => {
    expect(kernel.checkCgroups(view)).toMatchObject({
      status: 'missing',
      detail: expect.stringContaining('none'),
    });
  });
});

test('a host without loop devices runs functions, and is told that it can have no volumes', async () => {
  expect(await kernel.checkVolumes(view)).toMatchObject({
    status: 'warning',
    fix: expect.stringContaining('modprobe loop'),
  });
  put('/dev/loop-control', '');
  expect(await kernel.checkVolumes(view)).toMatchObject({ status: 'ok' });
});

test('a kernel without user namespaces, overlay or seccomp is refused, each with what to do', () => {
  for (const check of [
    kernel.checkUserNamespaces(view),
    kernel.checkOverlay(view),
    kernel.checkSeccomp(view),
  ]) {
    expect(check).toMatchObject({ status: 'missing', fix: expect.stringMatching(/\S/) });
  }
  put('/proc/sys/user/max_user_namespaces', '0');
  expect(kernel.checkUserNamespaces(view).fix).toContain('sysctl');
  put('/proc/sys/user/max_user_namespaces', '100');
  put('/proc/filesystems', 'nodev\ttmpfs\nnodev\toverlay\n');
  put('/proc/sys/kernel/seccomp/actions_avail', 'kill_process kill_thread trap errno allow');
  for (const check of [
    kernel.checkUserNamespaces(view),
    kernel.checkOverlay(view),
    kernel.checkSeccomp(view),
  ]) {
    expect(check.status).toBe('ok');
  }
});

test('a port somebody listens on, by IPv4 or IPv6, is found; one that is only connected is not', () => {
  const head = 'sl local_address rem_address st\n';
  put('/proc/net/tcp', `${head}0: 0100007F:1F90 00000000:0000 0A 0\n1: 0100007F:2328 0100007F:1F90 01 0\n`);
  put(
    '/proc/net/tcp6',
    `${head}0: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 0\n`,
  );
  expect(kernel.checkPort(view, 8080, 'SKIFF_GATEWAY_PORT')).toMatchObject({ status: 'missing' });
  expect(kernel.checkPort(view, 8081, 'SKIFF_REGISTRY_PORT').fix).toContain('SKIFF_REGISTRY_PORT');
  expect(kernel.checkPort(view, 9000, 'SKIFF_GATEWAY_PORT').status).toBe('ok');
});

test('a data folder is judged by the mount it is on', () => {
  const mounts = [
    '/dev/a / ext4 rw 0 0',
    'tmpfs /tmp tmpfs rw 0 0',
    '/dev/b /srv ext4 rw,noexec 0 0',
    '/dev/c /ro ext4 ro 0 0',
  ];
  put('/proc/self/mounts', mounts.join('\n'));
  const status = (dataDir: string) => kernel.checkDataFolder(view, dataDir).status;
  expect(status('/var/lib/skiff')).toBe('ok');
  expect(status('/srvother')).toBe('ok');
  expect(status('/tmp/skiff')).toBe('warning');
  expect(status('/srv/skiff')).toBe('missing');
  expect(status('/ro')).toBe('missing');
  expect(status(`/${'x'.repeat(60)}`)).toBe('missing');
});

test('memory has a floor and a recommendation', () => {
  const status = (kilobytes: number) => {
    put('/proc/meminfo', `MemTotal:       ${kilobytes} kB\n`);
    return kernel.checkMemory(view).status;
  };
  expect([status(300_000), status(1_000_000), status(8_000_000)]).toEqual(['missing', 'warning', 'ok']);
});

describe('programs', () => {
  test('versions are compared number by number', () => {
    expect(parseVersion('Redis server v=7.0.15 sha=0 bits=64')).toBe('7.0.15');
    expect(isAtLeast('1.10.0', '1.8')).toBe(true);
    expect(isAtLeast('1.8', '1.8.1')).toBe(false);
    expect(isAtLeast('1.8.1', '1.8.1')).toBe(true);
  });

  test('one that is absent or too old is missing, with the package that brings it', async () => {
    put('bin/redis-server', '#!/bin/sh\necho Redis server v=5.0.14\n', 0o755);
    const checks = await checkPrograms(view, 'no-such-runtime', true);
    expect(checks.find(({ id }) => id === 'program-redis-server')).toMatchObject({
      status: 'missing',
      detail: expect.stringContaining('6.2 is needed'),
      fix: expect.stringContaining('redis-server'),
    });
    expect(checks.find(({ id }) => id === 'program-no-such-runtime')?.status).toBe('missing');
  });

  test('Redis and the registry are not asked for when they run elsewhere', async () => {
    const ids = (await checkPrograms(view, 'crun', false)).map(({ id }) => id);
    expect(ids).not.toContain('program-redis-server');
    expect(ids).toContain('program-crun');
  });

  test('Node 26 is the oldest', () => {
    expect(checkNode('20.20.2').status).toBe('missing');
    expect(checkNode('26.10.0').status).toBe('ok');
  });
});

describe('security', () => {
  const find = async (id: string, runtime = 'crun') =>
    (await checkSecurity(view, runtime)).find((check) => check.id === id);

  test('old runc is named with its holes, new runc is not', async () => {
    put('bin/runc', '#!/bin/sh\necho runc version 1.1.5\n', 0o755);
    expect(await find('runtime', 'runc')).toMatchObject({
      status: 'warning',
      detail: expect.stringContaining('CVE-2025-31133'),
    });
    put('bin/runc', '#!/bin/sh\necho runc version 1.3.3\n', 0o755);
    expect((await find('runtime', 'runc'))?.status).toBe('ok');
  });

  test('kernel settings, core pattern, swap, threads and processor holes are warned of', async () => {
    put('/proc/sys/fs/protected_symlinks', '0');
    put('/proc/sys/kernel/core_pattern', '|/usr/share/apport');
    put('/proc/swaps', 'Filename Type\n/dev/x partition\n');
    put('/sys/devices/system/cpu/smt/active', '1');
    put('/sys/devices/system/cpu/vulnerabilities/meltdown', 'Vulnerable\n');
    put('/proc/sys/net/ipv4/ip_forward', '1');
    for (const id of ['protected-symlinks', 'core-pattern', 'swap', 'smt', 'cpu', 'ip-forward', 'lsm']) {
      expect((await find(id))?.status, id).toBe('warning');
    }
    put('/proc/sys/fs/protected_symlinks', '1');
    put('/proc/sys/kernel/core_pattern', 'core');
    put('/sys/kernel/security/lsm', 'lockdown,capability,apparmor');
    for (const id of ['protected-symlinks', 'core-pattern', 'lsm'])
      expect((await find(id))?.status, id).toBe('ok');
  });
});

describe('audit of a running server', () => {
  const DATA = '/srv/skiff';
  const mark = createHash('sha256').update(DATA).digest('hex').slice(0, 8);
  const status = (changes: Record<string, string> = {}) => {
    const zero = '0000000000000000';
    const sets = { CapInh: zero, CapPrm: zero, CapEff: zero, CapBnd: zero, CapAmb: zero };
    const fields = {
      Uid: '2000001\t2000001\t2000001\t2000001',
      NSpid: '7\t1',
      NoNewPrivs: '1',
      Seccomp: '2',
      ...sets,
      ...changes,
    };
    return Object.entries(fields)
      .map(([name, value]) => `${name}:\t${value}\n`)
      .join('');
  };
  const putProcess = (pid: number, changes?: Record<string, string>) => {
    put(`/proc/${pid}/cgroup`, `4:memory:/skiff-${mark}/sbx-1\n`);
    put(`/proc/${pid}/status`, status(changes));
  };

  test('confined processes are counted; the runtime beside them and other servers are not', () => {
    putProcess(7);
    putProcess(8, { NSpid: '8', Uid: '0\t0\t0\t0' });
    put('/proc/9/cgroup', '4:memory:/skiff-00000000/sbx-1\n');
    put('/proc/9/status', status({ NoNewPrivs: '0' }));
    expect(checkSandboxes(view, DATA)).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('1 processes'),
    });
  });

  test.each([
    ['capabilities', { CapEff: '0000003fffffffff' }],
    ['gain privileges', { NoNewPrivs: '0' }],
    ['no system call filter', { Seccomp: '0' }],
    ['uid of the host', { Uid: '0\t0\t0\t0' }],
  ])('a process with %s makes the doctor fail', (what, changes) => {
    putProcess(7, changes);
    expect(checkSandboxes(view, DATA)).toMatchObject({
      status: 'missing',
      detail: expect.stringContaining(what),
    });
  });

  test('keys that others may read make the doctor fail', () => {
    put('/data/secret.key', 'x', 0o644);
    const key = join(root, 'data/secret.key');
    expect(checkPrivateFiles({ root: '/nowhere', secrets: [key] }).status).toBe('missing');
    chmodSync(key, 0o600);
    expect(checkPrivateFiles({ root: '/nowhere', secrets: [key] }).status).toBe('ok');
  });

  test('a gateway that strangers reach is warned of', () => {
    expect(checkExposure('127.0.0.1').status).toBe('ok');
    expect(checkExposure('0.0.0.0').status).toBe('warning');
  });
});

test('the table ends with counts and gives each fix its own line', () => {
  const text = formatChecks([
    { id: 'a', status: 'ok', detail: 'fine' },
    { id: 'bb', status: 'missing', detail: 'not there', fix: 'get it' },
  ]);
  expect(text.split('\n')).toEqual([
    'ok       a   fine',
    'missing  bb  not there',
    '             -> get it',
    '',
    '1 ok, 0 warnings, 1 missing',
  ]);
});
