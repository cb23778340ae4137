/**
 * Tarballs of npm packages on disk, by their path in the registry. Bounded; the least recently used go first.
 * Invariant: a file appears under its name only when it is whole.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

export class TarballCache {
  readonly #folder: string;
  readonly #bytesMax: number;
  #bytes: number | undefined;

  constructor(folder: string, bytesMax: number) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
  }

  async tryOpen(path: string): Promise<{ bytes: number; stream: Readable } | undefined> {
    const file = this.#file(path);
    try {
      const { size } = await stat(file);
      await utimes(file, new Date(), new Date());
      return { bytes: size, stream: createReadStream(file) };
    } catch {
      return undefined;
    }
  }

  /**
   * Passes `source` on to `consume` and keeps what went by, if it was `length` bytes long (when that is known).
   * When either side fails nothing is kept.
   */
  async keep(
    path: string,
    length: number | undefined,
    source: AsyncIterable<Buffer>,
    consume: (chunks: AsyncIterable<Buffer>) => Promise<void>,
  ): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const draft = join(this.#folder, `new-${randomBytes(8).toString('hex')}`);
    const handle = await open(draft, 'wx', 0o600);
    let bytes = 0;
    async function* copy(): AsyncGenerator<Buffer> {
      for await (const chunk of source) {
        await handle.write(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    }
    try {
      await consume(copy());
      await handle.close();
      if (length !== undefined && bytes !== length) throw new Error(`${bytes} bytes instead of ${length}`);
      await rename(draft, this.#file(path));
    } catch (error) {
      await handle.close().catch(() => {});
      await rm(draft, { force: true });
      throw error;
    }
    await this.#grow(bytes);
  }

  async remove(path: string): Promise<void> {
    await rm(this.#file(path), { force: true });
    this.#bytes = undefined;
  }

  /** Sizes are read again only when the running sum says that the budget is used up. */
  async #grow(bytes: number): Promise<void> {
    if (this.#bytes !== undefined) this.#bytes += bytes;
    if (this.#bytes !== undefined && this.#bytes <= this.#bytesMax) return;
    const files = await this.#list();
    this.#bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    for (const file of files.sort((a, b) => a.usedMs - b.usedMs)) {
      if (this.#bytes <= this.#bytesMax) break;
      await rm(join(this.#folder, file.name), { force: true });
      this.#bytes -= file.bytes;
    }
  }

  async #list(): Promise<{ name: string; bytes: number; usedMs: number }[]> {
    const names = await readdir(this.#folder);
    const files = await Promise.all(
      names.map(async (name) => {
        const info = await stat(join(this.#folder, name)).catch(() => undefined);
        return info ? [{ name, bytes: info.size, usedMs: info.mtimeMs }] : [];
      }),
    );
    return files.flat();
  }

  #file(path: string): string {
    return join(this.#folder, createHash('sha256').update(path).digest('hex'));
  }
}
