/**
 * Installed dependencies by the key of their plan, shared by all builds: `<folder>/<key>/` holds node_modules (and
 * those of workspaces) and `skiff.json`. Bounded; the least recently used that no build uses go first.
 * Invariant: an entry appears with one rename when it is whole, and is never written again.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';

const run = promisify(execFile);
const RECORD = 'skiff.json';
/** Beside it, when the packages become one layer. */
export const LAYER_FILE = 'layer.tar.gz';

const Record = z.object({
  bytes: z.number(),
  native: z.object({ names: z.array(z.string()), incomplete: z.array(z.string()) }),
  hasLocalPackages: z.boolean(),
  layer: z
    .object({ digest: z.string(), diffId: z.string(), bytes: z.number(), mediaType: z.string() })
    .optional(),
});
export type DependencyRecord = z.output<typeof Record>;

export interface Dependencies extends DependencyRecord {
  readonly key: string;
  /** Host folder of the entry. */
  readonly folder: string;
}

export class DependencyStore {
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #users = new Map<string, number>();

  /** `folder` may be listed by nobody but its owner: its names are all that guards one function's packages. */
  constructor(folder: string, bytesMax: number) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
  }

  /** Marks the entry as in use until `release`. */
  async tryAcquire(key: string): Promise<Dependencies | undefined> {
    const folder = join(this.#folder, key);
    this.#count(key, 1);
    try {
      const record = Record.parse(JSON.parse(await readFile(join(folder, RECORD), 'utf8')));
      await utimes(folder, new Date(), new Date());
      return { key, folder, ...record };
    } catch {
      this.#count(key, -1);
      return undefined;
    }
  }

  release(key: string): void {
    this.#count(key, -1);
  }

  /** Takes a finished install over. When another build was faster its result stands. */
  async put(key: string, tree: string, record: DependencyRecord): Promise<void> {
    await writeFile(join(tree, RECORD), JSON.stringify(Record.parse(record)), { mode: 0o644 });
    await mkdir(this.#folder, { recursive: true, mode: 0o711 });
    try {
      await rename(tree, join(this.#folder, key));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
      await rm(tree, { recursive: true, force: true });
    }
    await this.#prune(key);
  }

  /**
   * Makes the packages visible below a source root: as one link, or, when npm linked folders of the source, by hard
   * links to every file, as those links must lead into this very source.
   */
  async attach(dependencies: Dependencies, root: string): Promise<void> {
    if (!dependencies.hasLocalPackages) {
      await symlink(relative(root, join(dependencies.folder, 'node_modules')), join(root, 'node_modules'));
      return;
    }
    for (const path of await listModuleFolders(dependencies.folder)) {
      // A workspace's own node_modules in the upload gives way to what was installed for it.
      await rm(join(root, path), { recursive: true, force: true });
      await mkdir(join(root, path, '..'), { recursive: true });
      await run('cp', ['-al', '--', join(dependencies.folder, path), join(root, path)]);
    }
  }

  #count(key: string, change: number): void {
    const users = (this.#users.get(key) ?? 0) + change;
    if (users > 0) this.#users.set(key, users);
    else this.#users.delete(key);
  }

  async #prune(newest: string): Promise<void> {
    const entries: { key: string; bytes: number; usedMs: number }[] = [];
    for (const key of await readdir(this.#folder)) {
      const file = join(this.#folder, key, RECORD);
      const record = await readFile(file, 'utf8')
        .then((text) => Record.parse(JSON.parse(text)))
        .catch(() => undefined);
      const usedMs = (await stat(join(this.#folder, key)).catch(() => undefined))?.mtimeMs ?? 0;
      entries.push({ key, bytes: record?.bytes ?? 0, usedMs: record ? usedMs : 0 });
    }
    let bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const { key, bytes: own } of entries.sort((a, b) => a.usedMs - b.usedMs)) {
      if (bytes <= this.#bytesMax) return;
      if (key === newest || this.#users.has(key)) continue;
      await rm(join(this.#folder, key), { recursive: true, force: true });
      bytes -= own;
    }
  }
}

/** Relative paths of the outermost node_modules folders. */
async function listModuleFolders(folder: string, path = ''): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(join(folder, path), { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const inner = path === '' ? entry.name : `${path}/${entry.name}`;
    if (entry.name === 'node_modules') found.push(inner);
    else found.push(...(await listModuleFolders(folder, inner)));
  }
  return found;
}
