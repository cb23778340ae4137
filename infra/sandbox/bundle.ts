/**
 * The OCI runtime configuration of a sandbox (opencontainers/runtime-spec 1.0.2). Every choice is a fence:
 * single-uid user namespace, no capabilities, no_new_privs, seccomp allow-list, read-only root, nothing of /sys,
 * a /proc of processes only. Invariant: nothing here comes from an image; the spec is the platform's own.
 */
import { OPEN_FILES_MAX, TMP_INODES_MAX } from '../../sdk/protocol/limits.ts';
import type { SandboxSpec } from './contract.ts';
import type { SeccompProfile } from './seccomp.ts';

/** Uid and gid inside. With crun there is no other one: root does not exist there. */
export const INNER_ID = 1000;
/** Folders the configuration below mounts over, so the root file system must have them. */
export const OWN_TARGETS = ['/proc', '/dev', '/tmp', '/run/secrets'] as const;

const KB = 1024;
const MB = 1024 * KB;

/** What building takes, inside its own user namespace: other users' files, mounts, chroot. Docker's default and SYS_ADMIN. */
const BUILD_CAPABILITIES = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_ADMIN',
  'CAP_SYS_CHROOT',
];

/** A compat /proc shows the host's hardware and knobs; masked is what runtimes and advisories name, and what no program needs. */
const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/buddyinfo',
  '/proc/cmdline',
  '/proc/config.gz',
  '/proc/diskstats',
  '/proc/interrupts',
  '/proc/iomem',
  '/proc/ioports',
  '/proc/kcore',
  '/proc/keys',
  '/proc/kallsyms',
  '/proc/kmsg',
  '/proc/latency_stats',
  '/proc/modules',
  '/proc/pagetypeinfo',
  '/proc/partitions',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/slabinfo',
  '/proc/swaps',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/vmallocinfo',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export interface ResolvedMount {
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
}

export interface BundleInput {
  readonly spec: SandboxSpec;
  readonly uid: number;
  /** Mounted read-only. */
  readonly rootPath: string;
  /** False for runtimes that would make it read-only again, and fail at its other flags. */
  readonly remountsRoot?: boolean;
  readonly mounts: readonly ResolvedMount[];
  /** A file that is the network namespace to join; absent: an empty one of its own. */
  readonly networkPath?: string;
  /** For runtimes that make a group of their own. */
  readonly cgroupsPath?: string;
  /** For runtimes that insist on a uid 0: what it is on the host. */
  readonly rootUid?: number;
  readonly seccomp: SeccompProfile;
}

/** The content of config.json. */
export function createRuntimeConfig(input: BundleInput): object {
  const { spec, uid } = input;
  const mapping = [
    spec.builds
      ? { containerID: 0, hostID: spec.builds.first, size: spec.builds.size }
      : { containerID: INNER_ID, hostID: uid, size: 1 },
  ];
  const user = innerId(spec);
  const capabilities = spec.builds ? BUILD_CAPABILITIES : [];
  if (input.rootUid !== undefined) mapping.unshift({ containerID: 0, hostID: input.rootUid, size: 1 });
  const isStrict = spec.isolation === 'strict';
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: user, gid: user, additionalGids: [] },
      args: spec.args,
      env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
      cwd: spec.cwd ?? '/',
      noNewPrivileges: true,
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
        inheritable: [],
        ambient: [],
      },
      rlimits: createLimits(spec),
      // A hint only (the process may lower it); the parent cgroup's cap is what protects the host.
      oomScoreAdj: 900,
    },
    root: { path: input.rootPath, readonly: input.remountsRoot ?? true },
    hostname: 'fn',
    mounts: [...createOwnMounts(spec), ...input.mounts.map(createBindMount)],
    linux: {
      namespaces: createNamespaces(input.networkPath),
      uidMappings: mapping,
      gidMappings: mapping,
      rootfsPropagation: spec.mounts.some((mount) => mount.propagate) ? 'rslave' : 'private',
      ...(isStrict ? {} : { maskedPaths: MASKED_PATHS, readonlyPaths: READONLY_PATHS }),
      ...(input.cgroupsPath === undefined ? {} : { cgroupsPath: input.cgroupsPath }),
      seccomp: input.seccomp,
    },
  };
}

function innerId(spec: SandboxSpec): number {
  return spec.builds ? 0 : INNER_ID;
}

function createNamespaces(networkPath: string | undefined): object[] {
  const own = ['user', 'pid', 'mount', 'ipc', 'uts', 'cgroup'].map((type) => ({ type }));
  return [...own, { type: 'network', ...(networkPath === undefined ? {} : { path: networkPath }) }];
}

/** No AS or DATA limit: V8 and WebAssembly reserve far more address space than they use. */
function createLimits(spec: SandboxSpec): object[] {
  const limits: [string, number][] = [
    ['NOFILE', OPEN_FILES_MAX],
    ['CORE', 0],
    ['MEMLOCK', 64 * KB],
    ['MSGQUEUE', 0],
    ['SIGPENDING', 1024],
    ['RTPRIO', 0],
    ['NICE', 0],
    ['STACK', 8 * MB],
  ];
  // A little more than /tmp holds, so that a full /tmp says ENOSPC before the limit's signal kills the writer.
  const hasDisk = spec.mounts.some((mount) => mount.writable);
  if (!hasDisk) limits.push(['FSIZE', spec.tmpBytes + MB]);
  return limits.map(([name, value]) => ({ type: `RLIMIT_${name}`, hard: value, soft: value }));
}

function createOwnMounts(spec: SandboxSpec): object[] {
  const procOptions = ['nosuid', 'noexec', 'nodev', 'hidepid=2'];
  if (spec.isolation === 'strict') procOptions.push('subset=pid');
  // Owned by the one user, because runc gives a tmpfs the mode of the folder it covers.
  const owner = [`uid=${innerId(spec)}`, `gid=${innerId(spec)}`];
  const size = [`size=${Math.floor(spec.tmpBytes)}`, `nr_inodes=${TMP_INODES_MAX}`];
  const tmpOptions = [...size, ...owner, 'mode=1777'];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: procOptions },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'noexec', 'mode=755', 'size=64k'],
    },
    {
      destination: '/tmp',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'nodev', 'noexec', ...tmpOptions],
    },
    // Filled by the guest with what comes over its channel: a secret is on no disk of this host.
    {
      destination: '/run/secrets',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'nodev', 'noexec', 'size=1m', 'nr_inodes=128', ...owner, 'mode=700'],
    },
  ];
}

function createBindMount(mount: ResolvedMount): object {
  return { destination: mount.target, type: 'bind', source: mount.source, options: mount.options };
}
