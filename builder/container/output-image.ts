/**
 * What a build left in its output folder becomes an image of the registry. The folder is a stranger's work: every name
 * is checked to be a file of it, every document is parsed as from any registry, every layer must be what the config
 * says it is. Layers of the images it stands on are not stored again.
 * Invariant: the same content gives the same image, and the manifest is stored last.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { MANIFEST_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { digestOf, isDigest } from '../../infra/oci/digest.ts';
import {
  MEDIA,
  parseConfig,
  parseManifest,
  type Descriptor,
  type ImageConfig,
} from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import type { InputImage } from './input-images.ts';

/** A layer that is known by its content, and where its bytes are. */
export interface KnownLayer {
  readonly image: InputImage;
  readonly layer: Descriptor;
}

export interface OutputTarget {
  readonly registry: Registry;
  readonly repository: string;
  /** By diff id. */
  readonly known: ReadonlyMap<string, KnownLayer>;
  readonly signal: AbortSignal;
}

type StoredLayer = Pick<Descriptor, 'mediaType' | 'digest' | 'size'>;

/** `folder` is an OCI layout with one image, its layers not compressed. @throws SkiffError BUILD_FAILED, UNAVAILABLE */
export async function pushOutput(
  folder: string,
  target: OutputTarget,
): Promise<{ image: Deployment['image']; config: ImageConfig }> {
  const { registry, repository } = target;
  const root = await realpath(folder);
  const index = JSON.parse((await readDocument(root, 'index.json')).toString('utf8')) as {
    manifests?: { digest?: unknown }[];
  };
  const { manifest } = parseManifest(
    await readBlob(root, String(index.manifests?.[0]?.digest)),
    MEDIA.ociManifest,
  );
  if (!manifest) throw damaged('its manifest is none');
  const configBytes = await readBlob(root, manifest.config.digest);
  const config = parseConfig(configBytes, manifest.layers.length);
  // Instructions that change no file give the same empty layer, as often as there are stages.
  const stored = new Map<string, StoredLayer>();
  const layers: StoredLayer[] = [];
  for (const diffId of config.rootfs.diff_ids) {
    const layer = stored.get(diffId) ?? (await pushLayer(root, diffId, target));
    stored.set(diffId, layer);
    layers.push(layer);
  }
  await registry.pushBlob(repository, configBytes);
  const document = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: digestOf(configBytes), size: configBytes.length },
    layers,
  };
  const bytes = Buffer.from(JSON.stringify(document));
  const digest = digestOf(bytes);
  target.signal.throwIfAborted();
  await registry.putManifest(repository, bytes, MEDIA.ociManifest, digest.slice(7, 19));
  const total = layers.reduce((sum, layer) => sum + layer.size, configBytes.length);
  return {
    image: { reference: `${repository}@${digest}`, digest, bytes: total, layers: [] },
    config,
  };
}

async function pushLayer(root: string, diffId: string, target: OutputTarget): Promise<StoredLayer> {
  const { registry, repository, known, signal } = target;
  signal.throwIfAborted();
  const found = known.get(diffId);
  if (found) {
    const { image, layer } = found;
    const { mediaType, digest, size } = layer;
    const isHere = (await registry.headBlob(repository, digest)) !== undefined;
    const canMount = !isHere && image.registry === registry;
    if (!isHere && !(canMount && (await registry.mountBlob(repository, digest, image.repository)))) {
      const stream = await image.registry.pullBlob(image.repository, digest, { bytes: size, signal });
      await registry.pushBlob(repository, stream, digest);
    }
    return { mediaType, digest, size };
  }
  const packed = join(root, `${diffId.slice(7)}.gz`);
  const hash = createHash('sha256');
  const file = await blobFile(root, diffId);
  await pipeline(
    createReadStream(file),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    },
    createGzip(),
    createWriteStream(packed, { flags: 'wx' }),
    { signal },
  );
  if (`sha256:${hash.digest('hex')}` !== diffId) throw damaged(`layer ${diffId} has other bytes`);
  const { digest, bytes } = await registry.pushBlob(repository, { file: packed });
  return { mediaType: MEDIA.ociLayerGzip, digest, size: bytes };
}

function blobFile(root: string, digest: string): Promise<string> {
  if (!isDigest(digest)) throw damaged('a digest of it is none');
  return ownFile(root, `blobs/sha256/${digest.slice(7)}`);
}

async function readBlob(root: string, digest: string): Promise<Buffer> {
  const bytes = await readDocument(root, `blobs/sha256/${isDigest(digest) ? digest.slice(7) : ''}`);
  if (digestOf(bytes) !== digest) throw damaged(`${digest} has other bytes`);
  return bytes;
}

async function readDocument(root: string, name: string): Promise<Buffer> {
  const file = await ownFile(root, name);
  if ((await lstat(file)).size > MANIFEST_BYTES_MAX) throw damaged(`${name} is too long`);
  return readFile(file);
}

/** No process of the build lives any more, so what is looked at here stays. */
async function ownFile(root: string, name: string): Promise<string> {
  const file = join(root, name);
  const info = await lstat(file).catch(() => undefined);
  if (!info?.isFile() || (await realpath(file)) !== file) throw damaged(`${name} is not a file of it`);
  return file;
}

function damaged(why: string): SkiffError {
  return new SkiffError('BUILD_FAILED', `the build left no usable image: ${why}`);
}
