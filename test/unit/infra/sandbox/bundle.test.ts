import { describe, expect, test } from 'vitest';
import { createRuntimeConfig } from '../../../../infra/sandbox/bundle.ts';
import type { SandboxSpec } from '../../../../infra/sandbox/contract.ts';
import {
  extendForBuilds,
  extendForScripts,
  loadSeccompProfile,
  type SeccompProfile,
} from '../../../../infra/sandbox/seccomp.ts';

const MB = 1024 * 1024;
const spec: SandboxSpec = {
  id: 'sbx-1',
  lowerDirs: ['/root-fs'],
  args: ['/usr/bin/node', 'x.cjs'],
  env: { PATH: '/usr/bin', A: 'b=c' },
  memoryBytes: 128 * MB,
  cpu: 1,
  pidsMax: 64,
  tmpBytes: 16 * MB,
  isolation: 'strict',
  mounts: [],
};

interface Config {
  process: Record<string, unknown> & {
    rlimits: { type: string; hard: number; soft: number }[];
    capabilities: object;
  };
  root: object;
  mounts: { destination: string; source: string; options: string[] }[];
  linux: Record<string, unknown> & { namespaces: { type: string; path?: string }[] };
}

function config(changes: Partial<SandboxSpec> = {}): Config {
  const seccomp = loadSeccompProfile('x64');
  return createRuntimeConfig({
    spec: { ...spec, ...changes },
    uid: 1_000_123,
    rootPath: '/stage/r',
    mounts: [],
    seccomp,
  }) as Config;
}

describe('the runtime configuration', () => {
  test('gives no capability, no new privileges, and one uid that is nobody on the host', () => {
    const { process, linux, root } = config();
    expect(process.capabilities).toEqual({
      bounding: [],
      effective: [],
      inheritable: [],
      permitted: [],
      ambient: [],
    });
    expect(process).toMatchObject({
      noNewPrivileges: true,
      terminal: false,
      user: { uid: 1000, gid: 1000, additionalGids: [] },
    });
    expect(linux['uidMappings']).toEqual([{ containerID: 1000, hostID: 1_000_123, size: 1 }]);
    expect(linux['gidMappings']).toEqual(linux['uidMappings']);
    expect(root).toEqual({ path: '/stage/r', readonly: true });
  });

  test('makes all seven namespaces; a network is joined only when one is named', () => {
    const types = ['user', 'pid', 'mount', 'ipc', 'uts', 'cgroup', 'network'];
    expect(config().linux.namespaces).toEqual(types.map((type) => ({ type })));
    const joined = createRuntimeConfig({
      spec,
      uid: 1_000_123,
      rootPath: '/r',
      mounts: [],
      networkPath: '/proc/7/fd/9',
      seccomp: loadSeccompProfile('x64'),
    }) as Config;
    expect(joined.linux.namespaces.at(-1)).toEqual({ type: 'network', path: '/proc/7/fd/9' });
  });

  test('shows a /proc of processes only, or a masked one where compatibility is asked for', () => {
    const proc = (config_: Config): string[] =>
      config_.mounts.find((mount) => mount.destination === '/proc')?.options ?? [];
    expect(proc(config())).toContain('subset=pid');
    expect(config().linux['maskedPaths']).toBeUndefined();
    const compat = config({ isolation: 'compat' });
    expect(proc(compat)).not.toContain('subset=pid');
    expect(compat.linux['maskedPaths']).toContain('/proc/kcore');
    expect(compat.linux['readonlyPaths']).toContain('/proc/sys');
  });

  test('mounts nothing of /sys, no control group, no /dev/shm', () => {
    expect(config().mounts.map((mount) => mount.destination)).toEqual([
      '/proc',
      '/dev',
      '/tmp',
      '/run/secrets',
    ]);
  });

  test('bounds files, and the disk too unless it may write to a folder', () => {
    const limits = config().process.rlimits;
    expect(limits).toContainEqual({ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 });
    expect(limits).toContainEqual({ type: 'RLIMIT_CORE', hard: 0, soft: 0 });
    expect(limits).toContainEqual({ type: 'RLIMIT_FSIZE', hard: 17 * MB, soft: 17 * MB });
    const writable = config({ mounts: [{ source: '/data', target: '/work', writable: true }] });
    expect(writable.process.rlimits.map((limit) => limit.type)).not.toContain('RLIMIT_FSIZE');
  });

  test('passes arguments and environment as they are', () => {
    expect(config().process).toMatchObject({
      args: ['/usr/bin/node', 'x.cjs'],
      env: ['PATH=/usr/bin', 'A=b=c'],
      cwd: '/',
    });
  });
});

