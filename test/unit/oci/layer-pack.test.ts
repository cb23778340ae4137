import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readTar } from '../../../infra/oci/archive/tar-reader.ts';
import { listEntries, packLayer, packLayerFile, type LayerEntry } from '../../../infra/oci/layer-pack.ts';
import { unpackArchive } from '../../../infra/oci/layer-unpack.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'skiff-pack-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

async function list(data: Buffer): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of readTar(Readable.from([gunzipSync(data)]))) names.push(entry.path);
  return names;
}

describe('packLayer', () => {
  test('gives one digest whatever the order of the entries', async () => {
    const entries: LayerEntry[] = [
      { path: 'var/task/index.cjs', data: 'x' },
      { path: 'var/task-b', data: 'y' },
      { path: 'var', directory: true },
      { path: 'a', target: 'var' },
    ];
    const one = await packLayer(entries);
    const other = await packLayer(entries.toReversed());
    expect(other.digest).toBe(one.digest);
    expect(await list(one.data)).toEqual(['a', 'var/', 'var/task/', 'var/task-b', 'var/task/index.cjs']);
  });

  test('gives one digest whatever times, modes and owners the files have', async () => {
    const digests: string[] = [];
    for (const [mode, seconds] of [
      [0o600, 1],
      [0o664, 1_000_000],
    ] as const) {
      const folder = join(dir, String(seconds));
      await mkdir(join(folder, 'sub'), { recursive: true });
      await writeFile(join(folder, 'sub', 'file'), 'same');
      await chmod(join(folder, 'sub', 'file'), mode);
      await utimes(join(folder, 'sub', 'file'), seconds, seconds);
      await symlink('sub/file', join(folder, 'link'));
      digests.push((await packLayer(await listEntries(folder, 'var/task'))).digest);
    }
    expect(digests[0]).toBe(digests[1]);
  });

  test('states digest, diff id and size of what it packed', async () => {
    const layer = await packLayer([{ path: 'a', data: 'content' }]);
    expect(layer.digest).toBe(sha256(layer.data));
    expect(layer.diffId).toBe(sha256(gunzipSync(layer.data)));
    expect(layer.bytes).toBe(layer.data.length);
    expect(layer.mediaType).toBe('application/vnd.oci.image.layer.v1.tar+gzip');
  });

  test('is read by GNU tar with owner root, no time and modes 0444 and 0555', async () => {
    const layer = await packLayer([
      { path: 'run', data: '#!', isExecutable: true },
      { path: 'sub/data', data: '' },
      { path: 'tmp', directory: true, mode: 0o1777 },
    ]);
    const listing = execFileSync('tar', ['-tvz', '--numeric-owner', '--utc'], {
      input: layer.data,
    }).toString();
    const lines = listing
      .trim()
      .split('\n')
      .map((line) => line.replaceAll(/\s+/g, ' '));
    expect(lines).toEqual([
      '-r-xr-xr-x 0/0 2 1970-01-01 00:00 run',
      'dr-xr-xr-x 0/0 0 1970-01-01 00:00 sub/',
      '-r--r--r-- 0/0 0 1970-01-01 00:00 sub/data',
      'drwxrwxrwt 0/0 0 1970-01-01 00:00 tmp/',
    ]);
  });

  test('packs to a file what it packs to memory', async () => {
    await writeFile(join(dir, 'big'), Buffer.alloc(3_000_000, 'abc'));
    const entries: LayerEntry[] = [{ path: 'big', file: join(dir, 'big') }];
    const { data, ...layer } = await packLayer(entries, { level: 1 });
    const onDisk = await packLayerFile(entries, join(dir, 'layer'), { level: 1 });
    expect(onDisk).toEqual(layer);
    expect(await readFile(join(dir, 'layer'))).toEqual(data);
  });

  for (const [what, entries] of Object.entries({
    'a name that readers take for a removal': [{ path: 'a/.wh.b', data: '' }],
    'an absolute path': [{ path: '/a', data: '' }],
    'a path that leaves': [{ path: 'a/../../b', data: '' }],
    'one path twice': [
      { path: 'a', data: '1' },
      { path: './a', data: '2' },
    ],
    'a path below a file': [
      { path: 'a', data: '1' },
      { path: 'a/b', data: '2' },
    ],
    'a name with control characters': [{ path: 'a\nb', data: '' }],
  } satisfies Record<string, LayerEntry[]>)) {
    test(`refuses ${what}`, async () => {
      await expect(packLayer(entries)).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
    });
  }

  test('fails when a file is gone', async () => {
    await expect(packLayer([{ path: 'a', file: join(dir, 'absent') }])).rejects.toMatchObject({
      code: 'ENOENT',
    });
  });

  test('refuses a folder with a fifo', async () => {
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    await expect(listEntries(dir)).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
  });
});

test('what is packed unpacks to the same files', async () => {
  const name = fc.stringMatching(/^[a-zA-ZäöüÄ0-9_ -]{1,120}$/).filter((text) => text.trim() !== '');
  const files = fc.dictionary(
    fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/')),
    fc.uint8Array({ maxLength: 2_000 }),
    { maxKeys: 8 },
  );
  await fc.assert(
    fc.asyncProperty(files, async (contents) => {
      const paths = Object.keys(contents);
      fc.pre(!paths.some((path) => paths.some((other) => other.startsWith(`${path}/`))));
      const layer = await packLayer(
        paths.map((path) => ({ path, data: Buffer.from(contents[path] as Uint8Array) })),
      );
      const target = join(dir, 'target');
      const unpacked = await unpackArchive(Readable.from([layer.data]), target, {
        policy: 'layer',
        compression: 'gzip',
      });
      expect(unpacked.diffId).toBe(layer.diffId);
      for (const path of paths)
        expect(await readFile(join(target, path))).toEqual(Buffer.from(contents[path] as Uint8Array));
      await rm(target, { recursive: true });
    }),
    { numRuns: 60 },
  );
});
