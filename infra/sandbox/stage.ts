/**
 * The stage: a mount namespace of our own in which the OCI runtime runs and root file systems are put together.
 * Invariant: no mount made here appears on the host, and all of them vanish with the last process that uses them,
 * however this process ends: an open file descriptor is the namespace's only anchor. Why a stage at all: data
 * folders are 0700, but a runtime inside a user namespace must be able to walk to its root, so roots are mounted
 * below a folder that all may pass; and crun refuses hosts with both cgroup versions, so `unified` is hidden here.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, mkdirSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const run = promisify(execFile);
/** Roots without a user that stay mounted: a function that comes and goes need not be mounted each time. */
const IDLE_ROOTS_MAX = 32;
/** Off, whatever the kernel's defaults: layers must not be able to steer the overlay by extended attributes. */
const OVERLAY_OPTIONS = 'ro,nosuid,nodev,redirect_dir=nofollow,metacopy=off,index=off,xino=off';

const SETUP = `
if [ -n "$1" ]; then umount -l "$1" || exit 1; fi
mkdir -p "$2" && mount -t tmpfs -o mode=0711,nosuid,nodev,noexec,size=4m skiff "$2" || exit 1
echo ready
read -r _
`;
const BIND = 'mkdir "$2" && exec mount -o "bind,$3" -- "$1" "$2"';
const BIND_FILE = ': > "$2" && exec mount -o "bind,$3" -- "$1" "$2"';
const OVERLAY = 'cd "$1" && mkdir "$2" && exec mount -t overlay -o "$3" -- overlay "$2"';
const UNMOUNT = 'umount -l -- "$1"; rmdir -- "$1" 2>/dev/null || rm -f -- "$1"';

export interface StagedRoot {
  readonly path: string;
  release(): void;
}

interface RootEntry {
  readonly path: string;
  readonly parts: string;
  users: number;
  readonly mounted: Promise<void>;
}

/** Where a sandbox wants something mounted: the target, and whether it is a folder or a file. */
export interface MountPoint {
  readonly target: string;
  readonly isFile: boolean;
}

export class Stage {
  /** Arguments that start a command inside the stage. */
  readonly enter: readonly string[];
  readonly #namespaceFd: number;
  readonly #folder: string;
  readonly #partsDir: string;
  readonly #roots = new Map<string, RootEntry>();

  private constructor(namespaceFd: number, folder: string, partsDir: string) {
    this.#namespaceFd = namespaceFd;
    this.#folder = folder;
    this.#partsDir = partsDir;
    this.enter = ['nsenter', `--mount=/proc/${process.pid}/fd/${namespaceFd}`, '--'];
  }

  /**
   * @param folder a folder everybody may walk to; inside the stage a tmpfs covers it
   * @param partsDir where skeletons and layer links are kept (on the host's file system, emptied here)
   * @param hide mount point to take away inside the stage
   */
  static async open(options: {
    folder: string;
    partsDir: string;
    hide?: string | undefined;
  }): Promise<Stage> {
    mkdirSync(options.folder, { recursive: true, mode: 0o755 });
    await rm(options.partsDir, { recursive: true, force: true });
    mkdirSync(options.partsDir, { recursive: true, mode: 0o700 });
    // The shell waits for our end of its input, until the namespace is anchored by a descriptor of ours.

    const args = ['--mount', '--propagation', 'slave', '--', '/bin/sh', '-c', SETUP, 'skiff'];
    const child = execFile('unshare', [...args, options.hide ?? '', options.folder]);
    const namespaceFd = await new Promise<number>((resolve, reject) => {
      let errors = '';
      child.stderr?.on('data', (text: string) => (errors += text));
      child.stdout?.once('data', () => resolve(openSync(`/proc/${child.pid}/ns/mnt`, 'r')));
      child.once('error', reject);
      child.once('exit', (code) =>
        reject(mountFailure('making a mount namespace', errors || `exit code ${code}`)),
      );
    });
    child.stdin?.end();
    return new Stage(namespaceFd, options.folder, options.partsDir);
  }

