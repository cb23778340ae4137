/**
 * The documents of an image: index, manifest, config. Parsing is strict where two readers could disagree on what
 * a document is (CVE-2021-41190): one media type, stated once, and never the fields of two kinds.
 * Deliberately absent: schema 1 manifests, nested indexes, foreign layers (blobs behind URLs).
 */
import { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { clip, digestOf, isDigest } from './digest.ts';

export const MEDIA = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
} as const;

export const INDEX_MEDIA: readonly string[] = [MEDIA.ociIndex, MEDIA.dockerIndex];
export const MANIFEST_MEDIA: readonly string[] = [MEDIA.ociManifest, MEDIA.dockerManifest];
const CONFIG_MEDIA: readonly string[] = [MEDIA.ociConfig, MEDIA.dockerConfig];
/** Media type of a layer -> how its bytes are compressed. */
export const LAYER_COMPRESSION: Readonly<Record<string, Compression>> = {
  [MEDIA.ociLayer]: 'none',
  [MEDIA.ociLayerGzip]: 'gzip',
  [MEDIA.ociLayerZstd]: 'zstd',
  [MEDIA.dockerLayer]: 'none',
  [MEDIA.dockerLayerGzip]: 'gzip',
  [MEDIA.dockerLayerZstd]: 'zstd',
};
export type Compression = 'none' | 'gzip' | 'zstd';

/** As Docker: a container's overlay cannot be much deeper. */
const LAYERS_MAX = 127;
const PLATFORMS_MAX = 100;

const Descriptor = z.object({
  mediaType: z.string().max(255),
  digest: z.string().refine(isDigest, 'is not "sha256:" and 64 lower-case hex digits'),
  size: z.number().int().nonnegative(),
  annotations: z.record(z.string(), z.string()).optional(),
  platform: z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() }).optional(),
});
export type Descriptor = z.output<typeof Descriptor>;

const ImageManifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: Descriptor,
  layers: z.array(Descriptor).max(LAYERS_MAX),
  annotations: z.record(z.string(), z.string()).optional(),
});
export type ImageManifest = z.output<typeof ImageManifest>;

const ImageIndex = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(Descriptor).max(PLATFORMS_MAX),
  annotations: z.record(z.string(), z.string()).optional(),
});
export type ImageIndex = z.output<typeof ImageIndex>;

const StringList = z.array(z.string()).nullish();
const ImageConfig = z.object({
  architecture: z.string(),
  os: z.string(),
  created: z.string().optional(),
  config: z
    .object({
      User: z.string().optional(),
      Env: StringList,
      Entrypoint: StringList,
      Cmd: StringList,
      WorkingDir: z.string().optional(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
    })
    .optional(),
  rootfs: z.object({
    type: z.literal('layers'),
    diff_ids: z.array(z.string().refine(isDigest)).max(LAYERS_MAX),
  }),
  history: z.array(z.record(z.string(), z.unknown())).optional(),
});
export type ImageConfig = z.output<typeof ImageConfig>;

export interface ManifestDocument {
  readonly kind: 'manifest' | 'index';
  readonly mediaType: string;
  readonly digest: string;
  readonly bytes: Buffer;
  /** Set when `kind` is `manifest`. */
  readonly manifest?: ImageManifest;
  /** Set when `kind` is `index`. */
  readonly index?: ImageIndex;
}

function refuse(what: string, digest: string): SkiffError {
  return new SkiffError('INVALID_SOURCE', `image document ${digest}: ${what}`);
}

function parseJson(bytes: Buffer, digest: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new SkiffError('INVALID_SOURCE', `image document ${digest} is not JSON`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse('is not an object', digest);
  return value as Record<string, unknown>;
}

function check<Schema extends z.ZodType>(schema: Schema, value: unknown, digest: string): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw refuse(
    `field ${issue?.path.join('.') || '(root)'}: ${clip(issue?.message ?? 'is malformed', 200)}`,
    digest,
  );
}

/**
 * Reads an index or a manifest that a registry served as `contentType`.
 * @throws SkiffError INVALID_SOURCE when the document is malformed or could be read as two kinds.
 */
export function parseManifest(bytes: Buffer, contentType: string): ManifestDocument {
  const digest = digestOf(bytes);
  const mediaType = (contentType.split(';')[0] as string).trim().toLowerCase();
  const value = parseJson(bytes, digest);
  const isIndex = INDEX_MEDIA.includes(mediaType);
  if (!isIndex && !MANIFEST_MEDIA.includes(mediaType)) {
    throw refuse(
      `media type "${clip(mediaType)}" is not an OCI or Docker (schema 2) image manifest or index`,
      digest,
    );
  }
  if (value['mediaType'] !== undefined && value['mediaType'] !== mediaType) {
    throw refuse(
      `says media type "${clip(String(value['mediaType']))}" and was served as "${mediaType}"`,
      digest,
    );
  }
  const foreign = isIndex ? ['config', 'layers', 'fsLayers'] : ['manifests', 'fsLayers'];
  for (const field of foreign) {
    if (field in value)
      throw refuse(`has "${field}", which is no part of ${isIndex ? 'an index' : 'a manifest'}`, digest);
  }
  if (isIndex) return { kind: 'index', mediaType, digest, bytes, index: check(ImageIndex, value, digest) };
  return { kind: 'manifest', mediaType, digest, bytes, manifest: checkManifest(value, digest) };
}

function checkManifest(value: Record<string, unknown>, digest: string): ImageManifest {
  const manifest = check(ImageManifest, value, digest);
  if (!CONFIG_MEDIA.includes(manifest.config.mediaType)) {
    throw refuse(`config of media type "${clip(manifest.config.mediaType)}" is not an image's`, digest);
  }
  for (const layer of manifest.layers) {
    if (LAYER_COMPRESSION[layer.mediaType] === undefined) {
      throw refuse(
        `layer of media type "${clip(layer.mediaType)}"; known are plain, gzip and zstd tar`,
        digest,
      );
    }
  }
  return manifest;
}

/** @throws SkiffError INVALID_SOURCE */
export function parseConfig(bytes: Buffer, layers: number): ImageConfig {
  const digest = digestOf(bytes);
  const config = check(ImageConfig, parseJson(bytes, digest), digest);
  if (config.rootfs.diff_ids.length !== layers) {
    throw refuse(`has ${config.rootfs.diff_ids.length} diff ids for ${layers} layers`, digest);
  }
  return config;
}

/** Name that images use for the architecture of this process. */
export function imageArchitecture(arch: string = process.arch): string {
  return arch === 'x64' ? 'amd64' : arch;
}

/** The manifest of an index that fits this machine. @throws SkiffError INVALID_SOURCE when there is none. */
export function selectPlatform(
  index: ImageIndex,
  digest: string,
  architecture = imageArchitecture(),
): Descriptor {
  const found = index.manifests.find(
    (entry) => entry.platform?.os === 'linux' && entry.platform.architecture === architecture,
  );
  if (!found) {
    const offered = index.manifests.map((entry) => `${entry.platform?.os}/${entry.platform?.architecture}`);
    throw refuse(
      `has no linux/${architecture} image; it offers ${clip(offered.join(', ') || 'none', 200)}`,
      digest,
    );
  }
  if (!MANIFEST_MEDIA.includes(found.mediaType)) {
    throw refuse(`nests "${clip(found.mediaType)}"; an index may only list image manifests`, digest);
  }
  return found;
}
