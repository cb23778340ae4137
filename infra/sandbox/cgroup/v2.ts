/** Cgroups of version 2: one unified hierarchy. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import {
  BACKGROUND_CPU,
  type Cgroup,
  type CgroupLimits,
  type CgroupParent,
  CPU_PERIOD_US,
  cpuQuotaUs,
  killUntilEmpty,
  listPids,
  makeFolder,
  readCounter,
  removeFolder,
  tryReadKnob,
  tryReadNumber,
  waitFrozen,
  writeKnob,
} from './cgroup.ts';

const CONTROLLERS = ['cpu', 'memory', 'pids'] as const;
/** Where processes of a delegated root move, since a group with controllers for children may hold none itself. */
const HOST_LEAF = 'skiff-host';
/** Kernel default weight, and its ceiling. */
const CPU_WEIGHT_PER_CORE = 100;
const CPU_WEIGHT_MAX = 10_000;

export function createV2Parent(mount: string, name: string, memoryBytesMax: number): CgroupParent {
  delegate(mount);
  const parent = join(mount, name);
  makeFolder(parent);
  delegate(parent);
  writeKnob(join(parent, 'memory.max'), memoryBytesMax);
  writeSwapMax(parent);
  return {
    name,
    create(child, limits) {
      const folder = join(parent, child);
      makeFolder(folder);
      const cgroup = createV2Cgroup(child, folder);
      cgroup.setLimits(limits);
      writeSwapMax(folder);
      // One killed process of a function leaves the rest useless: let the kernel end them together.
      writeKnob(join(folder, 'memory.oom.group'), 1);
      return cgroup;
    },
    createUnlimited(child) {
      const folder = join(parent, child);
      makeFolder(folder);
      return createV2Cgroup(child, folder);
    },
    open: (child) => createV2Cgroup(child, join(parent, child)),
    list: () =>
      readdirSync(parent, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => entry.name),
    remove: () => removeFolder(parent),
  };
}

/** Absent when the kernel was built or booted without swap accounting; then there is nothing to forbid. */
function writeSwapMax(folder: string): void {
  const file = join(folder, 'memory.swap.max');
  if (tryReadKnob(file) !== undefined) writeKnob(file, 0);
}

/** Hands the controllers to the children of `folder`. */
function delegate(folder: string): void {
  const enabled = (tryReadKnob(join(folder, 'cgroup.subtree_control')) ?? '').split(/\s+/);
  const missing = CONTROLLERS.filter((controller) => !enabled.includes(controller));
  if (missing.length === 0) return;
  const available = (tryReadKnob(join(folder, 'cgroup.controllers')) ?? '').split(/\s+/);
  const absent = missing.filter((controller) => !available.includes(controller));
  if (absent.length > 0) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `cgroup ${folder} lacks the controllers ${absent.join(', ')}; enable them in the cgroup.subtree_control above it (systemd: Delegate=yes)`,
    );
  }
  const control = join(folder, 'cgroup.subtree_control');
  const value = missing.map((controller) => `+${controller}`).join(' ');
  try {
    writeFileSync(control, value);
  } catch (error) {
    // Inside a container the namespace's root holds our own processes; the kernel then answers EBUSY.
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    moveProcesses(folder, join(folder, HOST_LEAF));
    writeKnob(control, value);
  }
}

function moveProcesses(from: string, to: string): void {
  makeFolder(to);
  for (const pid of listOwnPids(from)) {
    try {
      writeFileSync(join(to, 'cgroup.procs'), String(pid));
    } catch {
      // Ended in the meantime, or a kernel thread, which may stay.
    }
  }
}

function listOwnPids(folder: string): number[] {
  return (tryReadKnob(join(folder, 'cgroup.procs')) ?? '').split('\n').filter(Boolean).map(Number);
}

function createV2Cgroup(name: string, folder: string): Cgroup {
  const freezeFile = join(folder, 'cgroup.freeze');
  const procs = join(folder, 'cgroup.procs');
  const setWeight = (cpu: number): void => {
    const weight = Math.round(cpu * CPU_WEIGHT_PER_CORE);
    writeKnob(join(folder, 'cpu.weight'), Math.min(CPU_WEIGHT_MAX, Math.max(1, weight)));
  };
  return {
    name,
    joinFiles: [procs],
    setLimits(limits: CgroupLimits) {
      writeKnob(join(folder, 'memory.max'), limits.memoryBytes);
      writeKnob(join(folder, 'cpu.max'), `${cpuQuotaUs(limits.cpu)} ${CPU_PERIOD_US}`);
      setWeight(limits.isBackground ? BACKGROUND_CPU : limits.cpu);
      writeKnob(join(folder, 'pids.max'), limits.pidsMax);
    },
    setWeight,
    async freeze() {
      writeKnob(freezeFile, 1);
      const events = join(folder, 'cgroup.events');
      await waitFrozen(name, () => readFileSync(events, 'utf8').includes('frozen 1'));
    },
    thaw: () => writeKnob(freezeFile, 0),
    usage: () => ({
      memoryBytes: Math.max(
        0,
        (tryReadNumber(join(folder, 'memory.current')) ?? 0) -
          readCounter(join(folder, 'memory.stat'), 'inactive_file'),
      ),
      cpuMs: readCounter(join(folder, 'cpu.stat'), 'usage_usec') / 1e3,
      pids: tryReadNumber(join(folder, 'pids.current')) ?? 0,
    }),
    // Counts the groups below as well.
    ranOutOfMemory: () => readCounter(join(folder, 'memory.events'), 'oom_kill') > 0,
    pids: () => listPids(folder),
    // SIGKILL reaches frozen processes on v2.
    killAll: () => killUntilEmpty(name, () => listPids(folder)),
    remove: () => removeFolder(folder),
  };
}
