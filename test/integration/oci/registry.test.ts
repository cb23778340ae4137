import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { access, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { hashSync } from 'bcryptjs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../../infra/oci/digest.ts';
import { MEDIA } from '../../../infra/oci/manifest.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { blobFile, flipBit, startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';

let server: TestRegistry;
let registry: Registry;
let dir: string;

beforeAll(async () => {
  server = await startTestRegistry();
  registry = openRegistry({ url: server.url });
  dir = await mkdtemp(join(tmpdir(), 'skiff-registry-test-'));
});
afterAll(async () => {
  await registry?.close();
  await server?.stop();
  if (dir) await rm(dir, { recursive: true, force: true });
});

async function read(stream: Readable): Promise<Buffer> {
  return Buffer.concat(await stream.toArray());
}

/** Unfinished uploads of which the registry still holds bytes; an empty folder stays after a cancelled one. */
async function openUploads(repository: string): Promise<string[]> {
  const folder = join(server.dataDir, 'docker/registry/v2/repositories', repository, '_uploads');
  const files = await readdir(folder, { recursive: true }).catch(() => []);
  return files.filter((file) => file.endsWith('/data'));
}

describe('blobs', () => {
  test('a buffer, a file and a stream come back as they were', async () => {
    const bytes = randomBytes(3_000_000);
    await writeFile(join(dir, 'blob'), bytes);
    const digest = digestOf(bytes);
    const sources = { buffer: bytes, file: { file: join(dir, 'blob') }, stream: Readable.from([bytes]) };
    for (const [repository, source] of Object.entries(sources)) {
      expect(await registry.pushBlob(repository, source)).toEqual({
        digest,
        bytes: bytes.length,
        isNew: true,
      });
      expect(
        (await read(await registry.pullBlob(repository, digest, { bytes: bytes.length }))).equals(bytes),
      ).toBe(true);
      expect(await openUploads(repository)).toEqual([]);
    }
  });

  test('what the repository has is not sent again, but its digest is checked all the same', async () => {
    const bytes = randomBytes(1_000);
    const { digest } = await registry.pushBlob('again', bytes);
    expect((await registry.pushBlob('again', bytes)).isNew).toBe(false);
    expect((await registry.pushBlob('again', Readable.from([bytes]), digest)).isNew).toBe(false);
    const lie = registry.pushBlob('again', Readable.from([randomBytes(1_000)]), digest);
    await expect(lie).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
  });

  test('a stream with another digest than stated is refused and leaves no upload', async () => {
    const stated = digestOf('something else');
    const pushing = registry.pushBlob('lies', Readable.from([Buffer.from('content')]), stated);
    await expect(pushing).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
    expect(await registry.headBlob('lies', stated)).toBeUndefined();
    expect(await openUploads('lies')).toEqual([]);
  });

  test('a stream that breaks passes on its own error and leaves no upload', async () => {
    const source = Readable.from(
      (async function* () {
        for (let i = 0; i < 50; i++) yield randomBytes(100_000);
        throw new SkiffError('BODY_TOO_LARGE', 'the body is larger than 5 MB');
      })(),
    );
    await expect(registry.pushBlob('broken', source)).rejects.toMatchObject({ code: 'BODY_TOO_LARGE' });
    await expect.poll(() => openUploads('broken'), { timeout: 5_000 }).toEqual([]);
  });

  test('a large stream passes with flat memory', async () => {
    const piece = Buffer.alloc(256 * 1024, 'x');
    const pieces = 800;
    global.gc?.();
    const before = process.memoryUsage().rss;
    let peak = before;
    const source = Readable.from(
      (function* () {
        for (let i = 0; i < pieces; i++) {
          peak = Math.max(peak, process.memoryUsage().rss);
          yield piece;
        }
      })(),
      { objectMode: false },
    );
    const { digest, bytes } = await registry.pushBlob('large', source);
    expect(bytes).toBe(pieces * piece.length);
    let received = 0;
    for await (const chunk of await registry.pullBlob('large', digest, { bytes })) {
      received += (chunk as Buffer).length;
      peak = Math.max(peak, process.memoryUsage().rss);
    }
    expect(received).toBe(bytes);
    expect(peak - before).toBeLessThan(100_000_000);
  });

  test('mounts a blob of another repository and says when there is none', async () => {
    const { digest } = await registry.pushBlob('origin', randomBytes(2_000));
    expect(await registry.mountBlob('guest', digest, 'origin')).toBe(true);
    expect(await registry.headBlob('guest', digest)).toBe(2_000);
    expect(await registry.mountBlob('guest', digestOf('absent'), 'origin')).toBe(false);
    expect(await openUploads('guest')).toEqual([]);
  });

  test('a damaged blob ends its stream in an error', async () => {
    const bytes = randomBytes(300_000);
    const { digest } = await registry.pushBlob('damaged', bytes);
    await flipBit(blobFile(server.dataDir, digest), 200_000);
    const stream = await registry.pullBlob('damaged', digest, { bytes: bytes.length });
    await expect(read(stream)).rejects.toMatchObject({
      code: 'INTERNAL',
      details: { reason: 'digest_mismatch' },
    });
  });

  test('a blob of another size than its descriptor is refused', async () => {
    const { digest } = await registry.pushBlob('sized', randomBytes(500));
    const pulling = registry.pullBlob('sized', digest, { bytes: 499 });
    await expect(pulling).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('an absent blob is NOT_FOUND', async () => {
    await expect(registry.pullBlob('sized', digestOf('absent'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await registry.headBlob('no/such', digestOf('absent'))).toBeUndefined();
  });

  test('names that would change the URL never reach the registry', async () => {
    await expect(registry.headBlob('a/../b', digestOf('x'))).rejects.toMatchObject({ code: 'INVALID_NAME' });
    await expect(registry.headBlob('a', 'sha256:x/../y')).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    await expect(registry.getManifest('a', 'x?y')).rejects.toMatchObject({ code: 'INVALID_NAME' });
  });

  test('is gone after it was deleted', async () => {
    const { digest } = await registry.pushBlob('deleted', randomBytes(10));
    expect(await registry.deleteBlob('deleted', digest)).toBe(true);
    expect(await registry.headBlob('deleted', digest)).toBeUndefined();
    expect(await registry.deleteBlob('deleted', digest)).toBe(false);
  });
});

describe('manifests', () => {
  async function pushImage(repository: string, tag?: string): Promise<{ digest: string; bytes: Buffer }> {
    const config = await registry.pushBlob(repository, Buffer.from('{}'));
    const descriptor = { mediaType: MEDIA.ociConfig, digest: config.digest, size: config.bytes };
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociManifest, config: descriptor, layers: [] }),
    );
    return { digest: await registry.putManifest(repository, bytes, MEDIA.ociManifest, tag), bytes };
  }

  test('are found by tag and by digest with the same bytes', async () => {
    const { digest, bytes } = await pushImage('image', 'v1');
    expect(await registry.headManifest('image', 'v1')).toBe(digest);
    for (const reference of ['v1', digest]) {
      const document = await registry.getManifest('image', reference);
      expect(document).toMatchObject({ kind: 'manifest', digest, mediaType: MEDIA.ociManifest });
      expect(document.bytes.equals(bytes)).toBe(true);
    }
    expect(await registry.listTags('image')).toEqual(['v1']);
  });

  test('an index is stored and read as an index', async () => {
    const { digest, bytes } = await pushImage('multi');
    const entry = {
      mediaType: MEDIA.ociManifest,
      digest,
      size: bytes.length,
      platform: { os: 'linux', architecture: 'amd64' },
    };
    const index = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [entry] }),
    );
    await registry.putManifest('multi', index, MEDIA.ociIndex, 'all');
    expect((await registry.getManifest('multi', 'all')).index?.manifests).toEqual([entry]);
  });

  test('a damaged one is refused when asked for by digest and by tag', async () => {
    const { digest } = await pushImage('rotten', 'v1');
    await flipBit(blobFile(server.dataDir, digest), 5);
    for (const reference of [digest, 'v1'])
      await expect(registry.getManifest('rotten', reference)).rejects.toThrow(SkiffError);
  });

  test('tags are listed across pages', async () => {
    for (let i = 0; i < 3; i++) await pushImage('tags', `t${i}`);
    expect((await registry.listTags('tags')).sort()).toEqual(['t0', 't1', 't2']);
    expect(await registry.listTags('no/such')).toEqual([]);
  });

  test('a deleted one and its tag are gone', async () => {
    const { digest } = await pushImage('dropped', 'v1');
    expect(await registry.deleteManifest('dropped', digest)).toBe(true);
    expect(await registry.headManifest('dropped', digest)).toBeUndefined();
    expect(await registry.deleteManifest('dropped', digest)).toBe(false);
  });

  test('skopeo sees the tags we made', async () => {
    await pushImage('seen', 'v1');
    const text = execFileSync('skopeo', [
      'list-tags',
      '--tls-verify=false',
      `docker://127.0.0.1:${server.port}/seen`,
    ]);
    expect(JSON.parse(text.toString()).Tags).toEqual(['v1']);
  });
});

