import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeyRing, type Key } from '../../../../infra/secrets/key-ring.ts';
import { keyIdOf, seal, unseal } from '../../../../infra/secrets/seal.ts';

const key = (): Key => ({ id: 'aaaaaaaa', bytes: randomBytes(32) });
const place = { name: 'db', version: 1 };

describe('a sealed value', () => {
  it('opens with its key at its place, whatever it is, and is never the same twice', () => {
    const one = key();
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 2_000 }), (value) => {
        const sealed = seal(value, one, place);
        expect(unseal(sealed, one, place)).toBe(Buffer.from(value).toString());
        expect(seal(value, one, place)).not.toBe(sealed);
        expect(keyIdOf(sealed)).toBe('aaaaaaaa');
      }),
    );
  });

  it('F9: does not open under another name, version or key', () => {
    const one = key();
    const sealed = seal('value', one, place);
    expect(() => unseal(sealed, one, { ...place, name: 'other' })).toThrow(/moved/);
    expect(() => unseal(sealed, one, { ...place, version: 2 })).toThrow(/moved/);
    expect(() => unseal(sealed, key(), place)).toThrow(/damaged/);
  });

  it('F9: does not open when any character was changed or cut', () => {
    const one = key();
    const sealed = seal('a value of some length', one, place);
    fc.assert(
      fc.property(
        fc.nat({ max: sealed.length - 1 }),
        fc.constantFrom('A', 'b', '9', '.', ''),
        (at, replacement) => {
          const changed = sealed.slice(0, at) + replacement + sealed.slice(at + 1);
          // The key's id only says which key to take; two spellings of base64 may mean the same bytes.
          fc.pre(changed !== sealed && at > 11 && !isSameBytes(changed, sealed));
          expect(() => unseal(changed, one, place)).toThrow();
        },
      ),
    );
  });
});

function isSameBytes(a: string, b: string): boolean {
  const bytes = (text: string) =>
    text
      .split('.')
      .slice(2)
      .map((part) => Buffer.from(part, 'base64url').toString('hex'));
  return bytes(a).join() === bytes(b).join();
}

describe('a key file', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'skiff-keys-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('is made once, for its owner alone, also when two make it at once', async () => {
    const file = join(folder, 'secret.key');
    const ids = await Promise.all(
      [new KeyRing(file), new KeyRing(file)].map(async (ring) => (await ring.current()).id),
    );
    expect(ids[0]).toBe(ids[1]);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('keeps the old key until it is told to forget it; another process learns of the new one', async () => {
    const file = join(folder, 'secret.key');
    const writer = new KeyRing(file);
    const reader = new KeyRing(file);
    const old = await reader.current();
    const fresh = await writer.add();
    expect((await reader.find(fresh.id)).bytes).toEqual(fresh.bytes);
    expect((await writer.find(old.id)).bytes).toEqual(old.bytes);
    await writer.keepOnly(fresh.id);
    expect((await readFile(file, 'utf8')).trim().split('\n')).toHaveLength(1);
    await expect(new KeyRing(file).find(old.id)).rejects.toThrow(/does not have/);
  });

  it('is refused when others may read it, or when it is damaged', async () => {
    const file = join(folder, 'secret.key');
    await new KeyRing(file).current();
    await chmod(file, 0o644);
    await expect(new KeyRing(file).current()).rejects.toThrow(/chmod 600/);
    await chmod(file, 0o600);
    await writeFile(file, 'not a key\n');
    await expect(new KeyRing(file).current()).rejects.toThrow(/damaged/);
  });
});
