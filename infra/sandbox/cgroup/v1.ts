/** Cgroups of version 1: one hierarchy for each controller, also on hybrid hosts. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  BACKGROUND_CPU,
  type Cgroup,
  type CgroupLimits,
  type CgroupParent,
  CPU_PERIOD_US,
  cpuQuotaUs,
  EXIT_SIGKILL,
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

export const V1_CONTROLLERS = ['memory', 'cpu', 'cpuacct', 'pids', 'devices', 'freezer'] as const;
export type V1Controller = (typeof V1_CONTROLLERS)[number];
export type V1Folders = Readonly<Record<V1Controller, string>>;

/** null, zero, full, random, urandom: to read and write, never to make (no "m"). */
const DEVICES_ALLOWED = ['c 1:3 rw', 'c 1:5 rw', 'c 1:7 rw', 'c 1:8 rw', 'c 1:9 rw'];
/** Default weight of one core, and the least. */
const CPU_SHARES_PER_CORE = 1024;
const CPU_SHARES_MIN = 2;
const FREEZE_RETRY_MS = 20;
/**
 * Not cgroup.procs: moving a whole process makes the kernel wait until no thread of the host can be forking (10 to 30 ms
 * measured); a thread that moves itself waits for nobody.
 */
const JOIN_FILE = 'tasks';
/** How far below the limit a group may be when a charge fails: the kernel charges ahead, for each core. */
const CHARGE_BATCH_BYTES = 1024 * 1024;

function eachFolder(folders: V1Folders): string[] {
  // cpu and cpuacct are often one hierarchy under two names.
  return [...new Set(V1_CONTROLLERS.map((controller) => folders[controller]))];
}

/** The memory limit may never exceed the memory+swap limit, so the order depends on the direction. */
function writeMemoryLimit(folder: string, bytes: number): void {
  const limit = join(folder, 'memory.limit_in_bytes');
  const limitWithSwap = join(folder, 'memory.memsw.limit_in_bytes');
  const current = tryReadNumber(limitWithSwap);
  const files = current === undefined && !existsSync(limitWithSwap) ? [limit] : [limit, limitWithSwap];
  if (current !== undefined && bytes > current) files.reverse();
  for (const file of files) writeKnob(file, bytes);
}

/** `hierarchies` are all that are mounted: runtimes make folders in each, and we take them away. */
export function createV1Parent(
  mounts: V1Folders,
  hierarchies: readonly string[],
  name: string,
  memoryBytesMax: number,
): CgroupParent {
  const folders = below(mounts, name);
  for (const folder of eachFolder(folders)) makeFolder(folder);
  writeMemoryLimit(folders.memory, memoryBytesMax);
  const everywhere = hierarchies.map((hierarchy) => join(hierarchy, name));
  const at = (child: string, isNested = false): Cgroup =>
    createV1Cgroup(
      child,
      below(folders, child),
      everywhere.map((folder) => join(folder, child)),
      isNested,
    );
  return {
    name,
    create(child, limits, options) {
      const own = below(folders, child);
      for (const folder of eachFolder(own)) makeFolder(folder);
      const cgroup = at(child, options?.isNested);
      cgroup.setLimits(limits);
      if (options?.isNested) return cgroup;
      writeKnob(join(own.devices, 'devices.deny'), 'a');
      for (const rule of DEVICES_ALLOWED) writeKnob(join(own.devices, 'devices.allow'), rule);
      return cgroup;
    },
    createUnlimited(child) {
      const folder = join(folders.pids, child);
      makeFolder(folder);
      return { ...at(child), joinFiles: [join(folder, JOIN_FILE)] };
    },
    open: (child) => at(child),
    list() {
      const names = new Set<string>();
      for (const folder of eachFolder(folders)) {
        for (const entry of readdirSync(folder, { withFileTypes: true })) {
          if (entry.isDirectory()) names.add(entry.name);
        }
      }
      return [...names];
    },
    async remove() {
      for (const folder of everywhere) await removeFolder(folder);
    },
  };
}

function below(folders: V1Folders, name: string): V1Folders {
  const entries = V1_CONTROLLERS.map((controller) => [controller, join(folders[controller], name)]);
  return Object.fromEntries(entries) as V1Folders;
}

function createV1Cgroup(
  name: string,
  folders: V1Folders,
  everywhere: readonly string[],
  isNested: boolean,
): Cgroup {
  const state = join(folders.freezer, 'freezer.state');
  const thaw = (): void => writeKnob(state, 'THAWED');
  const setWeight = (cpu: number): void => {
    const shares = Math.max(CPU_SHARES_MIN, Math.round(cpu * CPU_SHARES_PER_CORE));
    writeKnob(join(folders.cpu, 'cpu.shares'), shares);
  };
  return {
    name,
    joinFiles: eachFolder(folders).map((folder) => join(folder, JOIN_FILE)),
    setLimits(limits: CgroupLimits) {
      writeMemoryLimit(folders.memory, limits.memoryBytes);
      writeKnob(join(folders.cpu, 'cpu.cfs_period_us'), CPU_PERIOD_US);
      writeKnob(join(folders.cpu, 'cpu.cfs_quota_us'), cpuQuotaUs(limits.cpu));
      setWeight(limits.isBackground ? BACKGROUND_CPU : limits.cpu);
      writeKnob(join(folders.pids, 'pids.max'), limits.pidsMax);
    },
    setWeight,
    async freeze() {
      let triedMs = performance.now();
      writeKnob(state, 'FROZEN');
      await waitFrozen(name, () => {
        if (tryReadKnob(state) !== 'FREEZING') return true;
        // A task that forked at the wrong moment keeps the group FREEZING for ever: begin again, as runc does.
        if (performance.now() - triedMs > FREEZE_RETRY_MS) {
          thaw();
          writeKnob(state, 'FROZEN');
          triedMs = performance.now();
        }
        return false;
      });
    },
    thaw,
    usage: () => ({
      memoryBytes: Math.max(
        0,
        (tryReadNumber(join(folders.memory, 'memory.usage_in_bytes')) ?? 0) -
          readCounter(join(folders.memory, 'memory.stat'), 'total_inactive_file'),
      ),
      cpuMs: (tryReadNumber(join(folders.cpuacct, 'cpuacct.usage')) ?? 0) / 1e6,
      pids: tryReadNumber(join(folders.pids, 'pids.current')) ?? 0,
    }),
    ranOutOfMemory(exitCode) {
      if (readCounter(join(folders.memory, 'memory.oom_control'), 'oom_kill') > 0) return true;
      // The kernel counts a kill where the victim was: in a group that the runtime has removed.
      if (!isNested || exitCode !== EXIT_SIGKILL) return false;
      const peak = tryReadNumber(join(folders.memory, 'memory.max_usage_in_bytes')) ?? 0;
      const limit = tryReadNumber(join(folders.memory, 'memory.limit_in_bytes')) ?? Infinity;
      return peak >= limit - CHARGE_BATCH_BYTES;
    },
    pids: () => listPids(folders.pids),
    async killAll() {
      if (existsSync(state)) thaw();
      // A launcher that died half-way is in some hierarchies only, so all are asked.
      await killUntilEmpty(name, () => [...new Set(everywhere.flatMap(listPids))]);
    },
    async remove() {
      for (const folder of everywhere) await removeFolder(folder);
    },
  };
}