describe('the seccomp profile', () => {
  const profile = loadSeccompProfile('x64');
  const allowed = new Set(
    profile.syscalls.filter((rule) => rule.action === 'SCMP_ACT_ALLOW').flatMap((rule) => rule.names),
  );

  test('refuses by default, in the machine\u2019s own instruction set only', () => {
    expect(profile).toMatchObject({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 1,
      architectures: ['SCMP_ARCH_X86_64'],
    });
    expect(loadSeccompProfile('arm64').architectures).toEqual(['SCMP_ARCH_AARCH64']);
    expect(() => loadSeccompProfile('mips')).toThrow(/no seccomp profile for processor architecture mips/);
  });

  test.each([
    'mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsmount mount_setattr',
    'ptrace process_vm_readv process_vm_writev pidfd_getfd pidfd_open kcmp',
    'bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key',
    'init_module finit_module delete_module kexec_load reboot swapon quotactl syslog acct settimeofday clock_settime',
    'splice tee vmsplice open_by_handle_at name_to_handle_at',
    'mknod mknodat setuid setgid setgroups setresuid chown fchown lchown fchownat setxattr',
    'sync syncfs mlockall sched_setattr sched_setscheduler setpriority ioprio_set',
    'shmget shmat msgget semget mq_open',
  ])('does not allow %s', (names) => {
    for (const name of names.split(' ')) expect([name, allowed.has(name)]).toEqual([name, false]);
  });

  test('allows clone without namespaces, unix and internet sockets, and a list of ioctls, nothing more of them', () => {
    const rules = (name: string) => profile.syscalls.filter((rule) => rule.names.includes(name));
    for (const name of ['clone', 'socket', 'socketpair', 'ioctl']) {
      for (const rule of rules(name)) expect(rule.args?.length).toBeGreaterThan(0);
    }
    expect(rules('clone3')).toMatchObject([{ action: 'SCMP_ACT_ERRNO', errnoRet: 38 }]);
    expect(rules('socket').map((rule) => rule.args?.[0]?.valueTwo)).toEqual([1, 2, 10, 16]);
    const TIOCSTI = 0x5412;
    const TIOCLINUX = 0x541c;
    const ioctls = rules('ioctl').map((rule) => rule.args?.[0]?.valueTwo);
    expect(ioctls).not.toContain(TIOCSTI);
    expect(ioctls).not.toContain(TIOCLINUX);
  });

  test('compares the low half of an argument only, as the kernel does', () => {
    for (const rule of profile.syscalls) {
      for (const arg of rule.args ?? []) expect(arg.op).toBe('SCMP_CMP_MASKED_EQ');
    }
  });
});

describe('a sandbox that builds images', () => {
  test('is root over a range of uids that are nobody on the host, still without new privileges', () => {
    const { process, linux } = config({ builds: { first: 20_000_000, size: 65_536 } });
    const mapping = [{ containerID: 0, hostID: 20_000_000, size: 65_536 }];
    expect(linux).toMatchObject({ uidMappings: mapping, gidMappings: mapping });
    expect(process).toMatchObject({ user: { uid: 0, gid: 0 }, noNewPrivileges: true });
    expect(process.capabilities).toMatchObject({ bounding: expect.arrayContaining(['CAP_SYS_ADMIN']) });
    expect(JSON.stringify(process.capabilities)).not.toMatch(/NET_ADMIN|SYS_PTRACE|SYS_MODULE|BPF|PERFMON/);
  });

  test('may mount and change users, and nothing that opens the kernel further', () => {
    const { syscalls } = extendForBuilds(loadSeccompProfile('x64'));
    const allowed = new Set(
      syscalls.filter(({ action }) => action === 'SCMP_ACT_ALLOW').flatMap(({ names }) => names),
    );
    for (const name of ['mount', 'chroot', 'setuid', 'chown', 'read']) expect(allowed).toContain(name);
    for (const name of ['bpf', 'ptrace', 'io_uring_setup', 'keyctl', 'add_key', 'userfaultfd', 'kexec_load'])
      expect(allowed).not.toContain(name);
    const refused = syscalls
      .filter(({ action }) => action !== 'SCMP_ACT_ALLOW')
      .flatMap(({ names }) => names);
    expect(refused.filter((name) => allowed.has(name))).toEqual([]);
  });
});

test('install scripts may set their ids, and nothing more than a function may', () => {
  const namesOf = (profile: SeccompProfile): string[] =>
    profile.syscalls.filter(({ action }) => action === 'SCMP_ACT_ALLOW').flatMap(({ names }) => names);
  const profile = loadSeccompProfile('x64');
  const functions = new Set(namesOf(profile));
  expect(namesOf(extendForScripts(profile)).filter((name) => !functions.has(name))).toEqual([
    'setuid',
    'setgid',
    'setreuid',
    'setregid',
    'setresuid',
    'setresgid',
  ]);
});
