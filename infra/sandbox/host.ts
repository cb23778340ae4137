/**
 * Starts, limits and removes sandboxes with an OCI runtime: one folder, one cgroup, one uid and one container for
 * each, all named by its id. Invariant: an id and a uid belong to one sandbox from its launch to its end, and what a
 * kill -9 of this process leaves is found by name below `stateDir` and the parent cgroup, and removed by reap().
 * Deliberately absent: images and layers (infra/oci), the guest's protocol, and which sandbox serves what (runner).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { Log } from '../lib/log.ts';
import { createCgroupParent, parseCgroupLayout } from './cgroup/layout.ts';
import { releaseClaim, tryClaim } from './claim.ts';
import type { Sandbox, SandboxHost, SandboxSpec } from './contract.ts';
import { type LaunchParts, launchSandbox } from './launch.ts';
import { runtimeTraits } from './runtime.ts';
import { loadSeccompProfile } from './seccomp.ts';
import { Stage } from './stage.ts';
import { openUidPool } from './uids.ts';

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
/** Not a sandbox's id: those begin with a small letter or digit. */
const LAUNCHERS = '_launchers-';
const ID_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** Rejects with SkiffError INVALID_CONFIG when another living process uses the state folder, or the host lacks something. */
export async function openSandboxHost(options: SandboxHostOptions): Promise<SandboxHost> {
  const { stateDir, runDir = RUN_DIR, log } = options;
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
  const { refusesHybrid, nestsCgroup } = runtimeTraits(options.runtime);
  const hide = layout.mode === 'hybrid' && refusesHybrid ? layout.unified : undefined;
  const stage = await Stage.open({ folder: runDir, partsDir: join(stateDir, 'roots'), hide });
  const bundles = join(stateDir, 'bundles');
  mkdirSync(bundles, { recursive: true, mode: 0o700 });
  const runtime = { program: options.runtime, root: join(stateDir, 'runtime') };
  const seccomp = loadSeccompProfile(process.arch);
  undo.move();
  const launchers = nestsCgroup ? cgroups.createUnlimited(`${LAUNCHERS}${createId('run')}`) : undefined;
  return new OciSandboxHost({ stage, uids, cgroups, launchers, seccomp, runtime, bundles, log }, claim);
}

class OciSandboxHost implements SandboxHost {
  readonly #parts: LaunchParts;
  readonly #claim: string;
  /** By id: launching or live. */
  readonly #sandboxes = new Map<string, { readonly uid: number; readonly launched: Promise<Sandbox> }>();
  readonly #gate = new LaunchGate(2 * availableParallelism());
  #isClosed = false;

  constructor(parts: LaunchParts, claim: string) {
    this.#parts = parts;
    this.#claim = claim;
  }

  allocateUid(): number {
    return this.#parts.uids.allocate();
  }

  launch(spec: SandboxSpec): Promise<Sandbox> {
    try {
      const uid = this.#admit(spec);
      const launched = this.#launch(spec, uid);
      this.#sandboxes.set(spec.id, { uid, launched });
      return launched;
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  async #launch(spec: SandboxSpec, uid: number): Promise<Sandbox> {
    await using resources = new AsyncDisposableStack();
    resources.defer(() => {
      this.#sandboxes.delete(spec.id);
      this.#parts.uids.release(uid);
    });
    await this.#gate.enter();
    try {
      return await launchSandbox(this.#parts, spec, uid, resources);
    } finally {
      this.#gate.leave();
    }
  }

  /** Returns the uid. Throws SkiffError COLD_START_FAILED. */
  #admit(spec: SandboxSpec): number {
    const { uids, bundles } = this.#parts;
    const refuse = (why: string): never => {
      throw new SkiffError('COLD_START_FAILED', why);
    };
    if (this.#isClosed) refuse('the sandbox host is closed');
    if (!ID_PATTERN.test(spec.id)) refuse(`"${spec.id}" is not a sandbox id`);
    if (this.#sandboxes.has(spec.id) || existsSync(join(bundles, spec.id)))
      refuse(`sandbox ${spec.id} exists already`);
    if (spec.uid === undefined) return uids.allocate();
    if (!uids.isAllocated(spec.uid)) refuse(`uid ${spec.uid} does not come from allocateUid()`);
    if ([...this.#sandboxes.values()].some(({ uid }) => uid === spec.uid))
      refuse(`uid ${spec.uid} belongs to another sandbox`);
    return spec.uid;
  }

  async reap(): Promise<{ containers: number; mounts: number; cgroups: number }> {
    const { cgroups, launchers, runtime, bundles, log } = this.#parts;
    const isForeign = (name: string): boolean => !this.#sandboxes.has(name) && name !== launchers?.name;
    // Launchers first: one that lives on would make what was just removed.
    const isLauncher = (name: string): number => Number(name.startsWith(LAUNCHERS));
    const groups = cgroups
      .list()
      .filter(isForeign)
      .toSorted((a, b) => isLauncher(b) - isLauncher(a));
    for (const name of groups) {
      const cgroup = cgroups.open(name);
      await cgroup.killAll();
      await cgroup.remove();
    }
    const sandboxGroups = groups.filter((name) => !name.startsWith(LAUNCHERS));
    const containers = listFolder(bundles).filter(isForeign);
    for (const name of containers) rmSync(join(bundles, name), { recursive: true, force: true });
    for (const name of listFolder(runtime.root).filter(isForeign))
      rmSync(join(runtime.root, name), { recursive: true, force: true });
    // Mounts were in the dead process's stage, which ended with the processes that used it.
    const counts = { containers: containers.length, mounts: 0, cgroups: sandboxGroups.length };
    if (counts.containers + counts.cgroups > 0) log.warn(counts, 'removed what a previous process left');
    return counts;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { cgroups, launchers, stage, uids } = this.#parts;
    const ends = [...this.#sandboxes.values()].map(async ({ launched }) => {
      const sandbox = await launched;
      sandbox.kill();
      await sandbox.exited;
    });
    // A launch that fails has cleaned up and told its caller.
    await Promise.allSettled(ends);
    await launchers?.remove();
    await cgroups.remove();
    stage.close();
    uids.close();
    releaseClaim(this.#claim);
  }
}

/** Launches are work for the processor: more at once than it has cores only make each of them late. */
class LaunchGate {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(width: number) {
    this.#free = width;
  }

  async enter(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}

function listFolder(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
