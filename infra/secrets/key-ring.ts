/**
 * The keys that secrets are encrypted with: a file of the data folder (0600), one `id key` a line, the newest first.
 * Invariant: the file is replaced whole or not at all, and a key that something may still be encrypted with stays in it.
 * A backup of the store without this file is worth nothing, so back it up too, and elsewhere.
 */
import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';

export interface Key {
  readonly id: string;
  /** 32 bytes. */
  readonly bytes: Buffer;
}

const KEY_BYTES = 32;
const LINE = /^([a-z0-9]{8}) ([A-Za-z0-9+/]{43}=)$/;

export class KeyRing {
  readonly #file: string;
  #keys: readonly Key[] = [];

  constructor(file: string) {
    this.#file = file;
  }

  /** Encrypts from now on. Makes the file when there is none. @throws SkiffError INVALID_CONFIG for an unusable one. */
  async current(): Promise<Key> {
    if (this.#keys.length === 0) await this.#load();
    return this.#keys[0] as Key;
  }

  /** Looks into the file again for an id that is new. @throws SkiffError UNAVAILABLE when it is not there. */
  async find(id: string): Promise<Key> {
    const known = this.#keys.find((key) => key.id === id);
    if (known) return known;
    await this.#load();
    const found = this.#keys.find((key) => key.id === id);
    if (found) return found;
    throw new SkiffError(
      'UNAVAILABLE',
      `a secret is encrypted with key ${id}, which ${this.#file} does not have; bring the file of the server that set it`,
    );
  }

  /** Puts a new key in front; the others stay until `keepOnly`. */
  async add(): Promise<Key> {
    await this.#load();
    const key = createKey();
    await this.#replace([key, ...this.#keys]);
    return key;
  }

  async keepOnly(id: string): Promise<void> {
    await this.#load();
    await this.#replace(this.#keys.filter((key) => key.id === id));
  }

  async #load(): Promise<void> {
    await this.#ensure();
    const { mode } = await stat(this.#file);
    if ((mode & 0o077) !== 0) {
      throw new SkiffError('INVALID_CONFIG', `${this.#file} may be read by others; chmod 600 it`);
    }
    const lines = (await readFile(this.#file, 'utf8')).split('\n').filter((line) => line !== '');
    this.#keys = lines.map((line) => {
      const [, id, key] = LINE.exec(line) ?? [];
      if (id === undefined || key === undefined) {
        throw new SkiffError('INVALID_CONFIG', `${this.#file} is damaged: a line is not "id key"`);
      }
      return { id, bytes: Buffer.from(key, 'base64') };
    });
    if (this.#keys.length === 0) throw new SkiffError('INVALID_CONFIG', `${this.#file} is empty`);
  }

  /** Of two processes that start together one makes it: `link` fails when the name exists. */
  async #ensure(): Promise<void> {
    if (await stat(this.#file).catch(() => undefined)) return;
    await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 });
    const draft = this.#draftName();
    await writeFile(draft, format([createKey()]), { mode: 0o600 });
    await link(draft, this.#file).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await rm(draft, { force: true });
  }

  /** Nobody else's, also where processes of several containers have the same number: a name that was linked is the file. */
  #draftName(): string {
    return `${this.#file}.${randomBytes(4).toString('hex')}`;
  }

  async #replace(keys: readonly Key[]): Promise<void> {
    const draft = this.#draftName();
    await writeFile(draft, format(keys), { mode: 0o600, flush: true });
    await rename(draft, this.#file);
    this.#keys = keys;
  }
}

function createKey(): Key {
  return { id: randomBytes(4).toString('hex'), bytes: randomBytes(KEY_BYTES) };
}

function format(keys: readonly Key[]): string {
  return keys.map(({ id, bytes }) => `${id} ${bytes.toString('base64')}\n`).join('');
}
