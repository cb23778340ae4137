/** Finds out how this host mounts its cgroups: pure v2, pure v1, or both (hybrid). */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { CgroupParent } from './cgroup.ts';
import { createV1Parent, V1_CONTROLLERS, type V1Controller, type V1Folders } from './v1.ts';
import { createV2Parent } from './v2.ts';

export interface CgroupLayout {
  readonly mode: 'v1' | 'v2' | 'hybrid';
  /** Mount point of the cgroup2 hierarchy, if any. */
  readonly unified: string | undefined;
  /** Mount points of the v1 controllers we use. */
  readonly v1: Partial<V1Folders>;
  /** Every mounted hierarchy, also those we set nothing in: runc makes folders in all of them. */
  readonly all: readonly string[];
}

/** Input: the text of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export function parseCgroupLayout(mountinfo: string): CgroupLayout {
  let unified: string | undefined;
  const v1: Partial<Record<V1Controller, string>> = {};
  const all: string[] = [];
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ') as [string, string?];
    const [type, , options = ''] = (after ?? '').split(' ') as [string, string?, string?];
    const mountPoint = before.split(' ')[4];
    if (mountPoint === undefined) continue;
    if (type === 'cgroup2') unified ??= mountPoint;
    if (type?.startsWith('cgroup')) all.push(mountPoint);
    if (type !== 'cgroup') continue;
    for (const controller of V1_CONTROLLERS) {
      if (options.split(',').includes(controller)) v1[controller] ??= mountPoint;
    }
  }
  const mode = v1.memory === undefined ? 'v2' : unified === undefined ? 'v1' : 'hybrid';
  return { mode, unified, v1, all };
}

/** Makes (or finds) the group under which all sandboxes of one host object live. */
export function createCgroupParent(layout: CgroupLayout, name: string, memoryBytesMax: number): CgroupParent {
  if (layout.mode === 'v2') {
    if (layout.unified === undefined) {
      throw new SkiffError(
        'INVALID_CONFIG',
        'no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup',
      );
    }
    return createV2Parent(layout.unified, name, memoryBytesMax);
  }
  const missing = V1_CONTROLLERS.filter((controller) => layout.v1[controller] === undefined);
  if (missing.length > 0) {
    throw new SkiffError('INVALID_CONFIG', `the cgroup v1 controllers ${missing.join(', ')} are not mounted`);
  }
  return createV1Parent(layout.v1 as V1Folders, layout.all, name, memoryBytesMax);
}
