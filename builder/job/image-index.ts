/**
 * Remembers which image came out of which input, so that an unchanged source is not built again.
 * A file for each input below one folder; the least recently used go first. Losing it costs a build, nothing else.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { Deployment } from '../../sdk/protocol/api.ts';

const BuiltImage = Deployment.pick({ image: true, entry: true });
export type BuiltImage = z.output<typeof BuiltImage>;

/** Each entry is about 1 KB. */
const ENTRIES_MAX = 2_000;

export class ImageIndex {
  readonly #folder: string;
  #writes = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** `input` is everything that decides the image's bytes. */
  static key(input: unknown): string {
    return createHash('sha256').update(JSON.stringify(input)).digest('hex');
  }

  async tryGet(key: string): Promise<BuiltImage | undefined> {
    const file = join(this.#folder, key);
    try {
      const image = BuiltImage.parse(JSON.parse(await readFile(file, 'utf8')));
      await utimes(file, new Date(), new Date());
      return image;
    } catch {
      // Absent, torn by a crash or of an older version: it is built again.
      return undefined;
    }
  }

  async put(key: string, image: BuiltImage): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const file = join(this.#folder, key);
    await writeFile(`${file}.new`, JSON.stringify(BuiltImage.parse(image)));
    await rename(`${file}.new`, file);
    if (this.#writes++ % 100 === 0) await this.#prune();
  }

  async remove(key: string): Promise<void> {
    await rm(join(this.#folder, key), { force: true });
  }

  async #prune(): Promise<void> {
    const names = await readdir(this.#folder);
    if (names.length <= ENTRIES_MAX) return;
    const files = await Promise.all(
      names.map(async (name) => ({
        name,
        usedMs: (await stat(join(this.#folder, name)).catch(() => undefined))?.mtimeMs ?? 0,
      })),
    );
    files.sort((a, b) => b.usedMs - a.usedMs);
    await Promise.all(files.slice(ENTRIES_MAX).map(({ name }) => this.remove(name)));
  }
}
