/**
 * Installs the packages of a function, once for each set of what names them (package.json and lock file,
 * requirements.txt).
 *
 * Invariants: package managers run only inside a sandbox, given what names the packages and nothing else of the upload,
 * and reach one registry through the mirror's socket and nothing else; no credential is inside. Scripts of packages run
 * there too, and only if the function allows them. What they leave is settled (settle.ts) before anything on this host
 * reads it.
 * Deliberately absent: the tools' caches between installs (the mirror keeps package files on our side of the fence, so
 * no install writes where another reads).
 */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Log } from '../../infra/lib/log.ts';
import { listEntries, type PackedLayer, packLayerFile } from '../../infra/oci/layer-pack.ts';
import type { Language } from '../../infra/runtimes/contract.ts';
import type { SandboxHost } from '../../infra/sandbox/contract.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { findNativePackages, NO_NATIVE_PACKAGES } from '../bundle/native.ts';
import type { ToolLevel } from '../base/toolchain.ts';
import type { SourceTree } from '../source/tree.ts';
import { type Dependencies, type DependencyStore, LAYER_FILE } from './dependency-store.ts';
import { runTool } from './run.ts';
import { settleTree } from './settle.ts';
import { CHANNEL, PACKAGES_FOLDER, type InstallPlan, type PackageTool } from './tool.ts';

export interface InstallerOptions {
  readonly host: SandboxHost;
  readonly store: DependencyStore;
  readonly tools: Readonly<Record<Language, PackageTool>>;
  /** Root file system of a runtime's base image. */
  readonly openRootfs: (runtime: string) => Promise<{ lowerDirs: readonly string[] }>;
  /** Folder with what install scripts may use. */
  readonly openToolchain: (level: ToolLevel, onProgress: (line: string) => void) => Promise<string>;
  /** Folder for installs that run, on the same file system as the store. Ours alone; emptied by `open`. */
  readonly workFolder: string;
  /** Short path for sockets. */
  readonly channelFolder: string;
  readonly log: Log;
}

export interface InstallRequest {
  readonly tree: SourceTree;
  readonly language: Language;
  readonly runtime: string;
  /** See `build.installScripts` of the configuration. */
  readonly mayRunScripts: boolean;
  readonly signal: AbortSignal;
  readonly onLog: (level: 'info' | 'warn', line: string) => void;
}

/** The large layers of the platform are packed for speed: level 6 takes more than twice the time for a tenth less. */
const LAYER_LEVEL = 1;

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
   * @throws SkiffError INVALID_SOURCE, BUILD_FAILED with the tool's words, UNAVAILABLE; the reason of `signal`.
   */
  async install(request: InstallRequest): Promise<Dependencies | undefined> {
    const { store, tools } = this.#options;
    const plan = await tools[request.language].plan(request.tree, request.runtime, request.mayRunScripts);
    if (!plan) return undefined;
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

  async #run(
    plan: InstallPlan,
    request: InstallRequest,
    attempt = 1,
    level: ToolLevel = 'shell',
  ): Promise<void> {
    const { host, tools, openRootfs, openToolchain, store, workFolder, channelFolder } = this.#options;
    const tool = tools[request.language];
    const name = randomBytes(8).toString('hex');
    const folder = join(workFolder, name);
    const channel = join(channelFolder, name);
    const socket = join(channel, basename(CHANNEL));
    const command = await tool.command(plan, request.runtime);
    const { lowerDirs } = await openRootfs(command.runtime);
    const below = plan.mayRunScripts
      ? [await openToolchain(level, (line) => request.onLog('info', line))]
      : [];
    await mkdir(channel, { mode: 0o711 });
    const session = await tool.openMirror(socket, request.runtime);
    let isDamaged = false;
    let needsCompilers = false;
    try {
      await chmod(socket, 0o666);
      await runTool({
        host,
        tool,
        command,
        plan,
        lowerDirs: [...lowerDirs, ...below],
        folder,
        channel,
        signal: request.signal,
        onLine: (line) => request.onLog('info', line),
      });
      const tree = join(folder, 'tree');
      const { bytes } = await settleTree(tree, process.getuid?.() ?? 0);
      const layer = await packPackages(tool, tree);
      await store.put(plan.key, tree, {
        bytes,
        native: toRecord(
          request.language === 'javascript' ? await findNativePackages(tree) : NO_NATIVE_PACKAGES,
        ),
        hasLocalPackages: plan.hasLocalPackages,
        ...(layer ? { layer } : {}),
      });
    } catch (error) {
      isDamaged = isIntegrityError(error) && attempt === 1;
      needsCompilers = plan.mayRunScripts === true && level === 'shell' && asksForCompilers(error);
      if (!isDamaged && !needsCompilers) throw describeFailure(error, session.problems, tool);
      if (isDamaged) await session.forget();
    } finally {
      await session.close();
      await rm(channel, { recursive: true, force: true });
      await rm(folder, { recursive: true, force: true });
    }
    if (needsCompilers) {
      request.onLog('info', 'an install script looks for a compiler: installing again with one');
      await this.#run(plan, request, attempt, 'compilers');
    } else if (isDamaged) await this.#run(plan, request, attempt + 1, level);
  }
}

/** Packing takes seconds where there are thousands of files, so it is done once and not in every build. */
async function packPackages(tool: PackageTool, tree: string): Promise<PackedLayer | undefined> {
  if (tool.layerPrefix === undefined) return undefined;
  const entries = await listEntries(join(tree, PACKAGES_FOLDER), tool.layerPrefix);
  const files = entries.filter((entry) => !('directory' in entry));
  return packLayerFile(files, join(tree, LAYER_FILE), { level: LAYER_LEVEL });
}

function toRecord(native: { names: readonly string[]; incomplete: readonly string[] }): {
  names: string[];
  incomplete: string[];
} {
  return { names: [...native.names], incomplete: [...native.incomplete] };
}

function isIntegrityError(error: unknown): boolean {
  return error instanceof SkiffError && /\bEINTEGRITY\b|DO NOT MATCH THE HASHES/.test(error.message);
}

/** Most scripts need none, and compilers are large. */
function asksForCompilers(error: unknown): boolean {
  return (
    error instanceof SkiffError && /\bgyp\b|\b(?:make|cmake|cc|gcc|g\+\+|python3?)\b/i.test(error.message)
  );
}

/** When the registry did not answer at all, it is not the function's fault. */
function describeFailure(error: unknown, problems: readonly string[], tool: PackageTool): unknown {
  const silent = problems.find((problem) => /^(?:no answer|50[0-9]) /.test(problem));
  const isTools = error instanceof SkiffError && error.code === 'BUILD_FAILED';
  if (!isTools || silent === undefined) return error;
  return new SkiffError(
    'UNAVAILABLE',
    `the ${tool.name} registry did not answer (${silent}); try again, or set ${tool.setting}`,
    { cause: error },
  );
}
