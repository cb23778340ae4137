import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { unpackArchive, type Unpacked, type UnpackOptions } from '../../../infra/oci/layer-unpack.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { paxEntry, rawEntry, rawTar, type RawEntry } from './raw-tar.ts';

let dir: string;
let target: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'skiff-unpack-'));
  target = join(dir, 'inside', 'target');
  await mkdir(join(dir, 'inside'));
  await writeFile(join(dir, 'canary'), 'untouched');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

function unpack(archive: Buffer, options: Partial<UnpackOptions> = {}): Promise<Unpacked> {
  return unpackArchive(Readable.from([archive]), target, {
    policy: 'source',
    compression: 'detect',
    ...options,
  });
}

/** Refused as the caller's fault, the folder gone, and the world outside as it was. */
async function expectRefused(archive: Buffer, options: Partial<UnpackOptions> = {}): Promise<void> {
  await expect(unpack(archive, options)).rejects.toMatchObject({
    name: 'SkiffError',
    code: 'INVALID_SOURCE',
  });
  await expectUntouched();
  expect(await readdir(join(dir, 'inside'))).toEqual([]);
}

async function expectUntouched(): Promise<void> {
  expect((await readdir(dir)).sort()).toEqual(['canary', 'inside']);
  expect(await readFile(join(dir, 'canary'), 'utf8')).toBe('untouched');
}

describe('honest archives', () => {
  test('unpacks what GNU tar packed, with long names and links', async () => {
    const from = join(dir, 'inside', 'from');
    const long = `${'d'.repeat(90)}/${'f'.repeat(120)}`;
    await mkdir(join(from, 'd'.repeat(90)), { recursive: true });
    await writeFile(join(from, long), 'long');
    await writeFile(join(from, 'run.sh'), '#!', { mode: 0o755 });
    execFileSync('ln', ['-s', 'run.sh', join(from, 'soft')]);
    execFileSync('ln', [join(from, 'run.sh'), join(from, 'hard')]);
    for (const format of ['gnu', 'pax', 'ustar']) {
      const skip = format === 'ustar' ? ['--exclude', 'd*'] : [];
      const archive = execFileSync('tar', ['-c', '-C', from, `--format=${format}`, ...skip, '.']);
      await unpack(archive);
      if (format !== 'ustar') expect(await readFile(join(target, long), 'utf8')).toBe('long');
      expect((await lstat(join(target, 'run.sh'))).mode & 0o7777).toBe(0o755);
      expect(await readlink(join(target, 'soft'))).toBe('run.sh');
      expect((await lstat(join(target, 'hard'))).ino).toBe((await lstat(join(target, 'run.sh'))).ino);
      await rm(target, { recursive: true });
    }
  });

  test('detects gzip, zstd and plain tar, in whatever pieces they come', async () => {
    const plain = rawTar({ name: 'a/b.txt', body: 'content' });
    for (const archive of [plain, gzipSync(plain), zstdCompressSync(plain)]) {
      const pieces = Array.from({ length: Math.ceil(archive.length / 7) }, (_, i) =>
        archive.subarray(i * 7, i * 7 + 7),
      );
      const source = Readable.from(pieces, { objectMode: true });
      const unpacked = await unpackArchive(source, target, { policy: 'source', compression: 'detect' });
      expect(await readFile(join(target, 'a/b.txt'), 'utf8')).toBe('content');
      expect(unpacked).toMatchObject({ bytes: 7, entries: 1, isContained: true });
      expect(unpacked.diffId).toBe(`sha256:${createHash('sha256').update(plain).digest('hex')}`);
      await rm(target, { recursive: true });
    }
  });

  test('strips set-id and sticky bits and makes layer files read-only', async () => {
    await unpack(rawTar({ name: 'su', mode: 0o6755, body: 'x' }, { name: 'data', mode: 0o7666 }), {
      policy: 'layer',
    });
    expect((await lstat(join(target, 'su'))).mode & 0o7777).toBe(0o555);
    expect((await lstat(join(target, 'data'))).mode & 0o7777).toBe(0o444);
  });

  test('keeps the time of files', async () => {
    await unpack(rawTar({ name: 'old', mtime: 86_400 }), { policy: 'layer' });
    expect((await lstat(join(target, 'old'))).mtimeMs).toBe(86_400_000);
  });

  test('allows a directory to be named twice and to come after its contents', async () => {
    await unpack(rawTar({ name: 'a/b', body: '1' }, { name: 'a/', flag: '5' }, { name: './a/', flag: '5' }));
    expect(await readFile(join(target, 'a/b'), 'utf8')).toBe('1');
  });

  test('reports whiteouts of a layer and creates none', async () => {
    const archive = rawTar(
      { name: 'etc/.wh.passwd' },
      { name: 'var/cache/.wh..wh..opq' },
      { name: '.wh.old' },
      { name: '.wh..wh.aufs' },
      { name: 'etc/kept', body: 'k' },
    );
    const unpacked = await unpack(archive, { policy: 'layer' });
    expect(unpacked.whiteouts).toEqual(['etc/passwd', 'old']);
    expect(unpacked.opaques).toEqual(['var/cache']);
    expect(await readdir(target)).toEqual(['etc']);
    expect(await readdir(join(target, 'etc'))).toEqual(['kept']);
  });

  test('takes links of a layer as they are and says when one leads out', async () => {
    const inside = await unpack(rawTar({ name: 'a', flag: '2', link: 'b/../c' }), { policy: 'layer' });
    expect(inside.isContained).toBe(true);
    await rm(target, { recursive: true });
    const outside = await unpack(rawTar({ name: 'a', flag: '2', link: '/etc/passwd' }), { policy: 'layer' });
    expect(outside.isContained).toBe(false);
    expect(await readlink(join(target, 'a'))).toBe('/etc/passwd');
  });

  test('passes on the error of a source that breaks and removes the folder', async () => {
    const broken = Readable.from(
      (async function* () {
        yield rawEntry({ name: 'a', body: 'x' });
        throw new SkiffError('UNAVAILABLE', 'the link broke');
      })(),
    );
    const unpacking = unpackArchive(broken, target, { policy: 'source', compression: 'none' });
    await expect(unpacking).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(await readdir(join(dir, 'inside'))).toEqual([]);
  });
});

