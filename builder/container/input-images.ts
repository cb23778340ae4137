/**
 * The images a Containerfile stands on: found in the platform's registry or the one they name, and laid out as files
 * for the sandbox, every blob checked. Invariant: an image is what its digest says, and the sandbox sees no login.
 */
import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { tryFindRuntime } from '../../infra/runtimes/catalog.ts';
import { digestOf, parseReference } from '../../infra/oci/digest.ts';
import {
  LAYER_COMPRESSION,
  MEDIA,
  parseConfig,
  selectPlatform,
  type Descriptor,
  type ImageManifest,
  type ManifestDocument,
} from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { parseExternalReference, type ExternalRegistries } from '../../infra/oci/external-registry.ts';
import type { BaseImages } from '../job/base-images.ts';

export interface InputImage {
  readonly registry: Registry;
  readonly repository: string;
  readonly digest: string;
  readonly manifest: ImageManifest;
}

export interface InputImageParts {
  readonly registry: Registry;
  readonly externals: ExternalRegistries;
  readonly bases: Pick<BaseImages, 'ensure'>;
}

const OCI_LAYER = { none: MEDIA.ociLayer, gzip: MEDIA.ociLayerGzip, zstd: MEDIA.ociLayerZstd } as const;
const BASE = /^skiff\/([a-z]+)$/;
const COPIES_AT_ONCE = 4;

/** `external` is closed by the caller. @throws SkiffError INVALID_SOURCE, UNAVAILABLE */
export async function findInputImage(
  parts: InputImageParts,
  text: string,
  open: (host: string) => Promise<Registry>,
): Promise<InputImage> {
  const reference = parseExternalReference(text);
  const runtime = `${BASE.exec(reference.repository)?.[1]}:${reference.tagOrDigest}`;
  if (reference.host === undefined && tryFindRuntime(runtime)) {
    // It may not have been needed before: then it is assembled now.
    const base = parseReference((await parts.bases.ensure(runtime)).reference);
    return getImage(parts.registry, base.repository, base.digest);
  }
  const from = reference.host === undefined ? parts.registry : await open(reference.host);
  try {
    return await getImage(from, reference.repository, reference.tagOrDigest);
  } catch (error) {
    if (!(error instanceof SkiffError) || error.code !== 'NOT_FOUND') throw error;
    const hint =
      reference.host === undefined
        ? `; names without a registry's host are looked up in the platform's own, which has skiff/node:26 and the other runtimes`
        : '';
    throw new SkiffError('INVALID_SOURCE', `there is no image "${text}"${hint}`, { cause: error });
  }
}

async function getImage(registry: Registry, repository: string, tagOrDigest: string): Promise<InputImage> {
  let document: ManifestDocument = await registry.getManifest(repository, tagOrDigest);
  if (document.index) {
    const selected = selectPlatform(document.index, document.digest);
    document = await registry.getManifest(repository, selected.digest);
  }
  return {
    registry,
    repository,
    digest: document.digest,
    manifest: document.manifest as NonNullable<ManifestDocument['manifest']>,
  };
}

/** Writes an OCI image layout into `folder`. Returns which layer of the image has which content (diff id). */
export async function layOut(
  image: InputImage,
  folder: string,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Descriptor>> {
  const blobs = join(folder, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const { registry, repository } = image;
  const { config, layers } = image.manifest;
  const configBytes = await registry.readBlob(repository, config);
  await writeFile(join(blobs, config.digest.slice(7)), configBytes);
  const waiting = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
  const work = async (): Promise<void> => {
    for (let layer = waiting.shift(); layer; layer = waiting.shift()) {
      const stream = await registry.pullBlob(repository, layer.digest, { bytes: layer.size, signal });
      await pipeline(stream, createWriteStream(join(blobs, layer.digest.slice(7))), { signal });
    }
  };
  await Promise.all(Array.from({ length: COPIES_AT_ONCE }, work));
  // Docker's documents under OCI's names: the bytes of config and layers are the same.
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.ociManifest,
      config: { mediaType: MEDIA.ociConfig, digest: config.digest, size: config.size },
      layers: layers.map((layer) => ({
        mediaType: OCI_LAYER[LAYER_COMPRESSION[layer.mediaType] ?? 'gzip'],
        digest: layer.digest,
        size: layer.size,
      })),
    }),
  );
  const digest = digestOf(manifest);
  await writeFile(join(blobs, digest.slice(7)), manifest);
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const index = {
    schemaVersion: 2,
    manifests: [{ mediaType: MEDIA.ociManifest, digest, size: manifest.length }],
  };
  await writeFile(join(folder, 'index.json'), JSON.stringify(index));
  const { rootfs } = parseConfig(configBytes, layers.length);
  return new Map(rootfs.diff_ids.map((diffId, i) => [diffId, layers[i] as Descriptor]));
}
