import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  access,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { digestOf } from '../../../infra/oci/digest.ts';
import { packLayer, type LayerEntry } from '../../../infra/oci/layer-pack.ts';
import { MEDIA } from '../../../infra/oci/manifest.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import { openStore, type LayerDescriptor, type LayerStore } from '../../../infra/oci/store.ts';
import { blobFile, flipBit, startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';
import { rawTar, type RawEntry } from '../../unit/oci/raw-tar.ts';

let server: TestRegistry;
let registry: Registry;
let dir: string;
const opened: LayerStore[] = [];

beforeAll(async () => {
  server = await startTestRegistry();
  registry = openRegistry({ url: server.url });
});
afterAll(async () => {
  await registry?.close();
  await server?.stop();
});
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'skiff-store-'));
});
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(opened.splice(0).map((store) => store.close()));
  await rm(dir, { recursive: true, force: true });
});

async function open(bytesMax = 1e9): Promise<LayerStore> {
  const store = await openStore({ dir: join(dir, 'store'), registry, bytesMax });
  opened.push(store);
  return store;
}

async function pushLayer(
  entries: readonly LayerEntry[],
  repository = 'functions/a',
): Promise<LayerDescriptor> {
  const { data, ...layer } = await packLayer(entries);
  await registry.pushBlob(repository, data);
  return layer;
}

async function pushRaw(
  entries: readonly RawEntry[],
  mediaType: string = MEDIA.ociLayerGzip,
): Promise<LayerDescriptor> {
  const tar = rawTar(...entries);
  const data = mediaType.endsWith('zstd')
    ? zstdCompressSync(tar)
    : mediaType.endsWith('gzip')
      ? gzipSync(tar)
      : tar;
  const { digest, bytes } = await registry.pushBlob('images/a', data);
  return { digest, bytes, diffId: digestOf(tar), mediaType };
}

async function pushImage(
  layers: readonly LayerDescriptor[],
  repository = 'images/a',
  isDocker = false,
): Promise<string> {
  const config = Buffer.from(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: layers.map((one) => one.diffId) },
    }),
  );
  const pushed = await registry.pushBlob(repository, config);
  const mediaType = isDocker ? MEDIA.dockerManifest : MEDIA.ociManifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: {
      mediaType: isDocker ? MEDIA.dockerConfig : MEDIA.ociConfig,
      digest: pushed.digest,
      size: pushed.bytes,
    },
    layers: layers.map((one) => ({ mediaType: one.mediaType, digest: one.digest, size: one.bytes })),
  };
  const digest = await registry.putManifest(repository, Buffer.from(JSON.stringify(manifest)), mediaType);
  return `${repository}@${digest}`;
}

const temporaries = (): Promise<string[]> => readdir(join(dir, 'store', 'tmp'));