const HOSTILE: Readonly<Record<string, readonly RawEntry[]>> = {
  'a path with ..': [{ name: '../canary', body: 'x' }],
  'a path with .. inside': [{ name: 'a/../../canary', body: 'x' }],
  'an absolute path': [{ name: '/tmp/skiff-absolute', body: 'x' }],
  'a path with .. in a ustar prefix': [{ name: 'canary', prefix: '..', body: 'x' }],
  'a path with .. in a pax header': [paxEntry({ path: '../canary' }), { name: 'innocent', body: 'x' }],
  'a path with .. in a GNU long name': [
    { name: '././@LongLink', flag: 'L', body: '../canary\0' },
    { name: 'innocent' },
  ],
  'an empty name': [{ name: '' }],
  'a name with a newline': [{ name: 'a\nb' }],
  'a name with an escape sequence': [{ name: 'a\u001b[2Jb' }],
  'a name with a right-to-left override': [{ name: 'a\u202egnp.exe' }],
  'a name with NUL in a pax header': [paxEntry({ path: 'a\0b' }), { name: 'x' }],
  'a name of 256 bytes': [paxEntry({ path: 'n'.repeat(256) }), { name: 'x' }],
  'a path of 4000 bytes': [paxEntry({ path: Array(40).fill('n'.repeat(99)).join('/') }), { name: 'x' }],
  'the root as a symbolic link': [{ name: './', flag: '2', link: '/etc' }],
  'the root as a file': [{ name: '.', body: 'x' }],
  'an absolute symbolic link': [{ name: 'a', flag: '2', link: '/etc/passwd' }],
  'a symbolic link that escapes': [{ name: 'a/b', flag: '2', link: '../../canary' }],
  'a symbolic link that escapes by another link': [
    { name: 'p/q/up', flag: '2', link: '../..' },
    { name: 'out', flag: '2', link: 'p/q/up/../canary' },
  ],
  'a symbolic link to itself': [{ name: 'a', flag: '2', link: 'a' }],
  'a symbolic link without target': [{ name: 'a', flag: '2' }],
  'a write through a symbolic link': [
    { name: 'a', flag: '2', link: '.' },
    { name: 'a/x', body: 'x' },
  ],
  'a symbolic link over a directory that has files': [
    { name: 'a/', flag: '5' },
    { name: 'a', flag: '2', link: '..' },
    { name: 'a/canary', body: 'x' },
  ],
  'a file over a symbolic link': [
    { name: 'a', flag: '2', link: 'b' },
    { name: 'a', body: 'x' },
  ],
  'a directory over a symbolic link': [
    { name: 'a', flag: '2', link: 'b' },
    { name: 'a/', flag: '5' },
  ],
  'a file twice': [
    { name: 'a', body: '1' },
    { name: './a', body: '2' },
  ],
  'a file below a file': [{ name: 'a', body: '1' }, { name: 'a/b' }],
  'a hard link out': [{ name: 'a', flag: '1', link: '../canary' }],
  'a hard link to an absolute path': [{ name: 'a', flag: '1', link: '/etc/passwd' }],
  'a hard link to a later file': [{ name: 'a', flag: '1', link: 'b' }, { name: 'b' }],
  'a hard link to a symbolic link': [
    { name: 'l', flag: '2', link: 'b' },
    { name: 'b' },
    { name: 'a', flag: '1', link: 'l' },
  ],
  'a hard link to a directory': [
    { name: 'd/', flag: '5' },
    { name: 'a', flag: '1', link: 'd' },
  ],
  'a hard link with content': [{ name: 'b' }, { name: 'a', flag: '1', link: 'b', body: 'x' }],
  'a character device': [{ name: 'null', flag: '3' }],
  'a block device': [{ name: 'sda', flag: '4' }],
  'a fifo': [{ name: 'pipe', flag: '6' }],
  'a GNU sparse file': [{ name: 'sparse', flag: 'S', body: 'x' }],
  'a pax sparse file': [
    paxEntry({ 'GNU.sparse.major': '1', 'GNU.sparse.realsize': '8000000000' }),
    { name: 'sparse' },
  ],
  'an unknown type': [{ name: 'x', flag: 'Z', body: 'x' }],
  'a path for all entries': [paxEntry({ path: 'x' }, 'g'), { name: 'y' }],
  'a negative size': [{ name: 'a', size: Buffer.alloc(12, 0xff) }],
  'a size of 8 EB': [{ name: 'a', size: Buffer.from('800000007fffffffffffffff', 'hex') }],
  'a pax size that is no number': [paxEntry({ size: '-1' }), { name: 'a' }],
  'a damaged checksum': [{ name: 'a', checksumError: 1 }],
  'a malformed pax record': [{ name: 'p', flag: 'x', body: '99 path=x\n' }, { name: 'a' }],
  'a pax record that runs into the next': [{ name: 'p', flag: 'x', body: '5 a=b\n7 c=d\n' }, { name: 'a' }],
  'nine extended headers': [...Array.from({ length: 9 }, () => paxEntry({ path: 'x' })), { name: 'a' }],
};

