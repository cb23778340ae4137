/**
 * Installs the npm packages of a function, once for each set of package.json and lock file.
 *
 * Invariants: npm runs only inside a sandbox, with scripts off, given reduced manifests and a lock file and nothing
 * else of the upload, and reaches one registry through the mirror's socket and nothing else; no credential is inside.
 * What it leaves is settled (settle.ts) before anything on this host reads it.
 * Deliberately absent: the npm cache between installs (the mirror keeps tarballs on our side of the fence, so no
 * install writes where another reads), pnpm, yarn and install scripts.
 */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../infra/lib/log.ts';
import type { SandboxHost } from '../../infra/sandbox/contract.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { findNativePackages } from '../bundle/native.ts';
import type { SourceTree } from '../source/tree.ts';
import type { Dependencies, DependencyStore } from './dependency-store.ts';
import type { NpmMirror } from './mirror.ts';
import { runNpm } from './npm-run.ts';
import { type InstallPlan, planInstall } from './plan.ts';
import { settleTree } from './settle.ts';

export interface InstallerOptions {
  readonly host: SandboxHost;
  readonly mirror: NpmMirror;
  readonly store: DependencyStore;
  /** Root file system of a runtime's base image, and where Node is in it. */
  readonly openRootfs: (runtime: string) => Promise<{ lowerDirs: readonly string[]; node: string }>;
  /** npm's own folder on this host. */
  readonly npmFolder: string;
  /** Folder for installs that run, on the same file system as the store. Ours alone; emptied by `open`. */
  readonly workFolder: string;
  /** Short path for sockets. */
  readonly channelFolder: string;
  readonly log: Log;
}

export interface InstallRequest {
  readonly tree: SourceTree;
  readonly runtime: string;
  readonly signal: AbortSignal;
  readonly onLog: (level: 'info' | 'warn', line: string) => void;
}

export class Installer {
  readonly #options: InstallerOptions;
  readonly #running = new Map<string, Promise<void>>();

  constructor(options: InstallerOptions) {
    this.#options = options;
  }

  /** Removes what a dead predecessor left. */
  async open(): Promise<void> {
    for (const folder of [this.#options.workFolder, this.#options.channelFolder]) {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true, mode: 0o711 });
    }
  }

  /**
   * Undefined when the source needs no packages. The caller must `release` the result.
   * @throws SkiffError INVALID_SOURCE, BUILD_FAILED with npm's words, UNAVAILABLE; the reason of `signal`.
   */
  async install(request: InstallRequest): Promise<Dependencies | undefined> {
    const plan = await planInstall(request.tree, request.runtime);
    if (!plan) return undefined;
    const { store } = this.#options;
    const known = await store.tryAcquire(plan.key);
    if (known) return known;
    for (const warning of plan.warnings) request.onLog('warn', warning);
    await this.#installOnce(plan, request);
    const dependencies = await store.tryAcquire(plan.key);
    if (!dependencies)
      throw new SkiffError('INTERNAL', 'installed packages are gone', { cause: new Error(plan.key) });
    return dependencies;
  }

  release(dependencies: Dependencies): void {
    this.#options.store.release(dependencies.key);
  }

  /** Builds with equal plans wait for one install; when the build that runs it is cancelled, the next one runs it. */
  async #installOnce(plan: InstallPlan, request: InstallRequest): Promise<void> {
    for (;;) {
      const running = this.#running.get(plan.key);
      if (!running) break;
      await running.catch(() => {});
      request.signal.throwIfAborted();
      const known = await this.#options.store.tryAcquire(plan.key);
      if (known) return this.release(known);
    }
    const install = this.#run(plan, request);
    this.#running.set(plan.key, install);
    try {
      await install;
    } finally {
      this.#running.delete(plan.key);
    }
  }

  async #run(plan: InstallPlan, request: InstallRequest, attempt = 1): Promise<void> {
    const { host, mirror, npmFolder, openRootfs, store, workFolder, channelFolder } = this.#options;
    const name = randomBytes(8).toString('hex');
    const folder = join(workFolder, name);
    const channel = join(channelFolder, name);
    const rootfs = await openRootfs(request.runtime);
    await mkdir(channel, { mode: 0o711 });
    const session = await mirror.open(join(channel, 'npm.sock'));
    let isDamaged = false;
    try {
      await chmod(join(channel, 'npm.sock'), 0o666);
      await runNpm({
        host,
        ...rootfs,
        npmFolder,
        plan,
        folder,
        channel,
        signal: request.signal,
        onLine: (line) => request.onLog('info', line),
      });
      const tree = join(folder, 'tree');
      const { bytes } = await settleTree(tree, process.getuid?.() ?? 0);
      await store.put(plan.key, tree, {
        bytes,
        native: toRecord(await findNativePackages(tree)),
        hasLocalPackages: plan.hasLocalPackages,
      });
    } catch (error) {
      isDamaged = isIntegrityError(error) && attempt === 1;
      if (!isDamaged) throw describeFailure(error, session.problems);
      await session.forget();
    } finally {
      await session.close();
      await rm(channel, { recursive: true, force: true });
      await rm(folder, { recursive: true, force: true });
    }
    if (isDamaged) await this.#run(plan, request, attempt + 1);
  }
}

function toRecord(native: { names: readonly string[]; incomplete: readonly string[] }): {
  names: string[];
  incomplete: string[];
} {
  return { names: [...native.names], incomplete: [...native.incomplete] };
}

function isIntegrityError(error: unknown): boolean {
  return error instanceof SkiffError && /\bEINTEGRITY\b/.test(error.message);
}

/** When the registry did not answer at all, it is not the function's fault. */
function describeFailure(error: unknown, problems: readonly string[]): unknown {
  const silent = problems.find((problem) => /^(?:no answer|50[0-9]) /.test(problem));
  const isNpm = error instanceof SkiffError && error.code === 'BUILD_FAILED';
  if (!isNpm || silent === undefined) return error;
  return new SkiffError(
    'UNAVAILABLE',
    `the npm registry did not answer (${silent}); try again, or set SKIFF_NPM_REGISTRY`,
    { cause: error },
  );
}
