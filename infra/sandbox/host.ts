/**
 * Starts, limits and removes sandboxes with an OCI runtime: one folder, one cgroup, one uid and one container for
 * each, all named by its id. Invariant: whatever a launch takes is on its resource stack before the next step, so
 * a failure at any point, like the sandbox's end, gives everything back in reverse order. What kill -9 of this
 * process leaves is found by name below `stateDir` and the parent cgroup, and removed by reap().
 * Deliberately absent: images and layers (infra/oci), the guest's protocol, and which sandbox serves what (runner).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Log } from '../lib/log.ts';
import { createRuntimeConfig, OWN_TARGETS, type ResolvedMount } from './bundle.ts';
import type { CgroupParent } from './cgroup/cgroup.ts';
import { createCgroupParent, parseCgroupLayout } from './cgroup/layout.ts';
import { releaseClaim, tryClaim } from './claim.ts';
import type { Sandbox, SandboxHost, SandboxSpec } from './contract.ts';
import { startRuntime } from './process.ts';
import { nestedCgroupsPath, runFiles, type RuntimePaths, runtimeTraits } from './runtime.ts';
import { RunningSandbox } from './sandbox.ts';
import { loadSeccompProfile, type SeccompProfile } from './seccomp.ts';
import { type MountPoint, Stage } from './stage.ts';
import { openUidPool, type UidPool } from './uids.ts';

export interface SandboxHostOptions {
  /** Ours alone; made if absent. */
  readonly stateDir: string;
  /** Name of the cgroup above all sandboxes of this host object. Two hosts need two names. */
  readonly cgroupParent: string;
  /** `crun`, `runc`, or a path. */
  readonly runtime: string;
  /** First host uid that sandboxes may get, at least 1,000,000. */
  readonly uidBase: number;
  readonly log: Log;
  /** Cap on all sandboxes together. */
  readonly memoryBytesMax: number;
  /** A folder that everybody may pass: staged roots and uid claims. */
  readonly runDir?: string;
}

const RUN_DIR = '/run/skiff';
const ID_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

interface HostParts {
  readonly options: SandboxHostOptions;
  readonly stage: Stage;
  readonly uids: UidPool;
  readonly cgroups: CgroupParent;
  readonly seccomp: SeccompProfile;
  readonly runtime: RuntimePaths;
  readonly bundles: string;
  readonly claim: string;
}

/** Rejects with SkiffError INVALID_CONFIG when another living process uses the state folder, or the host lacks something. */
export async function openSandboxHost(options: SandboxHostOptions): Promise<SandboxHost> {
  const { stateDir, runDir = RUN_DIR } = options;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const claim = join(stateDir, 'owner');
  if (!tryClaim(claim)) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `${stateDir} is in use by another process; give each server its own data folder`,
    );
  }
  await using undo = new AsyncDisposableStack();
  undo.defer(() => releaseClaim(claim));
  const layout = parseCgroupLayout(readFileSync('/proc/self/mountinfo', 'utf8'));
  const cgroups = createCgroupParent(layout, options.cgroupParent, options.memoryBytesMax);
  const uids = openUidPool(options.uidBase, join(runDir, 'uids'));
  undo.defer(() => uids.close());
  const { refusesHybrid } = runtimeTraits(options.runtime);
  const hide = layout.mode === 'hybrid' && refusesHybrid ? layout.unified : undefined;
  const stage = await Stage.open({ folder: runDir, partsDir: join(stateDir, 'roots'), hide });
  const bundles = join(stateDir, 'bundles');
  mkdirSync(bundles, { recursive: true, mode: 0o700 });
  const runtime = { program: options.runtime, root: join(stateDir, 'runtime') };
  const seccomp = loadSeccompProfile(process.arch);
  undo.move();
  return new OciSandboxHost({ options, stage, uids, cgroups, seccomp, runtime, bundles, claim });
}

class OciSandboxHost implements SandboxHost {
  readonly #parts: HostParts;
  readonly #live = new Map<string, Sandbox>();
  readonly #launching = new Set<string>();
  #isClosed = false;

  constructor(parts: HostParts) {
    this.#parts = parts;
  }

  allocateUid(): number {
    return this.#parts.uids.allocate();
  }