describe('hostile sources are refused and leave nothing', () => {
  for (const [what, entries] of Object.entries(HOSTILE)) {
    test(what, () => expectRefused(rawTar({ name: 'before', body: 'b' }, ...entries)));
  }

  test('names that are not UTF-8', async () => {
    const archive = rawTar({ name: 'a?b' });
    archive[1] = 0xff;
    archive.write('       ', 148, 'latin1');
    await expectRefused(archive);
  });

  test('an archive cut off anywhere', async () => {
    const archive = rawTar({ name: 'a', body: 'x'.repeat(700) }, { name: 'b', body: 'y' });
    for (let length = 0; length < archive.length; length += 256)
      await expectRefused(archive.subarray(0, length));
  });

  test('a second archive behind the end mark', () =>
    expectRefused(Buffer.concat([rawTar({ name: 'a' }), rawTar({ name: 'b' })])));

  test('damaged gzip and zstd', async () => {
    const tar = rawTar({ name: 'a', body: randomBytes(5_000) });
    for (const archive of [gzipSync(tar), zstdCompressSync(tar)]) {
      await expectRefused(archive.subarray(0, archive.length - 20));
      const flipped = Buffer.from(archive);
      flipped[2_000] = (flipped[2_000] as number) ^ 0xff;
      if (archive[0] === 0x1f) await expectRefused(flipped);
    }
  });
});