describe('ensureLayer', () => {
  test('unpacks once, also when many ask at the same time', async () => {
    const store = await open();
    const layer = await pushLayer([{ path: 'var/task/index.cjs', data: 'module.exports = 1' }]);
    const folders = await Promise.all(
      Array.from({ length: 20 }, () => store.ensureLayer('functions/a', layer)),
    );
    expect(new Set(folders).size).toBe(1);
    expect(await readFile(join(folders[0] as string, 'var/task/index.cjs'), 'utf8')).toBe(
      'module.exports = 1',
    );
    expect(store.usage().count).toBe(1);
    expect(await temporaries()).toEqual([]);
  });

  test('needs no registry for what it has, also after a restart', async () => {
    const own = await startTestRegistry();
    const client = openRegistry({ url: own.url });
    const { data, ...layer } = await packLayer([{ path: 'a', data: 'kept' }]);
    await client.pushBlob('functions/a', data);
    const options = { dir: join(dir, 'store'), registry: client, bytesMax: 1e9 };
    await (await openStore(options)).ensureLayer('functions/a', layer);
    await own.stop();
    const folder = await (await openStore(options)).ensureLayer('functions/a', layer);
    expect(await readFile(join(folder, 'a'), 'utf8')).toBe('kept');
    const other = { ...layer, digest: digestOf('other') };
    await expect((await openStore(options)).ensureLayer('functions/a', other)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    await client.close();
  });

  test('refuses a layer whose diff id is not its own and keeps nothing of it', async () => {
    const store = await open();
    const layer = await pushLayer([{ path: 'a', data: 'diff' }]);
    const lie = { ...layer, diffId: digestOf('lie') };
    await expect(store.ensureLayer('functions/a', lie)).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
    expect(await temporaries()).toEqual([]);
    expect(store.usage().count).toBe(0);
    await store.ensureLayer('functions/a', layer);
  });

  test('refuses a blob that is damaged in the registry, and takes it once it is whole', async () => {
    const store = await open();
    const layer = await pushLayer([{ path: 'a', data: 'x'.repeat(5_000) }], 'functions/damaged');
    const file = blobFile(server.dataDir, layer.digest);
    const offset = Math.floor(layer.bytes / 2);
    await flipBit(file, offset);
    const failing = store.ensureLayer('functions/damaged', layer);
    await expect(failing).rejects.toMatchObject({ name: 'SkiffError' });
    expect(await temporaries()).toEqual([]);
    await flipBit(file, offset);
    await store.ensureLayer('functions/damaged', layer);
    await truncate(file, layer.bytes - 1);
    await rm(join(dir, 'store'), { recursive: true });
    await expect((await open()).ensureLayer('functions/damaged', layer)).rejects.toMatchObject({
      name: 'SkiffError',
    });
  });

  test('refuses a function layer with a link that leads out, since the host reads it', async () => {
    const store = await open();
    const layer = await pushLayer([{ path: 'var', target: '/etc' }]);
    await expect(store.ensureLayer('functions/a', layer)).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
  });
});

describe('ensureRootfs', () => {
  test('merges layers in order: files replaced, removed and hidden', async () => {
    const below = await pushRaw([
      { name: 'etc/keep', body: 'keep' },
      { name: 'etc/change', body: 'old' },
      { name: 'etc/remove', body: 'x' },
      { name: 'cache/old/deep', body: 'x' },
      { name: 'was-folder/x', body: 'x' },
      { name: 'was-file', body: 'x' },
      { name: 'was-link', flag: '2', link: '/etc' },
    ]);
    const above = await pushRaw(
      [
        { name: 'etc/.wh.remove' },
        { name: 'etc/change', body: 'new' },
        { name: 'cache/.wh..wh..opq' },
        { name: 'cache/fresh', body: 'fresh' },
        { name: 'was-folder', body: 'file now' },
        { name: 'was-file/x', body: 'folder now' },
        { name: 'was-link/passwd', body: 'not in /etc' },
        { name: 'sh', flag: '2', link: '/bin/busybox' },
      ],
      MEDIA.ociLayerZstd,
    );
    const store = await open();
    const { rootfs, lowerDirs } = await store.ensureRootfs(await pushImage([below, above]));
    expect(lowerDirs).toEqual([rootfs]);
    const read = (path: string): Promise<string> => readFile(join(rootfs, path), 'utf8');
    expect(await read('etc/keep')).toBe('keep');
    expect(await read('etc/change')).toBe('new');
    expect((await readdir(join(rootfs, 'etc'))).sort()).toEqual(['change', 'keep']);
    expect(await readdir(join(rootfs, 'cache'))).toEqual(['fresh']);
    expect(await read('was-folder')).toBe('file now');
    expect(await read('was-file/x')).toBe('folder now');
    expect(await read('was-link/passwd')).toBe('not in /etc');
    expect(await readlink(join(rootfs, 'sh'))).toBe('/bin/busybox');
    for (const point of ['proc', 'dev', 'sys', 'tmp', 'run/skiff', 'var/task']) {
      expect((await lstat(join(rootfs, point))).isDirectory()).toBe(true);
    }
  });

  test('takes Docker media types, and shares the bytes of layers between images', async () => {
    const layer = await pushRaw([{ name: 'big', body: 'x'.repeat(1_000_000) }], MEDIA.dockerLayerGzip);
    const other = await pushRaw([{ name: 'small', body: 's' }], MEDIA.dockerLayerGzip);
    const store = await open();
    const one = await store.ensureRootfs(await pushImage([layer], 'images/a', true));
    const two = await store.ensureRootfs(await pushImage([layer, other], 'images/a', true));
    expect((await stat(join(one.rootfs, 'big'))).ino).toBe((await stat(join(two.rootfs, 'big'))).ino);
    expect(store.usage().bytes).toBeLessThan(1_100_000);
  });

  test('takes the image of this architecture from an index', async () => {
    const layer = await pushRaw([{ name: 'arch', body: 'mine' }]);
    const reference = await pushImage([layer]);
    const digest = reference.split('@')[1] as string;
    const { bytes } = await registry.getManifest('images/a', digest);
    const platform = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch };
    const entry = { mediaType: MEDIA.ociManifest, digest, size: bytes.length, platform };
    const index = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [entry] }),
    );
    const indexDigest = await registry.putManifest('images/a', index, MEDIA.ociIndex);
    const { rootfs } = await (await open()).ensureRootfs(`images/a@${indexDigest}`);
    expect(await readFile(join(rootfs, 'arch'), 'utf8')).toBe('mine');
  });

  test('mount points are real folders whatever the image has there', async () => {
    const layer = await pushRaw([
      { name: 'dev', flag: '2', link: '/tmp' },
      { name: 'tmp', body: 'file' },
      { name: 'var/task', flag: '2', link: '../../../../etc' },
    ]);
    const { rootfs } = await (await open()).ensureRootfs(await pushImage([layer]));
    for (const point of ['dev', 'tmp', 'var/task'])
      expect((await lstat(join(rootfs, point))).isDirectory()).toBe(true);
    const linked = await pushRaw([{ name: 'run', flag: '2', link: '/tmp' }]);
    await expect((await open()).ensureRootfs(await pushImage([linked]))).rejects.toMatchObject({
      code: 'INVALID_SOURCE',
    });
    await expect(access('/tmp/skiff')).rejects.toThrow(/ENOENT/);
  });

  test('a whiteout below a link removes nothing outside', async () => {
    await mkdir(join(dir, 'outside'));
    await writeFile(join(dir, 'outside', 'canary'), 'alive');
    const below = await pushRaw([{ name: 'l', flag: '2', link: join(dir, 'outside') }]);
    const above = await pushRaw([{ name: 'l/.wh.canary' }, { name: 'l/.wh..wh..opq' }]);
    await (await open()).ensureRootfs(await pushImage([below, above]));
    expect(await readFile(join(dir, 'outside', 'canary'), 'utf8')).toBe('alive');
  });

  test('an absent image is NOT_FOUND and a tag is refused', async () => {
    const store = await open();
    await expect(store.ensureRootfs(`images/a@${digestOf('absent')}`)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(store.ensureRootfs('images/a:latest')).rejects.toMatchObject({ code: 'INVALID_NAME' });
    expect(await temporaries()).toEqual([]);
  });
});

