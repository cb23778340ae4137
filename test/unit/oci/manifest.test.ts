import { describe, expect, test } from 'vitest';
import { digestOf } from '../../../infra/oci/digest.ts';
import { MEDIA, parseConfig, parseManifest, selectPlatform } from '../../../infra/oci/manifest.ts';

const digest = digestOf('x');
const config = { mediaType: MEDIA.ociConfig, digest, size: 2 };
const layer = { mediaType: MEDIA.ociLayerGzip, digest, size: 3 };
const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers: [layer] };
const entry = {
  mediaType: MEDIA.ociManifest,
  digest,
  size: 5,
  platform: { os: 'linux', architecture: 'amd64' },
};
const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [entry] };

const bytes = (value: unknown): Buffer =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

describe('parseManifest accepts', () => {
  test('an OCI manifest, with and without its own media type', () => {
    const { mediaType: _, ...silent } = manifest;
    expect(parseManifest(bytes(manifest), MEDIA.ociManifest).manifest?.layers).toEqual([layer]);
    expect(parseManifest(bytes(silent), `${MEDIA.ociManifest}; charset=utf-8`).kind).toBe('manifest');
  });

  test('a Docker manifest and list', () => {
    const docker = {
      schemaVersion: 2,
      mediaType: MEDIA.dockerManifest,
      config: { ...config, mediaType: MEDIA.dockerConfig },
      layers: [{ ...layer, mediaType: MEDIA.dockerLayerGzip }],
    };
    expect(parseManifest(bytes(docker), MEDIA.dockerManifest).kind).toBe('manifest');
    const list = { ...index, mediaType: MEDIA.dockerIndex };
    expect(parseManifest(bytes(list), MEDIA.dockerIndex).kind).toBe('index');
  });
});

describe('parseManifest refuses', () => {
  const table: Readonly<Record<string, [value: unknown, contentType: string]>> = {
    'a manifest that is an index too': [{ ...manifest, manifests: [] }, MEDIA.ociManifest],
    'an index that is a manifest too': [{ ...index, layers: [], config }, MEDIA.ociIndex],
    'a manifest served as an index': [manifest, MEDIA.ociIndex],
    'an index served as a manifest': [index, MEDIA.ociManifest],
    'a media type other than the served one': [
      { ...manifest, mediaType: MEDIA.dockerManifest },
      MEDIA.ociManifest,
    ],
    'no content type': [manifest, ''],
    'a content type of any JSON': [manifest, 'application/json'],
    'schema 1': [{ schemaVersion: 1, fsLayers: [] }, 'application/vnd.docker.distribution.manifest.v1+json'],
    'schema 1 under the name of schema 2': [{ ...manifest, fsLayers: [] }, MEDIA.ociManifest],
    'another schema version': [{ ...manifest, schemaVersion: 3 }, MEDIA.ociManifest],
    'an upper-case digest': [
      { ...manifest, config: { ...config, digest: `sha256:${'A'.repeat(64)}` } },
      MEDIA.ociManifest,
    ],
    'an unknown digest algorithm': [
      { ...manifest, layers: [{ ...layer, digest: `sha512:${'a'.repeat(128)}` }] },
      MEDIA.ociManifest,
    ],
    'a negative size': [{ ...manifest, layers: [{ ...layer, size: -1 }] }, MEDIA.ociManifest],
    'a size with a fraction': [{ ...manifest, layers: [{ ...layer, size: 1.5 }] }, MEDIA.ociManifest],
    'a size beyond exact numbers': [{ ...manifest, layers: [{ ...layer, size: 1e300 }] }, MEDIA.ociManifest],
    'a config that is no image config': [
      { ...manifest, config: { ...config, mediaType: MEDIA.ociLayer } },
      MEDIA.ociManifest,
    ],
    'a foreign layer': [
      {
        ...manifest,
        layers: [{ ...layer, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }],
      },
      MEDIA.ociManifest,
    ],
    '128 layers': [{ ...manifest, layers: Array(128).fill(layer) }, MEDIA.ociManifest],
    'a list instead of an object': [[manifest], MEDIA.ociManifest],
    text: ['no JSON', MEDIA.ociManifest],
    'no config': [{ schemaVersion: 2, layers: [] }, MEDIA.ociManifest],
  };
  for (const [what, [value, contentType]] of Object.entries(table)) {
    test(what, () => {
      expect(() => parseManifest(bytes(value), contentType)).toThrow(
        expect.objectContaining({ code: 'INVALID_SOURCE' }),
      );
    });
  }

  test('bytes that are not UTF-8', () => {
    const broken = Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('"}')]);
    expect(() => parseManifest(broken, MEDIA.ociManifest)).toThrow(/not JSON/);
  });
});

describe('selectPlatform', () => {
  test('takes the entry of this architecture', () => {
    const arm = { ...entry, digest: digestOf('arm'), platform: { os: 'linux', architecture: 'arm64' } };
    const both = parseManifest(bytes({ ...index, manifests: [arm, entry] }), MEDIA.ociIndex);
    expect(selectPlatform(both.index as never, both.digest, 'amd64').digest).toBe(digest);
    expect(selectPlatform(both.index as never, both.digest, 'arm64').digest).toBe(arm.digest);
  });

  test('says what there is when nothing fits', () => {
    const parsed = parseManifest(bytes(index), MEDIA.ociIndex);
    expect(() => selectPlatform(parsed.index as never, digest, 'riscv64')).toThrow(
      /no linux\/riscv64.*linux\/amd64/,
    );
  });

  test('refuses a nested index', () => {
    const nested = parseManifest(
      bytes({ ...index, manifests: [{ ...entry, mediaType: MEDIA.ociIndex }] }),
      MEDIA.ociIndex,
    );
    expect(() => selectPlatform(nested.index as never, digest, 'amd64')).toThrow(/nests/);
  });
});

describe('parseConfig', () => {
  const image = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digest] } };
  test('wants a diff id for each layer', () => {
    expect(parseConfig(bytes(image), 1).rootfs.diff_ids).toEqual([digest]);
    expect(() => parseConfig(bytes(image), 2)).toThrow(expect.objectContaining({ code: 'INVALID_SOURCE' }));
  });
  test('accepts the nulls that Docker writes', () => {
    const docker = { ...image, config: { Env: null, Cmd: null, Entrypoint: null, Labels: null, User: '' } };
    expect(parseConfig(bytes(docker), 1).config?.Env).toBeNull();
  });
});