describe('hostile layers are refused and leave nothing', () => {
  const corpus: Readonly<Record<string, readonly RawEntry[]>> = {
    'a whiteout of ..': [{ name: 'a/.wh...' }],
    'a whiteout of .': [{ name: 'a/.wh..' }],
    'a whiteout of nothing': [{ name: 'a/.wh.' }],
    'a whiteout with content': [{ name: '.wh.a', body: 'x' }],
    'a whiteout that is a link': [{ name: '.wh.a', flag: '2', link: '/etc' }],
    'an entry below a whiteout': [{ name: '.wh.a/b' }],
    'an overlay whiteout device': [{ name: 'a', flag: '3' }],
    'a write through an absolute link': [
      { name: 'a', flag: '2', link: '/tmp' },
      { name: 'a/skiff-through-link', body: 'x' },
    ],
    'a folder made on the way through an absolute link': [
      { name: 'a', flag: '2', link: '/tmp' },
      { name: 'a/b/c', body: 'x' },
    ],
  };
  for (const [what, entries] of Object.entries(corpus)) {
    test(what, () => expectRefused(rawTar(...entries), { policy: 'layer' }));
  }

  test('bytes that are not compressed as their media type says', () =>
    expectRefused(rawTar({ name: 'a' }), { policy: 'layer', compression: 'gzip' }));
});

describe('bombs stop at their limit', () => {
  test('by size', () => expectRefused(rawTar({ name: 'a', body: 'x'.repeat(2_000) }), { bytesMax: 1_999 }));
  test('by number of entries', () =>
    expectRefused(rawTar(...Array.from({ length: 11 }, (_, i) => ({ name: `${i}/`, flag: '5' }))), {
      entriesMax: 10,
    }));
  test('by ratio', () => expectRefused(gzipSync(rawTar({ name: 'zeros', body: Buffer.alloc(40_000_000) }))));
  test('by extended headers that never become an entry', () =>
    expectRefused(
      gzipSync(
        Buffer.concat(Array.from({ length: 9 }, () => rawEntry(paxEntry({ comment: 'c'.repeat(900_000) })))),
      ),
    ));
  test('by concatenated gzip members', async () => {
    const half = Buffer.alloc(20_000_000);
    const head = rawEntry({ name: 'zeros', size: 40_000_000 });
    await expectRefused(Buffer.concat([gzipSync(head), gzipSync(half), gzipSync(half), gzipSync(rawTar())]));
  });
});

