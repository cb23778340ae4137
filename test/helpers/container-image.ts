/** Images as other tools make them: layers in any compression, OCI or Docker media types, one platform or an index. */
import { createHash, randomBytes } from 'node:crypto';
import { gunzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '../../infra/oci/digest.ts';
import { packLayer, type LayerEntry } from '../../infra/oci/layer-pack.ts';
import { imageArchitecture, MEDIA } from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';

export interface TestImage {
  readonly layers: readonly (readonly LayerEntry[])[];
  readonly config: Readonly<Record<string, unknown>>;
  readonly compression?: 'gzip' | 'zstd' | 'none';
  readonly types?: 'oci' | 'docker';
  /** Behind an index, beside the image of another architecture. */
  readonly isIndexed?: boolean;
}

const LAYER_TYPES = {
  oci: { gzip: MEDIA.ociLayerGzip, zstd: MEDIA.ociLayerZstd, none: MEDIA.ociLayer },
  docker: { gzip: MEDIA.dockerLayerGzip, zstd: MEDIA.dockerLayerZstd, none: MEDIA.dockerLayer },
};

/** Returns the digest of what the tag names. */
export async function pushTestImage(
  registry: Registry,
  repository: string,
  tag: string,
  image: TestImage,
): Promise<string> {
  const { compression = 'gzip', types = 'oci' } = image;
  const layers = [];
  for (const entries of image.layers) {
    const packed = await packLayer(entries);
    const tar = gunzipSync(packed.data);
    const data = compression === 'gzip' ? packed.data : compression === 'zstd' ? zstdCompressSync(tar) : tar;
    await registry.pushBlob(repository, data);
    layers.push({ data, diffId: packed.diffId });
  }
  const config = Buffer.from(
    JSON.stringify({
      architecture: imageArchitecture(),
      os: 'linux',
      config: image.config,
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  await registry.pushBlob(repository, config);
  const isDocker = types === 'docker';
  const mediaType = isDocker ? MEDIA.dockerManifest : MEDIA.ociManifest;
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: {
        mediaType: isDocker ? MEDIA.dockerConfig : MEDIA.ociConfig,
        digest: digestOf(config),
        size: config.length,
      },
      layers: layers.map(({ data }) => ({
        mediaType: LAYER_TYPES[types][compression],
        digest: digestOf(data),
        size: data.length,
      })),
    }),
  );
  if (image.isIndexed !== true) return registry.putManifest(repository, manifest, mediaType, tag);
  const digest = await registry.putManifest(repository, manifest, mediaType);
  const indexType = isDocker ? MEDIA.dockerIndex : MEDIA.ociIndex;
  const platform = (architecture: string) => ({ os: 'linux', architecture });
  const index = {
    schemaVersion: 2,
    mediaType: indexType,
    manifests: [
      { mediaType, digest: digestOf(randomBytes(8)), size: 7, platform: platform('riscv64') },
      { mediaType, digest, size: manifest.length, platform: platform(imageArchitecture()) },
    ],
  };
  // A registry wants the manifests of an index to be there; the other architecture's is this one again.
  index.manifests[0] = { mediaType, digest, size: manifest.length, platform: platform('riscv64') };
  return registry.putManifest(repository, Buffer.from(JSON.stringify(index)), indexType, tag);
}

/** Bytes that do not compress, the same for the same seed. */
export function noise(bytes: number, seed: string): Buffer {
  const parts: Buffer[] = [];
  let block = createHash('sha512').update(seed).digest();
  const size = 64 * 1024;
  for (let length = 0; length < bytes; length += size) {
    block = createHash('sha512').update(block).digest();
    parts.push(
      Buffer.concat(
        Array.from({ length: size / 64 }, (_, i) =>
          i === 0 ? block : createHash('sha512').update(block).update(String(i)).digest(),
        ),
      ),
    );
  }
  return Buffer.concat(parts).subarray(0, bytes);
}
