/** What a function may ask of the kernel: system calls, socket families, namespaces, mounts, knobs. x86-64 numbers. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EPERM, ENOSYS } from '../probe.ts';
import type { Ground } from './escapes.ts';

/** The expectation: a call that is allowed and not listed there fails the test; one that is refused never does. */
const ALLOWED = JSON.parse(
  readFileSync(new URL('../allowed-syscalls.json', import.meta.url), 'utf8'),
) as Record<string, number>;
const NUMBER_MAX = 600;
/** uretprobe and uprobe: the kernel itself lets them past every filter; without a probe they do nothing but fail. */
const UNFILTERED = [335, 336];

const MOUNTING = {
  pivot_root: 155,
  chroot: 161,
  mount: 165,
  umount2: 166,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  mount_setattr: 442,
  listmount: 458,
};

const DANGEROUS = {
  ptrace: 101,
  syslog: 103,
  personality: 135,
  modify_ldt: 154,
  adjtimex: 159,
  acct: 163,
  settimeofday: 164,
  swapon: 167,
  reboot: 169,
  sethostname: 170,
  iopl: 172,
  ioperm: 173,
  init_module: 175,
  delete_module: 176,
  quotactl: 179,
  clock_settime: 227,
  kexec_load: 246,
  add_key: 248,
  request_key: 249,
  keyctl: 250,
  perf_event_open: 298,
  fanotify_init: 300,
  name_to_handle_at: 303,
  open_by_handle_at: 304,
  setns: 308,
  process_vm_readv: 310,
  process_vm_writev: 311,
  kcmp: 312,
  finit_module: 313,
  kexec_file_load: 320,
  bpf: 321,
  userfaultfd: 323,
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
  pidfd_open: 434,
  pidfd_getfd: 438,
  process_madvise: 440,
  memfd_secret: 447,
};

const PAGE_CACHE = { splice: 275, tee: 276, vmsplice: 278 };

const STALLING = {
  setpriority: 141,
  sched_setparam: 142,
  sched_setscheduler: 144,
  mlockall: 151,
  sync: 162,
  sched_setaffinity: 203,
  ioprio_set: 251,
  sync_file_range: 277,
  syncfs: 306,
  sched_setattr: 314,
};

const NEW_NAMESPACES = {
  NEWNS: 0x20000,
  NEWCGROUP: 0x02000000,
  NEWUTS: 0x04000000,
  NEWIPC: 0x08000000,
  NEWUSER: 0x10000000,
  NEWPID: 0x20000000,
  NEWNET: 0x40000000,
};

const SECRET_FILES = [
  '/proc/kcore',
  '/proc/keys',
  '/proc/timer_list',
  '/proc/kallsyms',
  '/proc/interrupts',
  '/proc/cmdline',
  '/proc/config.gz',
  '/proc/diskstats',
  '/proc/kmsg',
  '/proc/sched_debug',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  '/sys/kernel/debug',
];

const KNOB_FILES = [
  '/proc/sys/kernel/core_pattern',
  '/proc/sys/kernel/modprobe',
  '/proc/sys/kernel/hostname',
  '/proc/sys/vm/overcommit_memory',
  '/proc/sys/net/ipv4/ip_forward',
  '/proc/sys/user/max_user_namespaces',
  '/proc/sysrq-trigger',
  '/proc/self/attr/current',
  '/sys/kernel/uevent_helper',
  '/proc/self/uid_map',
  '/proc/self/setgroups',
];

/**
 * Machine code: fork, make one call in the child by the given entry, wait, return the child's wait status. In a child,
 * because a filter may answer a foreign entry with SIGSYS.
 */