describe('a registry that is away', () => {
  test('fails at once with UNAVAILABLE when nobody listens', async () => {
    const absent = openRegistry({ url: 'http://127.0.0.1:1' });
    const startedMs = performance.now();
    await expect(absent.ping()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await expect(absent.pushBlob('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(performance.now() - startedMs).toBeLessThan(500);
    await absent.close();
  });

  test('is used again as soon as it is back', async () => {
    const own = await startTestRegistry();
    const client = openRegistry({ url: own.url });
    try {
      const { digest } = await client.pushBlob('kept', Buffer.from('kept'));
      await own.pause();
      await expect(client.headBlob('kept', digest)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      await own.resume();
      expect(await client.headBlob('kept', digest)).toBe(4);
    } finally {
      await client.close();
      await own.stop();
    }
  });

  test('a URL with a path or another scheme is refused', () => {
    for (const url of ['ftp://x', 'http://x/path', 'nonsense', 'http://x?y=1']) {
      expect(() => openRegistry({ url })).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }));
    }
  });
});

describe('a registry with a password', () => {
  test('is used with the right one and refuses the wrong and none', async () => {
    const own = await startTestRegistry({ htpasswd: `skiff:${hashSync('secret', 4)}\n` });
    try {
      const right = openRegistry({ url: own.url, user: 'skiff', password: 'secret' });
      const { digest } = await right.pushBlob('private', Readable.from([Buffer.from('content')]));
      expect((await read(await right.pullBlob('private', digest))).toString()).toBe('content');
      for (const password of ['wrong', undefined]) {
        const user = password === undefined ? undefined : 'skiff';
        const wrong = openRegistry({ url: own.url, user, password });
        const failure = await wrong.pullBlob('private', digest).catch((error: unknown) => error);
        expect(failure).toMatchObject({
          code: 'UNAVAILABLE',
          message: expect.stringContaining('SKIFF_REGISTRY_USER'),
        });
        expect(String(failure)).not.toContain('wrong');
        await wrong.close();
      }
      await right.close();
    } finally {
      await own.stop();
    }
  });
});

test('the helper removes its folder', async () => {
  const own = await startTestRegistry();
  await own.stop();
  await expect(access(own.dataDir)).rejects.toThrow(/ENOENT/);
});
