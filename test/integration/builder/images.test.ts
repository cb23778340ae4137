import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBaseImage, type BaseImage } from '../../../builder/base/base-image.ts';
import { pushFunctionImage, type FunctionImageInput } from '../../../builder/image/function-image.ts';
import { parseConfig } from '../../../infra/oci/manifest.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import { openStore } from '../../../infra/oci/store.ts';
import { Deployment } from '../../../sdk/protocol/api.ts';
import { startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';

const run = promisify(execFile);
const HANDLER = `module.exports = { default: async (request) => new Response('hello ' + new URL(request.url).pathname) };`;

let server: TestRegistry;
let registry: Registry;
let dir: string;
let base: BaseImage;
let progress: string[];

async function assemble(
  options: { guestEntry?: string; client?: Registry; workDir?: string } = {},
): Promise<BaseImage> {
  progress = [];
  return ensureBaseImage({
    runtime: 'node:26',
    registry: options.client ?? registry,
    workDir: join(dir, options.workDir ?? 'work'),
    onProgress: (line) => progress.push(line),
    ...(options.guestEntry === undefined ? {} : { guestEntry: options.guestEntry }),
  });
}

function inputOf(changes: Partial<FunctionImageInput> = {}): FunctionImageInput {
  return {
    registry,
    functionName: 'hello',
    base,
    layers: [{ entries: [{ path: 'var/task/index.cjs', data: HANDLER }] }],
    entry: '/var/task/index.cjs',
    env: { GREETING: 'hi' },
    labels: { team: 'blue' },
    exposedPort: 8080,
    ...changes,
  };
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'skiff-images-'));
  server = await startTestRegistry();
  registry = openRegistry({ url: server.url });
  base = await assemble();
}, 120_000);
afterAll(async () => {
  await registry?.close();
  await server?.stop();
  if (dir) await rm(dir, { recursive: true, force: true });
});

