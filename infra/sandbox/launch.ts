/**
 * One launch, step by step. Invariant: what a step takes is on the resource stack before the next step, so a failure
 * at any point gives everything back in reverse order, and the sandbox's end does the same.
 */
import { closeSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Log } from '../lib/log.ts';
import { createRuntimeConfig, OWN_TARGETS, type ResolvedMount } from './bundle.ts';
import type { Cgroup, CgroupParent } from './cgroup/cgroup.ts';
import type { SandboxSpec } from './contract.ts';
import { startRuntime } from './process.ts';
import { nestedCgroupsPath, runFiles, type RuntimePaths, runtimeTraits } from './runtime.ts';
import { RunningSandbox } from './sandbox.ts';
import { extendForBuilds, extendForScripts, type SeccompProfile } from './seccomp.ts';
import type { MountPoint, Stage } from './stage.ts';
import type { UidPool } from './uids.ts';
import { openVolume } from './volume.ts';

export interface LaunchParts {
  readonly stage: Stage;
  readonly uids: UidPool;
  readonly cgroups: CgroupParent;
  readonly seccomp: SeccompProfile;
  readonly runtime: RuntimePaths;
  /** Where runtimes stay that put only the container into its cgroup, so that a later owner finds them. */
  readonly launchers: Cgroup | undefined;
  /** Folder of the OCI bundles, one for each sandbox. */
  readonly bundles: string;
  readonly log: Log;
}

/** `resources` holds what the caller took for this sandbox already; it moves into the sandbox. */
export async function launchSandbox(
  parts: LaunchParts,
  spec: SandboxSpec,
  uid: number,
  resources: AsyncDisposableStack,
): Promise<RunningSandbox> {
  const { cgroups, launchers, stage, runtime, log } = parts;
  const { nestsCgroup } = runtimeTraits(runtime.program);
  const root = await stage.acquireRoot(spec.lowerDirs, mountPoints(spec));
  resources.defer(() => root.release());
  const mounts = await resolveMounts(parts, spec, uid, resources);
  const bundle = join(parts.bundles, spec.id);
  resources.defer(() => rm(bundle, { recursive: true, force: true }));
  resources.defer(() => rm(join(runtime.root, spec.id), { recursive: true, force: true }));
  mkdirSync(bundle, { mode: 0o700 });
  const network = openNetwork(spec.networkNamespace);
  try {
    writeConfig(parts, spec, { uid, bundle, rootPath: root.path, mounts, networkPath: network?.path });
    resources.defer(async () => {
      const made = cgroups.open(spec.id);
      await made.killAll();
      await made.remove();
    });
    const limits = { ...spec, isBackground: spec.background !== undefined };
    const cgroup = cgroups.create(spec.id, limits, { isNested: nestsCgroup });
    // It may have ended by then.
    spec.background?.then(() => cgroup.setWeight(spec.cpu)).catch(() => {});
    const process = await startRuntime({
      id: spec.id,
      enter: stage.enter,
      joinFiles: (launchers ?? cgroup).joinFiles,
      runtime,
      files: runFiles(bundle),
      hasNetwork: network !== undefined,
    });
    return new RunningSandbox({ id: spec.id, uid, process, cgroup, resources: resources.move(), log });
  } finally {
    network?.close();
  }
}

interface ConfigParts {
  readonly uid: number;
  readonly bundle: string;
  readonly rootPath: string;
  readonly mounts: readonly ResolvedMount[];
  readonly networkPath: string | undefined;
}

function seccompOf(spec: SandboxSpec, profile: SeccompProfile): SeccompProfile {
  if (spec.builds) return extendForBuilds(profile);
  return spec.compiles === true ? extendForScripts(profile) : profile;
}

function writeConfig(parts: LaunchParts, spec: SandboxSpec, own: ConfigParts): void {
  const { seccomp, runtime, cgroups, uids } = parts;
  const { nestsCgroup, needsRootMapping, remountsRoot } = runtimeTraits(runtime.program);
  const config = createRuntimeConfig({
    spec,
    uid: own.uid,
    rootPath: own.rootPath,
    remountsRoot,
    mounts: own.mounts,
    seccomp: seccompOf(spec, seccomp),
    ...(own.networkPath === undefined ? {} : { networkPath: own.networkPath }),
    ...(nestsCgroup ? { cgroupsPath: nestedCgroupsPath(cgroups.name, spec.id) } : {}),
    ...(needsRootMapping && !spec.builds ? { rootUid: uids.companionOf(own.uid) } : {}),
  });
  writeFileSync(join(own.bundle, 'config.json'), JSON.stringify(config), { mode: 0o600 });
}

/** The runtime gets a path to our descriptor: the stage does not see what is mounted on /run/netns later. */
function openNetwork(name: string | undefined): { path: string; close: () => void } | undefined {
  if (name === undefined) return undefined;
  const file = join('/run/netns', name);
  try {
    const descriptor = openSync(file, 'r');
    return { path: `/proc/${process.pid}/fd/${descriptor}`, close: () => closeSync(descriptor) };
  } catch (error) {
    throw new SkiffError('COLD_START_FAILED', `network namespace ${file} cannot be opened`, { cause: error });
  }
}

/**
 * Writable binds are made by us first, with their flags; see Stage.bind. So are all of a runtime that could not walk to
 * what it mounts: the stage's folder is open to everybody.
 */
async function resolveMounts(
  { stage, runtime }: LaunchParts,
  spec: SandboxSpec,
  uid: number,
  resources: AsyncDisposableStack,
): Promise<ResolvedMount[]> {
  const resolved: ResolvedMount[] = [];
  for (const [index, mount] of spec.mounts.entries()) {
    const propagation = mount.propagate ? 'rslave' : 'rprivate';
    const { mountsAsNobody } = runtimeTraits(runtime.program);
    const access = mount.writable ? 'rw' : 'ro';
    if (mount.volume) {
      const { bytesMax, seed } = mount.volume;
      const opened = await openVolume(stage, `${spec.id}-${index}`, {
        file: mount.source,
        bytesMax,
        seed,
        uid,
      });
      resources.defer(opened.release);
      const options = ['rbind', 'rw', 'nosuid', 'nodev', 'noexec', propagation];
      resolved.push({ source: opened.path, target: mount.target, options });
      continue;
    }
    if (!mount.writable && !mountsAsNobody) {
      const options = ['rbind', 'ro', 'nosuid', 'nodev', propagation];
      resolved.push({ source: mount.source, target: mount.target, options });
      continue;
    }
    const isExecutable = !mount.writable || mount.exec === true;
    const flags = ['nosuid', 'nodev', ...(isExecutable ? [] : ['noexec'])];
    const bound = await stage.bind(`${spec.id}-${index}`, mount.source, [access, ...flags].join(','));
    resources.defer(bound.release);
    resolved.push({
      source: bound.path,
      target: mount.target,
      options: ['rbind', access, ...flags, propagation],
    });
  }
  return resolved;
}

function mountPoints(spec: SandboxSpec): MountPoint[] {
  const own = OWN_TARGETS.map((target) => ({ target, isFile: false }));
  return [
    ...own,
    ...spec.mounts.map(({ target, source, volume }) => ({ target, isFile: !volume && isFile(source) })),
  ];
}

function isFile(source: string): boolean {
  const stat = statSync(source, { throwIfNoEntry: false });
  if (!stat) throw new SkiffError('COLD_START_FAILED', `mount source ${source} does not exist`);
  return !stat.isDirectory();
}