describe('the budget', () => {
  const LATER_MS = 120_000;
  const layerOf = (i: number): Promise<LayerDescriptor> =>
    pushLayer([{ path: `f${i}`, data: Buffer.alloc(100_000, i) }]);

  async function isThere(layer: LayerDescriptor): Promise<boolean> {
    return access(join(dir, 'store', 'layers', layer.digest.slice(7))).then(
      () => true,
      () => false,
    );
  }

  test('removes the least recently used first and never what is pinned', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const store = await open();
    const layers = await Promise.all([0, 1, 2, 3].map(layerOf));
    for (const layer of layers) {
      await store.ensureLayer('functions/a', layer);
      vi.setSystemTime(Date.now() + 1_000);
    }
    const [pinned, old, used, newest] = layers as [
      LayerDescriptor,
      LayerDescriptor,
      LayerDescriptor,
      LayerDescriptor,
    ];
    store.pin('functions/a', pinned.digest);
    vi.setSystemTime(Date.now() + LATER_MS);
    await store.ensureLayer('functions/a', used);
    vi.setSystemTime(Date.now() + LATER_MS);
    expect(await store.prune(320_000)).toBeGreaterThan(99_000);
    expect(await Promise.all([pinned, old, used, newest].map(isThere))).toEqual([true, false, true, true]);
    await store.prune(0);
    expect(await Promise.all([pinned, old, used, newest].map(isThere))).toEqual([true, false, false, false]);
    store.unpin('functions/a', pinned.digest);
    await store.prune(0);
    expect(store.usage()).toMatchObject({ bytes: 0, count: 0, reclaimableBytes: 0 });
    expect(await temporaries()).toEqual([]);
  });

  test('is kept by itself when new layers come', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const store = await open(250_000);
    const [first, second, third] = (await Promise.all([4, 5, 6].map(layerOf))) as [
      LayerDescriptor,
      LayerDescriptor,
      LayerDescriptor,
    ];
    for (const layer of [first, second]) await store.ensureLayer('functions/a', layer);
    vi.setSystemTime(Date.now() + LATER_MS);
    await store.ensureLayer('functions/a', third);
    await vi.waitFor(async () => expect(await isThere(first)).toBe(false), { timeout: 5_000 });
    expect(await isThere(third)).toBe(true);
  });

  test('does not take what was handed out a moment ago', async () => {
    const store = await open();
    const layer = await layerOf(7);
    await store.ensureLayer('functions/a', layer);
    expect(await store.prune(0)).toBe(0);
    expect(await isThere(layer)).toBe(true);
  });

  test('keeps the layers of a root filesystem as long as that', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const store = await open();
    const layer = await pushRaw([{ name: 'x', body: 'x'.repeat(50_000) }]);
    const reference = await pushImage([layer]);
    await store.ensureRootfs(reference);
    store.pin('images/a', reference.split('@')[1] as string);
    vi.setSystemTime(Date.now() + LATER_MS);
    await store.prune(0);
    expect(store.usage().count).toBe(2);
    store.unpin('images/a', reference.split('@')[1] as string);
    await store.prune(0);
    expect(store.usage().count).toBe(0);
  });

  test('pulls again what was evicted', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const store = await open();
    const layer = await layerOf(8);
    await store.ensureLayer('functions/a', layer);
    vi.setSystemTime(Date.now() + LATER_MS);
    await store.prune(0);
    const folder = await store.ensureLayer('functions/a', layer);
    expect((await stat(join(folder, 'f8'))).size).toBe(100_000);
  });
});

