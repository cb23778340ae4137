/**
 * How hard this host is underneath the sandboxes: `skiff doctor --security`. A sandbox does not depend on any of
 * these; each is one more wall, or a known hole. Invariant: reads only what the kernel and the programs say.
 */
import { ok, warning, type Check, type HostView } from './check.ts';
import { isAtLeast, parseVersion } from './programs.ts';

interface Knob {
  readonly id: string;
  readonly file: string;
  readonly min: number;
  /** What the low value allows. */
  readonly risk: string;
}

const KNOBS: readonly Knob[] = [
  {
    id: 'protected-symlinks',
    file: 'fs/protected_symlinks',
    min: 1,
    risk: 'links in shared folders can redirect root',
  },
  {
    id: 'protected-hardlinks',
    file: 'fs/protected_hardlinks',
    min: 1,
    risk: 'users can keep links to files they may not read',
  },
  {
    id: 'protected-fifos',
    file: 'fs/protected_fifos',
    min: 1,
    risk: 'pipes planted in shared folders can catch writes',
  },
  {
    id: 'protected-regular',
    file: 'fs/protected_regular',
    min: 1,
    risk: 'files planted in shared folders can catch writes',
  },
  { id: 'kptr-restrict', file: 'kernel/kptr_restrict', min: 1, risk: 'kernel addresses are readable' },
  { id: 'dmesg-restrict', file: 'kernel/dmesg_restrict', min: 1, risk: 'any user reads the kernel log' },
  {
    id: 'unprivileged-bpf',
    file: 'kernel/unprivileged_bpf_disabled',
    min: 1,
    risk: 'any user loads BPF programs',
  },
  { id: 'perf-events', file: 'kernel/perf_event_paranoid', min: 2, risk: 'any user profiles the kernel' },
  {
    id: 'ptrace-scope',
    file: 'kernel/yama/ptrace_scope',
    min: 1,
    risk: 'a user\u2019s processes can trace each other',
  },
];

function checkKnob(view: HostView, { id, file, min, risk }: Knob): Check {
  const value = view.tryRead(`/proc/sys/${file}`);
  const name = file.replaceAll('/', '.');
  if (value === undefined)
    return warning(id, `${name} is not in this kernel`, 'nothing to set; the sandbox does not rely on it');
  if (Number(value) >= min) return ok(id, `${name} = ${value}`);
  return warning(id, `${name} = ${value}: ${risk}`, `sysctl -w ${name}=${min}`);
}

function checkSecurityModules(view: HostView): Check {
  const modules = (view.tryRead('/sys/kernel/security/lsm') ?? '').split(',');
  const active = modules.filter((name) =>
    ['apparmor', 'selinux', 'smack', 'tomoyo', 'bpf', 'landlock'].includes(name),
  );
  if (active.length > 0) return ok('lsm', active.join(', '));
  return warning(
    'lsm',
    'no security module is active',
    'boot with apparmor=1 security=apparmor (Debian\u2019s default)',
  );
}

function checkHyperthreads(view: HostView): Check {
  const isActive = view.tryRead('/sys/devices/system/cpu/smt/active');
  if (isActive !== '1') return ok('smt', 'cores do not share threads');
  return warning(
    'smt',
    'threads of different sandboxes share cores',
    'echo off > /sys/devices/system/cpu/smt/control, if tenants do not trust each other',
  );
}

const CPU_HOLES = [
  'itlb_multihit',
  'l1tf',
  'mds',
  'meltdown',
  'mmio_stale_data',
  'retbleed',
  'spec_rstack_overflow',
  'spec_store_bypass',
  'spectre_v1',
  'spectre_v2',
  'srbds',
  'tsx_async_abort',
  'gather_data_sampling',
];

function checkProcessorHoles(view: HostView): Check {
  const open = CPU_HOLES.filter((name) =>
    (view.tryRead(`/sys/devices/system/cpu/vulnerabilities/${name}`) ?? '').startsWith('Vulnerable'),
  );
  if (open.length === 0) return ok('cpu', 'the kernel knows no open hole of this processor');
  return warning(
    'cpu',
    `open: ${open.join(', ')}`,
    'update kernel and microcode; remove mitigations=off from the command line',
  );
}

function checkSwap(view: HostView): Check {
  const areas = (view.tryRead('/proc/swaps') ?? '').split('\n').slice(1).filter(Boolean);
  if (areas.length === 0) return ok('swap', 'off');
  return warning(
    'swap',
    'memory of functions and their secrets can reach the disk',
    'swapoff -a, or encrypt the swap',
  );
}

function checkCorePattern(view: HostView): Check {
  const pattern = view.tryRead('/proc/sys/kernel/core_pattern') ?? '';
  if (!pattern.startsWith('|')) return ok('core-pattern', `"${pattern}"`);
  return warning(
    'core-pattern',
    `crashes run "${pattern}" as root on the host`,
    'sysctl -w kernel.core_pattern=core',
  );
}

function checkForwarding(view: HostView): Check {
  const value = view.tryRead('/proc/sys/net/ipv4/ip_forward');
  if (value !== '1')
    return ok(
      'ip-forward',
      'off; a function with egress turns it on for its own link and the way out, and no further',
    );
  return warning(
    'ip-forward',
    'this host routes between its networks',
    'check that its firewall forwards only what you mean',
  );
}

/** runc before 1.2.8 has the November 2025 mount races; Skiff always adds a user namespace, which blunts them. */
async function checkRuntime(view: HostView, runtime: string): Promise<Check> {
  const version = parseVersion((await view.tryRun(runtime, ['--version'])) ?? '');
  if (runtime !== 'runc') return ok('runtime', `${runtime} ${version ?? ''}`.trim());
  if (version !== undefined && isAtLeast(version, '1.2.8')) return ok('runtime', `runc ${version}`);
  return warning(
    'runtime',
    `runc ${version ?? 'of unknown version'}: CVE-2025-31133, -52565 and -52881 are open; only the user namespace stands between`,
    'set SKIFF_RUNTIME=crun, or install runc 1.2.8 or newer',
  );
}

export async function checkSecurity(view: HostView, runtime: string): Promise<Check[]> {
  return [
    await checkRuntime(view, runtime),
    checkSecurityModules(view),
    checkProcessorHoles(view),
    checkHyperthreads(view),
    ...KNOBS.map((knob) => checkKnob(view, knob)),
    checkSwap(view),
    checkCorePattern(view),
    checkForwarding(view),
  ];
}
