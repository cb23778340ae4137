/**
 * Makes the image of a function: the base image's layers, shared and not copied, and the function's own on top.
 * Invariant: the manifest is stored last, so a reader never sees an image with a blob missing, and the same function
 * on the same base always has the same digest.
 * Deliberately absent: moving tags such as `latest` (deployments hold digests).
 */
import { LRUCache } from 'lru-cache';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { functionRepository } from '../../infra/contract/jobs.ts';
import { parseReference } from '../../infra/oci/digest.ts';
import { listEntries, packLayer, type LayerEntry } from '../../infra/oci/layer-pack.ts';
import { MEDIA, parseConfig, type ImageConfig } from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import type { LayerDescriptor } from '../../infra/oci/store.ts';
import { createImageDocument } from './image-document.ts';

export interface FunctionImageInput {
  readonly registry: Registry;
  readonly functionName: string;
  /** `repository@digest` of a base image that the registry has, as `ensureBaseImage` returns it. */
  readonly base: { readonly reference: string; readonly digest: string };
  /** From bottom to top. A folder's contents go below `prefix` in the image. */
  readonly layers: readonly (
    | { readonly entries: readonly LayerEntry[] }
    | { readonly dir: string; readonly prefix?: string }
    /** Packed before, in a file. */
    | { readonly packed: LayerDescriptor; readonly file: string }
    /** In the function's repository already, under an image that keeps it there. */
    | { readonly stored: LayerDescriptor }
  )[];
  /** Absolute path of the module inside the image, for example `/var/task/index.cjs`. */
  readonly entry: string;
  readonly env: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** TCP port the image serves HTTP on when it runs under another engine. */
  readonly exposedPort: number;
}

/** Where the image serves HTTP under another engine. */
export const EXPOSED_PORT = 8080;

/** Labels of an image: the function's own, and where it comes from. */
export function functionLabels(
  functionName: string,
  own: Readonly<Record<string, string>>,
  sourceDigest: string | undefined,
): Record<string, string> {
  return {
    ...own,
    'dev.skiff.function': functionName,
    ...(sourceDigest !== undefined && { 'dev.skiff.source': sourceDigest }),
  };
}

interface BaseImage {
  readonly config: ImageConfig;
  readonly layers: readonly LayerDescriptor[];
}

interface RegistryMemory {
  readonly bases: LRUCache<string, BaseImage>;
  /** `repository digest` of blobs seen there. Wrong only after a collection, which the manifest's refusal reveals. */
  readonly known: LRUCache<string, true>;
}

/** One entry is a few KB. */
const BASES_MAX = 32;
const KNOWN_BLOBS_MAX = 20_000;
const memories = new WeakMap<Registry, RegistryMemory>();

function memoryOf(registry: Registry): RegistryMemory {
  let memory = memories.get(registry);
  if (!memory) {
    memory = { bases: new LRUCache({ max: BASES_MAX }), known: new LRUCache({ max: KNOWN_BLOBS_MAX }) };
    memories.set(registry, memory);
  }
  return memory;
}

/**
 * Packs, pushes what is new and stores the manifest.
 * @throws SkiffError INVALID_SOURCE (a file that a layer cannot hold), NOT_FOUND (no such base image), UNAVAILABLE
 */