function codeForForked(number: number, entry: readonly [number, number]): number[] {
  const word = [number & 255, (number >> 8) & 255, (number >> 16) & 255, (number >>> 24) & 255];
  const wait = [
    0x89, 0xc7, 0x48, 0x83, 0xec, 0x10, 0x48, 0x89, 0xe6, 0x31, 0xd2, 0x45, 0x31, 0xd2, 0xb8, 61, 0, 0, 0,
    0x0f, 0x05, 0x8b, 0x04, 0x24, 0x48, 0x83, 0xc4, 0x10, 0xc3,
  ];
  const child = [0xb8, ...word, ...entry, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
  return [0xb8, 57, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x74, wait.length, ...wait, ...child];
}

const SIGSYS = 31;
/** Exit codes of a child whose call returned -EPERM or -ENOSYS. */
const REFUSED_CODES = [EPERM & 255, ENOSYS & 255];

function isRefused(waitStatus: number): boolean {
  return (waitStatus & 127) === SIGSYS || REFUSED_CODES.includes((waitStatus >> 8) & 255);
}

export function defineKernel(ground: () => Ground): void {
  const callAll = (calls: Record<string, number>): Promise<Record<string, number>> =>
    ground().probe.run(
      ({ syscall }, list) =>
        Object.fromEntries(
          Object.entries(list).map(([name, number]) => [name, syscall(number, -1, -1, -1, -1, -1, -1)]),
        ),
      calls,
    );
  const expectAllRefused = async (calls: Record<string, number>): Promise<void> => {
    const results = await callAll(calls);
    for (const [name, result] of Object.entries(results)) expect([EPERM, ENOSYS], name).toContain(result);
  };

  describe('system calls', () => {
    it(`A3: of the numbers 0 to ${NUMBER_MAX} only those of the table are allowed`, async () => {
      const known = new Set(Object.values(ALLOWED));
      const refused = Array.from({ length: NUMBER_MAX + 1 }, (_, number) => number).filter(
        (number) => !known.has(number) && !UNFILTERED.includes(number),
      );
      const open = await ground().probe.run(
        ({ syscall }, numbers) =>
          numbers
            .map((number) => [number, syscall(number, -1, -1, -1, -1, -1, -1)])
            .filter(([, result]) => result !== -1 && result !== -38),
        refused,
      );
      expect(open).toEqual([]);
      expect(refused.length).toBeGreaterThan(400);
    });

    it('A3: the 32-bit entry (int 0x80) is closed', async () => {
      const code = codeForForked(20, [0xcd, 0x80]);
      const status = await ground().probe.run(({ execute }, bytes) => execute(Uint8Array.from(bytes)), code);
      expect(isRefused(status), `wait status ${status}`).toBe(true);
    });

    it('A3: the x32 numbers are closed', async () => {
      const code = codeForForked(0x40000000 + 39, [0x0f, 0x05]);
      const status = await ground().probe.run(({ execute }, bytes) => execute(Uint8Array.from(bytes)), code);
      expect(isRefused(status), `wait status ${status}`).toBe(true);
    });

    it('A3: the way of looking works: an allowed call through the same code is answered', async () => {
      const code = codeForForked(102, [0x0f, 0x05]);
      const status = await ground().probe.run(({ execute }, bytes) => execute(Uint8Array.from(bytes)), code);
      expect(status >> 8).toBe(1000 & 255);
    });

    it('A4: of 46 socket families only unix, IPv4, IPv6 and routing netlink exist', async () => {
      const open = await ground().probe.run(({ syscall }) => {
        const found = new Set<number>();
        for (let family = 0; family <= 45; family++) {
          for (const type of [1, 2, 3, 4, 5, 10]) {
            const fd = syscall(41, family, type, 0);
            if (fd < 0) continue;
            found.add(family);
            syscall(3, fd);
          }
        }
        return [...found];
      });
      expect(open.filter((family) => ![1, 2, 10, 16].includes(family))).toEqual([]);
    });

    it.each(['audit 9', 'kernel events 15', 'netfilter 12', 'generic 16', 'sock_diag 4', 'xfrm 6'])(
      'A4: netlink %s is refused',
      async (what) => {
        const protocol = Number(what.split(' ').at(-1));
        expect(await ground().probe.run(({ syscall }, one) => syscall(41, 16, 3, one), protocol)).toBe(EPERM);
      },
    );

    it('A4: raw and packet sockets are refused', async () => {
      const results = await ground().probe.run(({ syscall }) => [
        syscall(41, 2, 3, 1),
        syscall(41, 10, 3, 58),
        syscall(41, 17, 3, 0x0300),
        syscall(41, 40, 1, 0),
        syscall(41, 38, 5, 0),
      ]);
      expect(results).toEqual([EPERM, EPERM, EPERM, EPERM, EPERM]);
    });

    it.each(Object.entries(NEW_NAMESPACES))(
      'A5: clone and unshare with %s are refused',
      async (_name, flag) => {
        const results = await ground().probe.run(
          ({ syscall }, one) => [syscall(56, one | 17, 0, 0, 0, 0), syscall(272, one)],
          flag,
        );
        expect(results).toEqual([EPERM, EPERM]);
      },
    );

    it('A5: clone3, whose flags no filter can read, does not exist; setns is refused', async () => {
      const results = await ground().probe.run(({ syscall }) => [syscall(435, 0, 0), syscall(308, 0, 0)]);
      expect(results).toEqual([ENOSYS, EPERM]);
    });

    it('A6: every call that mounts is refused', () => expectAllRefused(MOUNTING));

    it.each(Object.entries(DANGEROUS))('A18: %s is refused', (name, number) =>
      expectAllRefused({ [name]: number }),
    );

    it('A19: pipes cannot be spliced into the page cache', () => expectAllRefused(PAGE_CACHE));

    it.each(Object.entries(STALLING))('A20: %s, which can stall the host, is refused', (name, number) =>
      expectAllRefused({ [name]: number }),
    );

    it('A17: a file written to /tmp cannot be executed', async () => {
      const result = await ground().probe.run(({ load }) => {
        load('fs').writeFileSync('/tmp/run-me', '#!/usr/bin/node\n', { mode: 0o755 });
        const { error } = load('child_process').spawnSync('/tmp/run-me');
        load('fs').rmSync('/tmp/run-me');
        return (error as { code?: string } | undefined)?.code;
      });
      expect(result).toBe('EACCES');
    });

    it('A17: memory cannot be made a file and executed', async () => {
      const results = await ground().probe.run(({ syscall }) => [
        syscall(319, 'code', 0),
        syscall(322, 0, '', 0, 0, 0x1000),
      ]);
      for (const result of results) expect([EPERM, ENOSYS]).toContain(result);
    });
  });

  describe.each(['probe', 'compat'] as const)('kernel files, isolation of %s', (kind) => {
    it.each(KNOB_FILES)('A7: %s cannot be written', async (file) => {
      const result = await ground()[kind].run(({ load }, path) => {
        try {
          load('fs').writeFileSync(path, '0');
          return 'written';
        } catch (error) {
          return (error as NodeJS.ErrnoException).code;
        }
      }, file);
      expect(result).toMatch(/^(?:ENOENT|EROFS|EACCES|EPERM|EINVAL)$/);
    });

    it.each(SECRET_FILES)('A8: %s tells nothing', async (file) => {
      const result = await ground()[kind].run(({ load }, path) => {
        const fs = load('fs');
        try {
          return fs.statSync(path).isDirectory()
            ? fs.readdirSync(path).join()
            : fs.readFileSync(path, 'latin1').slice(0, 99);
        } catch (error) {
          return (error as NodeJS.ErrnoException).code ?? 'failed';
        }
      }, file);
      expect(result).toMatch(/^(?:|ENOENT|EACCES|EPERM)$/);
    });
  });

  describe('what it can learn', () => {
    it('A8: it does not see what the host is called', async () => {
      expect(await ground().probe.run(({ load }) => load('os').hostname())).toBe('fn');
    });

    it('A8: its mounts name no function and no neighbour', async () => {
      const mounts = await ground().probe.run(({ load }) =>
        load('fs').readFileSync('/proc/self/mountinfo', 'utf8'),
      );
      expect(mounts).not.toMatch(/neighbour|compat|functions/);
      const sandboxes = new Set(mounts.match(/sbx-[0-9a-z]+/g));
      expect(sandboxes.size).toBeLessThanOrEqual(1);
    });
  });
}