describe('a base image', () => {
  test('is an ordinary image with a tag for its runtime and one for its inputs', async () => {
    expect(base.reference).toBe(`skiff/node@${base.digest}`);
    expect(base.layers.length).toBe(2);
    expect(base.config.config).toMatchObject({
      User: '1000',
      Entrypoint: ['/usr/bin/node', '/skiff/guest.cjs'],
      WorkingDir: '/var/task',
      ExposedPorts: { '8080/tcp': {} },
    });
    expect(await registry.headManifest('skiff/node', '26')).toBe(base.digest);
    const tags = await registry.listTags('skiff/node');
    expect(tags.some((tag) => /^26-[0-9a-f]{16}$/.test(tag))).toBe(true);
  });

  test('is not assembled again for the same inputs', async () => {
    expect((await assemble()).digest).toBe(base.digest);
    expect(progress).toEqual([]);
  });

  test('has the same digest wherever it is assembled', async () => {
    const other = await startTestRegistry();
    const client = openRegistry({ url: other.url });
    try {
      expect((await assemble({ client, workDir: 'elsewhere' })).digest).toBe(base.digest);
    } finally {
      await client.close();
      await other.stop();
    }
  }, 120_000);

  test('keeps its large layer when only the guest changes, and gets its tag back with the old guest', async () => {
    const guest = join(dir, 'guest.ts');
    await writeFile(guest, 'process.exitCode = 3;');
    const changed = await assemble({ guestEntry: guest });
    expect(changed.layers[0]).toEqual(base.layers[0]);
    expect(changed.layers[1]?.digest).not.toBe(base.layers[1]?.digest);
    expect(progress.filter((line) => line.startsWith('packing'))).toEqual([]);
    expect(await registry.headManifest('skiff/node', '26')).toBe(changed.digest);
    await assemble();
    expect(await registry.headManifest('skiff/node', '26')).toBe(base.digest);
  });

  test('is not there for other runtimes', async () => {
    for (const runtime of ['ruby', 'node:18', 'node']) {
      const making = ensureBaseImage({ runtime, registry, workDir: join(dir, 'work') });
      await expect(making).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
    }
  });

  test('of Python has compiled modules and certificates, and the same digest wherever it is assembled', async () => {
    const other = await startTestRegistry();
    const client = openRegistry({ url: other.url });
    try {
      const [one, two] = await Promise.all(
        [registry, client].map((each, i) =>
          ensureBaseImage({ runtime: 'python:3.11', registry: each, workDir: join(dir, `python-${i}`) }),
        ),
      );
      expect(one?.digest).toBe(two?.digest);
      const store = await openStore({ dir: join(dir, 'python-store'), registry, bytesMax: 1e9 });
      const { rootfs } = await store.ensureRootfs((one as BaseImage).reference);
      const { stdout } = await run('chroot', [
        rootfs,
        '/usr/bin/python3.11',
        '-I',
        '-c',
        'import asyncio, json, ssl, sqlite3; print(json.__cached__, bool(ssl.create_default_context().get_ca_certs()))',
      ]);
      expect(stdout.trim()).toBe('/usr/lib/python3.11/json/__pycache__/__init__.cpython-311.pyc True');
    } finally {
      await client.close();
      await other.stop();
    }
  }, 180_000);

  test('cannot be had while the registry is away', async () => {
    const away = openRegistry({ url: 'http://127.0.0.1:1' });
    await expect(assemble({ client: away })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await away.close();
  });
});

describe('a function image', () => {
  test('has the shape of a deployment and stands on the base', async () => {
    const image = await pushFunctionImage(inputOf());
    expect(Deployment.shape.image.parse(image)).toEqual(image);
    expect(image.reference).toBe(`functions/hello@${image.digest}`);
    expect(image.base).toEqual({ reference: base.reference, digest: base.digest });
    const { manifest } = await registry.getManifest('functions/hello', image.digest);
    expect(manifest?.layers.map((layer) => layer.digest)).toEqual([
      ...base.layers.map((layer) => layer.digest),
      image.layers[0]?.digest,
    ]);
    const sizes = manifest?.layers.reduce((sum, layer) => sum + layer.size, manifest.config.size);
    expect(image.bytes).toBe(sizes);
    const config = parseConfig(await registry.readBlob('functions/hello', manifest!.config), 3);
    expect(config.config?.Env).toEqual(
      expect.arrayContaining(['GREETING=hi', 'PORT=8080', 'SKIFF_ENTRY=/var/task/index.cjs']),
    );
    expect(config.config?.Labels).toEqual({ team: 'blue' });
    expect(config.config?.User).toBe('1000');
  });

  test('has one digest for one input, and another for another', async () => {
    const one = await pushFunctionImage(inputOf());
    const reordered = { b: '2', a: '1' };
    const again = await pushFunctionImage(inputOf());
    expect(again).toEqual(one);
    const [ab, ba] = [
      await pushFunctionImage(inputOf({ env: { a: '1', b: '2' } })),
      await pushFunctionImage(inputOf({ env: reordered })),
    ];
    expect(ab.digest).toBe(ba.digest);
    expect(ab.digest).not.toBe(one.digest);
  });

  test('is pushed again when the registry lost blobs it had', async () => {
    const image = await pushFunctionImage(inputOf({ functionName: 'lost' }));
    for (const layer of base.layers) await registry.deleteBlob('functions/lost', layer.digest);
    await registry.deleteManifest('functions/lost', image.digest);
    expect((await pushFunctionImage(inputOf({ functionName: 'lost' }))).digest).toBe(image.digest);
    for (const layer of base.layers)
      expect(await registry.headBlob('functions/lost', layer.digest)).toBe(layer.bytes);
  });

  test('takes a folder as a layer below a prefix', async () => {
    const folder = await mkdtemp(join(dir, 'folder-'));
    await writeFile(join(folder, 'asset.txt'), 'asset');
    const image = await pushFunctionImage(inputOf({ layers: [{ dir: folder, prefix: 'var/task/assets' }] }));
    const store = await openStore({ dir: join(dir, 'store'), registry, bytesMax: 1e9 });
    const unpacked = await store.ensureLayer('functions/hello', image.layers[0]!);
    expect(await readFile(join(unpacked, 'var/task/assets/asset.txt'), 'utf8')).toBe('asset');
  });

  test('on a base that is not there is NOT_FOUND', async () => {
    const digest = `sha256:${'0'.repeat(64)}`;
    const pushing = pushFunctionImage(inputOf({ base: { reference: `skiff/node@${digest}`, digest } }));
    await expect(pushing).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('is inspected and copied by skopeo', async () => {
    const image = await pushFunctionImage(inputOf());
    for (const name of [`functions/hello@${image.digest}`, `skiff/node@${base.digest}`]) {
      const source = `docker://127.0.0.1:${server.port}/${name}`;
      const { stdout } = await run('skopeo', ['inspect', '--tls-verify=false', source]);
      expect(JSON.parse(stdout)).toMatchObject({
        Os: 'linux',
        Digest: name.split('@')[1],
        Created: '1970-01-01T00:00:00Z',
      });
      await run('skopeo', [
        'copy',
        '--src-tls-verify=false',
        source,
        `oci:${join(dir, 'layout')}:${name.split('/')[0]}`,
      ]);
    }
  });

  test('serves its function over HTTP without any runner', async () => {
    const image = await pushFunctionImage(inputOf());
    const store = await openStore({ dir: join(dir, 'store'), registry, bytesMax: 1e9 });
    const { rootfs } = await store.ensureRootfs(image.reference);
    const { manifest } = await registry.getManifest('functions/hello', image.digest);
    const { config } = parseConfig(await registry.readBlob('functions/hello', manifest!.config), 3);
    const port = await findFreePort();
    const env = Object.fromEntries((config?.Env ?? []).map((line) => line.split('=', 2)));
    const child = spawn(
      '/usr/sbin/chroot',
      [`--userspec=${config?.User}:1000`, rootfs, ...(config?.Entrypoint ?? [])],
      {
        env: { ...env, PORT: String(port) },
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
    try {
      await expect
        .poll(
          async () =>
            fetch(`http://127.0.0.1:${port}/world`).then(
              (reply) => reply.text(),
              () => '',
            ),
          { timeout: 20_000 },
        )
        .toBe('hello /world');
    } finally {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
  });

  test('a redeploy of one line takes little registry work', async () => {
    const asked: string[] = [];
    const counted = new Proxy(registry, {
      get(target, name: keyof Registry) {
        const own = target[name];
        if (typeof own !== 'function') return own;
        return (...args: never[]) => {
          asked.push(name);
          return (own as (...args: never[]) => unknown).apply(target, args);
        };
      },
    });
    const times: number[] = [];
    for (let i = 0; i < 15; i++) {
      asked.length = 0;
      const entries = [{ path: 'var/task/index.cjs', data: `${HANDLER}// ${i}` }];
      const startedMs = performance.now();
      await pushFunctionImage(inputOf({ registry: counted, layers: [{ entries }] }));
      times.push(performance.now() - startedMs);
    }
    // Its own layer and its configuration; those of the base image are neither moved nor asked for again.
    expect(asked.toSorted()).toEqual(['pushBlob', 'pushBlob', 'putManifest']);
    // 20 ms were seen on two busy cores. The quickest: the others tell what else the machine had to do.
    expect(Math.min(...times)).toBeLessThan(150);
  });
});

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}
