/**
 * What install scripts of packages may use, as Debian has it: a shell and the usual small programs, or those with make, a
 * C++ compiler and Python (some 80 MB to download). A folder that is laid below the root of the sandbox that installs;
 * assembled when the first function needs it, and never part of an image.
 * Invariant: the folder appears with one rename when it is whole.
 */
import { execFile } from 'node:child_process';
import { access, mkdir, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { digestOf } from '../../infra/oci/digest.ts';
import { listPackages, unpackPackages } from './debian-packages.ts';

export type ToolLevel = 'shell' | 'compilers';

const SHELL = ['dash', 'coreutils', 'sed', 'grep', 'mawk', 'findutils'];
const WANTED: Readonly<Record<ToolLevel, readonly string[]>> = {
  shell: SHELL,
  compilers: [...SHELL, 'make', 'g++', 'python3'],
};
/** Dependencies of theirs that only matter to a machine that is administered. */
const LEFT_OUT =
  /^(?:perl|libperl|perl-|libgdbm|libdb5|mailcap|mime-support|media-types|dpkg|tar$|install-info|debianutils|debconf)/;
const CLOSURE = [
  '--recurse',
  ...['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map((kind) => `--no-${kind}`),
];
/** Links that Debian makes when it configures a package. */
const LINKS: readonly (readonly [string, string])[] = [
  ['usr/bin/cc', 'gcc'],
  ['usr/bin/c++', 'g++'],
  ['usr/bin/awk', 'mawk'],
  ['bin/sh', 'dash'],
];
const APT_MS_MAX = 60_000;
const run = promisify(execFile);

export class Toolchain {
  readonly #folder: string;
  readonly #debianFolder: string;
  readonly #opening = new Map<ToolLevel, Promise<string>>();

  /** @param debianFolder keeps downloaded packages between runs */
  constructor(folder: string, debianFolder: string) {
    this.#folder = folder;
    this.#debianFolder = debianFolder;
  }

  /** Its folder. @throws SkiffError UNAVAILABLE when apt cannot give the packages */
  open(level: ToolLevel, onProgress: (line: string) => void): Promise<string> {
    const known = this.#opening.get(level);
    if (known) return known;
    const opening = this.#assemble(level, onProgress);
    this.#opening.set(level, opening);
    opening.catch(() => this.#opening.delete(level));
    return opening;
  }

  async #assemble(level: ToolLevel, onProgress: (line: string) => void): Promise<string> {
    const packages = await listPackages(await listClosure(WANTED[level]), this.#debianFolder, onProgress);
    const name = digestOf(JSON.stringify(packages)).slice(7, 23);
    const folder = join(this.#folder, level);
    const place = join(folder, name);
    if (await exists(place)) return place;
    onProgress(`assembling what install scripts may use (${level}), once`);
    const draft = join(folder, `${name}.new`);
    await rm(folder, { recursive: true, force: true });
    await mkdir(draft, { recursive: true, mode: 0o755 });
    await unpackPackages(packages, { packages: [] }, this.#debianFolder, draft, onProgress);
    for (const folder of ['doc', 'man', 'locale', 'info'])
      await rm(join(draft, 'usr/share', folder), { recursive: true, force: true });
    for (const [path, target] of LINKS) {
      const isThere = await exists(join(draft, path));
      if (!isThere && (await exists(join(draft, path, '..', target))))
        await symlink(target, join(draft, path));
    }
    await rename(draft, place);
    return place;
  }
}

async function listClosure(wanted: readonly string[]): Promise<string[]> {
  try {
    const { stdout } = await run('apt-cache', ['depends', ...CLOSURE, ...wanted], { timeout: APT_MS_MAX });
    // Names stand at the margin; those in angle brackets are virtual.
    const names = stdout.split('\n').filter((line) => /^[a-z0-9]/.test(line) && !line.includes(':'));
    return [...new Set(names)].filter((name) => !LEFT_OUT.test(name)).sort();
  } catch (cause) {
    throw new SkiffError('UNAVAILABLE', 'apt-cache cannot say what a compiler needs; run apt-get update', {
      cause,
    });
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