  async launch(spec: SandboxSpec): Promise<Sandbox> {
    const { uids, cgroups, stage, runtime, options } = this.#parts;
    await using resources = new AsyncDisposableStack();
    const uid = spec.uid ?? uids.allocate();
    resources.defer(() => uids.release(uid));
    this.#assertCanLaunch(spec, uid);
    this.#launching.add(spec.id);
    resources.defer(() => void (this.#launching.delete(spec.id), this.#live.delete(spec.id)));

    const root = await stage.acquireRoot(spec.lowerDirs, mountPoints(spec));
    resources.defer(() => root.release());
    const mounts = await this.#resolveMounts(spec, resources);
    const bundle = join(this.#parts.bundles, spec.id);
    resources.defer(() => rm(bundle, { recursive: true, force: true }));
    resources.defer(() => rm(join(runtime.root, spec.id), { recursive: true, force: true }));
    mkdirSync(bundle, { mode: 0o700 });
    this.#writeConfig(bundle, spec, uid, root.path, mounts);

    resources.defer(async () => {
      const made = cgroups.open(spec.id);
      await made.killAll();
      await made.remove();
    });
    const { nestsCgroup } = runtimeTraits(runtime.program);
    const cgroup = cgroups.create(spec.id, spec, { isNested: nestsCgroup });
    const process = await startRuntime({
      id: spec.id,
      enter: stage.enter,
      procsFiles: nestsCgroup ? [] : cgroup.procsFiles,
      runtime,
      files: runFiles(bundle),
    });
    const sandbox = new RunningSandbox({
      id: spec.id,
      uid,
      process,
      cgroup,
      resources: resources.move(),
      log: options.log,
    });
    this.#live.set(spec.id, sandbox);
    return sandbox;
  }

  #writeConfig(
    bundle: string,
    spec: SandboxSpec,
    uid: number,
    rootPath: string,
    mounts: readonly ResolvedMount[],
  ): void {
    const { seccomp, runtime, cgroups, uids } = this.#parts;
    const { nestsCgroup, needsRootMapping } = runtimeTraits(runtime.program);
    const config = createRuntimeConfig({
      spec,
      uid,
      rootPath,
      mounts,
      seccomp,
      ...(nestsCgroup ? { cgroupsPath: nestedCgroupsPath(cgroups.name, spec.id) } : {}),
      ...(needsRootMapping ? { rootUid: uids.companionOf(uid) } : {}),
    });
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  }

  #assertCanLaunch(spec: SandboxSpec, uid: number): void {
    if (this.#isClosed) throw new SkiffError('COLD_START_FAILED', 'the sandbox host is closed');
    if (!ID_PATTERN.test(spec.id))
      throw new SkiffError('COLD_START_FAILED', `"${spec.id}" is not a sandbox id`);
    if (this.#launching.has(spec.id) || existsSync(join(this.#parts.bundles, spec.id))) {
      throw new SkiffError('COLD_START_FAILED', `sandbox ${spec.id} exists already`);
    }
    if (!this.#parts.uids.isAllocated(uid)) {
      throw new SkiffError('COLD_START_FAILED', `uid ${uid} does not come from allocateUid()`);
    }
  }

  /** Writable binds are made by us first, with their flags; see Stage.bind. */
  async #resolveMounts(spec: SandboxSpec, resources: AsyncDisposableStack): Promise<ResolvedMount[]> {
    const resolved: ResolvedMount[] = [];
    for (const [index, mount] of spec.mounts.entries()) {
      const propagation = [mount.propagate ? 'rslave' : 'rprivate'];
      if (!mount.writable) {
        const options = ['rbind', 'ro', 'nosuid', 'nodev', ...propagation];
        resolved.push({ source: mount.source, target: mount.target, options });
        continue;
      }
      const flags = ['nosuid', 'nodev', ...(mount.exec ? [] : ['noexec'])];
      const bound = await this.#parts.stage.bind(`${spec.id}-${index}`, mount.source, flags.join(','));
      resources.defer(bound.release);
      resolved.push({
        source: bound.path,
        target: mount.target,
        options: ['rbind', 'rw', ...flags, ...propagation],
      });
    }
    return resolved;
  }

  async reap(): Promise<{ containers: number; mounts: number; cgroups: number }> {
    const { cgroups, runtime, bundles, options } = this.#parts;
    const isOurs = (name: string): boolean => this.#launching.has(name);
    const dead = cgroups.list().filter((name) => !isOurs(name));
    for (const name of dead) {
      const cgroup = cgroups.open(name);
      await cgroup.killAll();
      await cgroup.remove();
    }
    let containers = 0;
    for (const folder of [runtime.root, bundles]) {
      for (const name of existsSync(folder) ? readdirSync(folder) : []) {
        if (isOurs(name)) continue;
        if (folder === bundles) containers++;
        rmSync(join(folder, name), { recursive: true, force: true });
      }
    }
    const counts = { containers, mounts: 0, cgroups: dead.length };
    if (dead.length > 0 || containers > 0) options.log.warn(counts, 'removed what a previous process left');
    return counts;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { cgroups, stage, uids, claim } = this.#parts;
    const live = [...this.#live.values()];
    for (const sandbox of live) sandbox.kill();
    await Promise.all(live.map((sandbox) => sandbox.exited));
    await cgroups.remove();
    stage.close();
    uids.close();
    releaseClaim(claim);
  }
}

function mountPoints(spec: SandboxSpec): MountPoint[] {
  const own = OWN_TARGETS.map((target) => ({ target, isFile: false }));
  return [...own, ...spec.mounts.map((mount) => ({ target: mount.target, isFile: isFile(mount.source) }))];
}

function isFile(source: string): boolean {
  const stat = statSync(source, { throwIfNoEntry: false });
  if (!stat) throw new SkiffError('COLD_START_FAILED', `mount source ${source} does not exist`);
  return !stat.isDirectory();
}
