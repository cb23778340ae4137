/**
 * Writes the two documents of an image: config and manifest. Invariant: the same input gives the same bytes, so there
 * is no time, no host name and no order of insertion in them.
 */
import { digestOf } from '../../infra/oci/digest.ts';
import { imageArchitecture, MEDIA, type ImageConfig } from '../../infra/oci/manifest.ts';
import type { LayerDescriptor } from '../../infra/oci/store.ts';

/** The time of everything in our images: builds at different times must not differ. */
export const CREATED = '1970-01-01T00:00:00Z';

export interface ImageInput {
  readonly config: NonNullable<ImageConfig['config']>;
  readonly layers: readonly LayerDescriptor[];
  /** One line a layer, for `docker history`. */
  readonly history: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ImageDocument {
  readonly configBytes: Buffer;
  readonly configDigest: string;
  readonly config: ImageConfig;
  readonly manifestBytes: Buffer;
  readonly manifestDigest: string;
  /** Compressed size of the whole image: config and layers. */
  readonly bytes: number;
}

export function createImageDocument(input: ImageInput): ImageDocument {
  const config: ImageConfig = {
    created: CREATED,
    architecture: imageArchitecture(),
    os: 'linux',
    config: input.config,
    rootfs: { type: 'layers', diff_ids: input.layers.map((layer) => layer.diffId) },
    history: input.history.map((line) => ({ created: CREATED, created_by: line })),
  };
  const configBytes = Buffer.from(JSON.stringify(sortKeys(config)));
  const configDigest = digestOf(configBytes);
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: configDigest, size: configBytes.length },
    layers: input.layers.map(({ mediaType, digest, bytes }) => ({ mediaType, digest, size: bytes })),
    annotations: sortKeys({ 'org.opencontainers.image.created': CREATED, ...input.annotations }),
  };
  const manifestBytes = Buffer.from(JSON.stringify(manifest));
  const bytes = input.layers.reduce((sum, layer) => sum + layer.bytes, configBytes.length);
  return { configBytes, configDigest, config, manifestBytes, manifestDigest: digestOf(manifestBytes), bytes };
}

/** Objects with their keys in order, all the way down. */
function sortKeys<T>(value: T): T {
  if (Array.isArray(value)) return value.map(sortKeys) as T;
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sortKeys(inner)])) as T;
}
