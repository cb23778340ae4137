/**
 * Remembers what came out of which input, so that an unchanged source is not read or built again.
 * A file for each input below one folder; the least recently used go first. Losing it costs a build, nothing else.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { Deployment } from '../../sdk/protocol/api.ts';

export const BuiltImage = Deployment.pick({ image: true, entry: true, container: true });
export type BuiltImage = z.output<typeof BuiltImage>;

/** What an entry module says about its own configuration, `none` when it says nothing, and what it is. */
export const RememberedConfig = z.object({
  language: z.enum(['javascript', 'python', 'containerfile']),
  config: z.union([z.literal('none'), z.record(z.string(), z.unknown())]),
});
export type RememberedConfig = z.output<typeof RememberedConfig>;

/** Each entry is about 1 KB. */
const ENTRIES_MAX = 2_000;

export class InputIndex<Result> {
  readonly #folder: string;
  readonly #schema: z.ZodType<Result>;
  #writes = 0;

  constructor(folder: string, schema: z.ZodType<Result>) {
    this.#folder = folder;
    this.#schema = schema;
  }

  /** `input` is everything that decides the result. */
  static key(input: unknown): string {
    return createHash('sha256').update(JSON.stringify(input)).digest('hex');
  }

  async tryGet(key: string): Promise<Result | undefined> {
    const file = join(this.#folder, key);
    try {
      const result = this.#schema.parse(JSON.parse(await readFile(file, 'utf8')));
      await utimes(file, new Date(), new Date());
      return result;
    } catch {
      // Absent, torn by a crash or of an older version: it is built again.
      return undefined;
    }
  }

  async put(key: string, result: Result): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const file = join(this.#folder, key);
    // A name of its own: two builds of one input may end at the same time.
    const draft = `${file}.${randomUUID()}`;
    await writeFile(draft, JSON.stringify(this.#schema.parse(result)));
    await rename(draft, file);
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