export async function pushFunctionImage(input: FunctionImageInput): Promise<Deployment['image']> {
  const { registry } = input;
  const repository = functionRepository(input.functionName);
  const [base, ...packed] = await Promise.all([
    loadBaseImage(registry, input.base.reference),
    ...input.layers.map(async (layer) => {
      if ('stored' in layer) return { ...layer.stored, data: undefined };
      if ('packed' in layer) return { ...layer.packed, data: { file: layer.file } };
      return packLayer('dir' in layer ? await listEntries(layer.dir, layer.prefix) : layer.entries);
    }),
  ]);
  const layers = packed.map(({ digest, diffId, bytes, mediaType }) => ({ digest, diffId, bytes, mediaType }));
  const image = createImageDocument({
    config: functionConfig(base.config, input),
    layers: [...base.layers, ...layers],
    history: [
      ...base.layers.map((_, i) => String(base.config.history?.[i]?.['created_by'] ?? input.base.reference)),
      ...layers.map(() => `skiff function ${input.functionName}`),
    ],
    annotations: {
      'org.opencontainers.image.title': input.functionName,
      'org.opencontainers.image.base.name': input.base.reference,
      'org.opencontainers.image.base.digest': input.base.digest,
    },
  });
  const blobs = [...packed.map((layer) => layer.data), image.configBytes].filter(
    (data) => data !== undefined,
  );
  const push = async (): Promise<void> => {
    await Promise.all([
      ...base.layers.map((layer) =>
        mountBase(registry, repository, layer, parseReference(input.base.reference).repository),
      ),
      ...blobs.map((data) => registry.pushBlob(repository, data)),
    ]);
    // The tag names the content, so it never moves; tools that list a repository need one.
    await registry.putManifest(
      repository,
      image.manifestBytes,
      MEDIA.ociManifest,
      image.manifestDigest.slice(7, 19),
    );
  };
  try {
    await push();
  } catch (error) {
    if (!isBlobUnknown(error)) throw error;
    // The registry collected a blob that was there a moment ago: look at every one of them again.
    memoryOf(registry).known.clear();
    await push();
  }
  return {
    reference: `${repository}@${image.manifestDigest}`,
    digest: image.manifestDigest,
    bytes: image.bytes,
    base: { reference: input.base.reference, digest: input.base.digest },
    layers,
  };
}

/** Manifest and config of a base image; they never change under a digest. */
export async function loadBaseImage(registry: Registry, reference: string): Promise<BaseImage> {
  const { bases } = memoryOf(registry);
  const cached = bases.get(reference);
  if (cached) return cached;
  const { repository, digest } = parseReference(reference);
  const { manifest } = await registry.getManifest(repository, digest);
  if (!manifest)
    throw new SkiffError(
      'INVALID_SOURCE',
      `base image ${reference} is an index; name the image of one platform`,
    );
  const config = parseConfig(await registry.readBlob(repository, manifest.config), manifest.layers.length);
  const layers = manifest.layers.map((layer, i) => ({
    digest: layer.digest,
    diffId: config.rootfs.diff_ids[i] as string,
    bytes: layer.size,
    mediaType: layer.mediaType,
  }));
  const base = { config, layers };
  bases.set(reference, base);
  return base;
}

async function mountBase(
  registry: Registry,
  repository: string,
  layer: LayerDescriptor,
  from: string,
): Promise<void> {
  const { known } = memoryOf(registry);
  const key = `${repository} ${layer.digest}`;
  if (known.has(key)) return;
  if (!(await registry.mountBlob(repository, layer.digest, from))) {
    // Registries may refuse to mount; then the bytes take the long way.
    await registry.pushBlob(
      repository,
      await registry.pullBlob(from, layer.digest, { bytes: layer.bytes }),
      layer.digest,
    );
  }
  known.set(key, true);
}

function isBlobUnknown(error: unknown): boolean {
  return error instanceof SkiffError && error.details?.['registryCode'] === 'MANIFEST_BLOB_UNKNOWN';
}

function functionConfig(base: ImageConfig, input: FunctionImageInput): NonNullable<ImageConfig['config']> {
  const inherited = base.config ?? {};
  const env = new Map((inherited.Env ?? []).map((line) => splitEnv(line)));
  for (const [name, value] of Object.entries(input.env).sort(([a], [b]) => (a < b ? -1 : 1)))
    env.set(name, value);
  env.set('PORT', String(input.exposedPort));
  // What the guest serves when nobody gives it a function: the image runs under any engine.
  env.set('SKIFF_ENTRY', input.entry);
  env.set('SKIFF_FUNCTION', input.functionName);
  return {
    ...inherited,
    Env: [...env].map(([name, value]) => `${name}=${value}`),
    ExposedPorts: { [`${input.exposedPort}/tcp`]: {} },
    Labels: { ...inherited.Labels, ...input.labels },
  };
}

function splitEnv(line: string): [name: string, value: string] {
  const equals = line.indexOf('=');
  return equals < 0 ? [line, ''] : [line.slice(0, equals), line.slice(equals + 1)];
}