describe('bombs cost no more memory than honest archives', () => {
  const bombs: Readonly<Record<string, string>> = {
    'a gigabyte of zeros': `gzipSync(Buffer.concat([rawHeader({ name: 'z', size: 2 ** 30 }), Buffer.alloc(2 ** 28)]))`,
    'a zstd frame with a window of 1 GB': `Buffer.concat([Buffer.from('28b52ffd00a0', 'hex'), Buffer.alloc(4096)])`,
    'twenty thousand folders more than allowed': `gzipSync(Buffer.concat(Array.from({ length: 30_000 }, (_, i) => rawHeader({ name: 'folder' + i, flag: '5' }))))`,
  };
  for (const [what, expression] of Object.entries(bombs)) {
    test(what, async () => {
      const here = new URL('.', import.meta.url).pathname;
      const bomb = join(dir, 'bomb');
      const make = `import { rawHeader } from '${here}raw-tar.ts';
        import { gzipSync } from 'node:zlib';
        import { writeFileSync } from 'node:fs';
        writeFileSync('${bomb}', ${expression});`;
      const defuse = `import { unpackArchive } from '${here}../../../infra/oci/layer-unpack.ts';
        import { createReadStream } from 'node:fs';
        const before = process.memoryUsage().rss;
        const failure = await unpackArchive(createReadStream('${bomb}'), '${target}', { policy: 'source', compression: 'detect', entriesMax: 10_000 })
          .then(() => undefined, (error) => error);
        console.log(JSON.stringify({ code: failure?.code, grownKb: process.resourceUsage().maxRSS - before / 1024 }));`;
      const run = (script: string): string =>
        execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script]).toString();
      run(make);
      const result = JSON.parse(run(defuse)) as { code: string; grownKb: number };
      expect(result.code).toBe('INVALID_SOURCE');
      expect(result.grownKb).toBeLessThan(64 * 1024);
      expect(await readdir(join(dir, 'inside'))).toEqual([]);
    });
  }
});

describe('for any archive', () => {
  const part = fc.constantFrom('a', 'b', 'c', '..', '.', '', '.wh.a', 'ü', 'a\u0007', 'n'.repeat(130));
  const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
  const entry = fc.oneof(
    fc.record({ name: path, body: fc.string({ maxLength: 600 }) }),
    fc.record({ name: path, flag: fc.constant('5') }),
    fc.record({ name: path, flag: fc.constantFrom('1', '2'), link: fc.oneof(path, fc.constant('/etc')) }),
    path.map((value) => paxEntry({ path: value })),
    fc.record({ name: path, flag: fc.constantFrom('3', 'S', 'Z', 'x', 'L') }),
  );

  test('nothing outside the folder changes, and a refused one leaves nothing', async () => {
    const policies = fc.constantFrom('source' as const, 'layer' as const);
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 8 }), policies, async (entries, policy) => {
        const error = await unpack(rawTar(...entries), { policy }).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        await expectUntouched();
        const left = await readdir(join(dir, 'inside'));
        if (error === undefined) {
          expect(left).toEqual(['target']);
          await expectPlain(target);
          await rm(target, { recursive: true });
        } else {
          expect(error).toMatchObject({ code: 'INVALID_SOURCE' });
          expect(left).toEqual([]);
        }
      }),
      { numRuns: 400 },
    );
  });

  test('random damage is refused or harmless', async () => {
    const whole = rawTar(
      { name: 'a/b', body: 'x'.repeat(600) },
      { name: 'l', flag: '2', link: 'a/b' },
      paxEntry({ path: 'long' }),
      { name: 'c', body: 'y' },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (offset, byte) => {
        const damaged = Buffer.from(whole);
        damaged[offset] = byte;
        const error = await unpack(damaged).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) expect(error).toMatchObject({ code: 'INVALID_SOURCE' });
        await expectUntouched();
        await rm(target, { recursive: true, force: true });
      }),
      { numRuns: 300 },
    );
  });
});

/** Only folders, files without special bits, and links. */
async function expectPlain(folder: string): Promise<void> {
  for (const item of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, item.name);
    expect(item.isDirectory() || item.isFile() || item.isSymbolicLink()).toBe(true);
    if (!item.isSymbolicLink()) expect((await lstat(path)).mode & 0o7000).toBe(0);
    if (item.isDirectory()) await expectPlain(path);
  }
}