  /**
   * A read-only root file system from folders, topmost first, shared by everybody who asks for the same one.
   * A folder that already has all mount points is used as it is; otherwise a skeleton of them is laid on top, which
   * also covers whatever an image put in their place (a link, a device, a file).
   */
  async acquireRoot(lowerDirs: readonly string[], points: readonly MountPoint[]): Promise<StagedRoot> {
    const key = rootKey(lowerDirs, points);
    let entry = this.#roots.get(key);
    if (!entry) {
      const path = join(this.#folder, key);
      const parts = join(this.#partsDir, key);
      entry = { path, parts, users: 0, mounted: this.#mountRoot(path, parts, lowerDirs, points) };
      this.#roots.set(key, entry);
    }
    entry.users++;
    try {
      await entry.mounted;
    } catch (error) {
      if (this.#roots.get(key) === entry) this.#roots.delete(key);
      throw error;
    }
    // Last used is last in the map.
    this.#roots.delete(key);
    this.#roots.set(key, entry);
    return { path: entry.path, release: () => this.#release(entry) };
  }

  async #mountRoot(
    path: string,
    parts: string,
    lowerDirs: readonly string[],
    points: readonly MountPoint[],
  ): Promise<void> {
    const [only] = lowerDirs;
    if (only === undefined)
      throw new SkiffError('COLD_START_FAILED', 'a sandbox needs at least one root folder');
    if (lowerDirs.length === 1 && points.every((point) => hasMountPoint(only, point))) {
      await this.#run(`mounting ${only}`, BIND, [only, path, 'ro,nosuid,nodev,private']);
      return;
    }
    await rm(parts, { recursive: true, force: true });
    makeSkeleton(join(parts, 'skeleton'), points);
    // Relative links keep the option string short (one page is the kernel's limit) and free of ":" and ",".
    lowerDirs.forEach((folder, index) => symlinkSync(folder, join(parts, String(index))));
    const lower = ['skeleton', ...lowerDirs.keys()].join(':');
    await this.#run(`mounting an overlay of ${lowerDirs.length} folders`, OVERLAY, [
      parts,
      path,
      `${OVERLAY_OPTIONS},lowerdir=${lower}`,
    ]);
  }

  #release(entry: RootEntry): void {
    entry.users--;
    let idle = [...this.#roots].filter(([, root]) => root.users === 0);
    for (const [key, root] of idle.slice(0, Math.max(0, idle.length - IDLE_ROOTS_MAX))) {
      this.#roots.delete(key);
      void this.#run(`unmounting ${root.path}`, UNMOUNT, [root.path]).catch(() => {});
      void rm(root.parts, { recursive: true, force: true });
    }
    idle = [];
  }

  /**
   * A bind mount with flags that the runtime's own bind then inherits: crun 1.8 drops the flags of writable binds.
   * Returns the staged path and how to take it away.
   */
  async bind(
    name: string,
    source: string,
    flags: string,
  ): Promise<{ path: string; release: () => Promise<void> }> {
    const path = join(this.#folder, name);
    const script = statSync(source).isDirectory() ? BIND : BIND_FILE;
    await this.#run(`mounting ${source}`, script, [source, path, flags]);
    return { path, release: () => this.#run(`unmounting ${path}`, UNMOUNT, [path]) };
  }

  /** A folder of the stage, for somebody who mounts something there. */
  pathOf(name: string): string {
    return join(this.#folder, name);
  }

  /** A shell script inside the stage. @throws SkiffError COLD_START_FAILED with what it said */
  run(what: string, script: string, args: readonly string[]): Promise<void> {
    return this.#run(what, script, args);
  }

  async #run(what: string, script: string, args: readonly string[]): Promise<void> {
    const [program, ...enter] = this.enter as [string, ...string[]];
    try {
      await run(program, [...enter, '/bin/sh', '-c', script, 'skiff', ...args]);
    } catch (error) {
      throw mountFailure(what, (error as { stderr?: string }).stderr ?? String(error), error);
    }
  }

  /** Mounts go when the last sandbox that uses them goes. */
  close(): void {
    closeSync(this.#namespaceFd);
  }
}

/** A folder that was removed and made again has the same name; a mount of the old one would be empty. */
function rootKey(lowerDirs: readonly string[], points: readonly MountPoint[]): string {
  const identities = lowerDirs.map((folder) => {
    const stat = statSync(folder, { throwIfNoEntry: false });
    if (!stat) throw new SkiffError('COLD_START_FAILED', `root folder ${folder} does not exist`);
    return [folder, stat.dev, stat.ino, stat.birthtimeMs];
  });
  return createHash('sha256')
    .update(JSON.stringify([identities, points]))
    .digest('hex')
    .slice(0, 32);
}

function mountFailure(what: string, detail: string, cause?: unknown): SkiffError {
  return new SkiffError('COLD_START_FAILED', `${what} failed: ${detail.trim()}`, { cause });
}

/** Every part of the path must be a real folder: a symbolic link would lead the runtime elsewhere. */
function hasMountPoint(root: string, point: MountPoint): boolean {
  const parts = point.target.split('/').filter(Boolean);
  let path = root;
  for (const [index, part] of parts.entries()) {
    path = join(path, part);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    const isLast = index === parts.length - 1;
    if (!(isLast && point.isFile ? stat?.isFile() : stat?.isDirectory())) return false;
  }
  return true;
}

function makeSkeleton(folder: string, points: readonly MountPoint[]): void {
  for (const point of points) {
    const path = join(folder, point.target);
    mkdirSync(point.isFile ? dirname(path) : path, { recursive: true, mode: 0o755 });
    if (point.isFile) writeFileSync(path, '', { mode: 0o444 });
  }
}