describe('after a crash', () => {
  test('kill -9 at any moment of a pull leaves nothing half-made', async () => {
    const entries = Array.from({ length: 300 }, (_, i) => ({
      path: `d${i % 7}/f${i}`,
      data: Buffer.alloc(20_000, i),
    }));
    const layer = await pushLayer(entries);
    const reference = await pushImage([layer], 'functions/a');
    const script = join(dir, 'pull.ts');
    const oci = new URL('../../../infra/oci/', import.meta.url).pathname;
    await writeFile(
      script,
      `import { openRegistry } from '${oci}registry.ts';
       import { openStore } from '${oci}store.ts';
       const registry = openRegistry({ url: '${server.url}' });
       const store = await openStore({ dir: '${join(dir, 'store')}', registry, bytesMax: 1e9 });
       process.stdout.write('go');
       await store.ensureRootfs('${reference}');
       process.stdout.write('done');
       setInterval(() => {}, 1000);`,
    );
    for (const delayMs of [0, 10, 25, 50, 80, 120, 200]) {
      await rm(join(dir, 'store'), { recursive: true, force: true });
      const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      setTimeout(() => child.kill('SIGKILL'), delayMs);
      await once(child, 'exit');
      const store = await open();
      expect(await temporaries()).toEqual([]);
      const { rootfs } = await store.ensureRootfs(reference);
      for (const { path, data } of [entries[0], entries[299]] as typeof entries) {
        expect((await readFile(join(rootfs, path))).equals(data)).toBe(true);
      }
      const found = await readdir(rootfs, { recursive: true, withFileTypes: true });
      expect(found.filter((item) => item.isFile()).length).toBe(300);
    }
  });

  test('entries without a readable record are removed at open', async () => {
    const store = await open();
    const good = await pushLayer([{ path: 'a', data: 'good' }]);
    const bad = await pushLayer([{ path: 'a', data: 'bad' }]);
    for (const layer of [good, bad]) await store.ensureLayer('functions/a', layer);
    await writeFile(join(dir, 'store', 'layers', bad.digest.slice(7), 'meta.json'), '{"version":1');
    await mkdir(join(dir, 'store', 'layers', 'stranger'));
    await mkdir(join(dir, 'store', 'tmp', 'orphan'));
    const again = await open();
    expect(await readdir(join(dir, 'store', 'layers'))).toEqual([good.digest.slice(7)]);
    expect(await temporaries()).toEqual([]);
    expect(again.usage().count).toBe(1);
    await again.ensureLayer('functions/a', bad);
  });
});
