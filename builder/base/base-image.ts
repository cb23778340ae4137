/**
 * Assembles the base images of the runtimes, `skiff/node:26` and its like, and puts them into the registry.
 * Two layers: system and language (large, changes with their versions) and guest (small, changes with Skiff).
 * Invariant: an image's tag `<version>-<hash of its inputs>` exists only for the image those inputs give, so an
 * unchanged input costs one request. Deliberately absent: what a runtime is made of (infra/runtimes).
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { baseImage } from '../../infra/contract/jobs.ts';
import { digestOf } from '../../infra/oci/digest.ts';
import { listEntries, packLayer, packLayerFile, type LayerEntry } from '../../infra/oci/layer-pack.ts';
import { imageArchitecture, MEDIA, type ImageConfig } from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import type { LayerDescriptor } from '../../infra/oci/store.ts';
import { findRuntime } from '../../infra/runtimes/catalog.ts';
import type { GuestSource, Runtime } from '../../infra/runtimes/contract.ts';
import { loadBaseImage } from '../image/function-image.ts';
import { createImageDocument } from '../image/image-document.ts';
import { listPackages, unpackPackages, type DebianPackage } from './debian-packages.ts';
import { findProgram, type FoundProgram } from './npm-program.ts';
import { createBaseConfig, ROOT_FILES } from './root-files.ts';

export interface BaseImageOptions {
  /** A name of infra/runtimes. */
  readonly runtime: string;
  readonly registry: Registry;
  /** Keeps downloads between runs. */
  readonly workDir: string;
  readonly onProgress?: (line: string) => void;
  /** npm's own folder on this host; the `npm` of the search path when absent. */
  readonly npmFolder?: string;
  /** Module that is bundled as the guest; sdk/guest/main.ts when absent. */
  readonly guestEntry?: string;
}

export interface BaseImage {
  /** `skiff/node@sha256:…` */
  readonly reference: string;
  readonly digest: string;
  readonly config: ImageConfig;
  readonly layers: readonly LayerDescriptor[];
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Annotation by which a later build finds the system layer again. */
const SYSTEM_ANNOTATION = 'dev.skiff.base.system';
/** The large layer: level 6 takes more than twice the time of level 1 for a tenth less. */
const SYSTEM_LEVEL = 1;

/**
 * The base image of a runtime, assembled only if the registry does not have it for the same inputs.
 * @throws SkiffError INVALID_CONFIG (no such runtime), UNAVAILABLE (registry, apt or npm cannot be reached)
 */
export async function ensureBaseImage(options: BaseImageOptions): Promise<BaseImage> {
  const { registry, workDir } = options;
  const onProgress = options.onProgress ?? (() => {});
  const runtime = findRuntime(options.runtime);
  const { repository, tag } = baseImage(runtime.name);
  // Before anything that takes longer.
  await registry.ping();
  const { program: wanted, packages: names } = runtime.base;
  const [guest, program, packages] = await Promise.all([
    collectGuest(runtime.guest, options.guestEntry),
    wanted && findProgram(wanted, join(ROOT, 'node_modules'), join(workDir, 'npm'), options.npmFolder),
    listPackages(names, join(workDir, 'debian'), onProgress),
  ]);
  const { without, keep, prepare } = runtime.base;
  const system = hashOf({
    architecture: imageArchitecture(),
    program: program?.identity,
    packages,
    recipe: [String(without), String(keep), prepare],
    files: ROOT_FILES,
    level: SYSTEM_LEVEL,
  });
  const packed = await packLayer(guest);
  const config = createBaseConfig(runtime);
  const inputs = hashOf({ system, guest: packed.digest, config });
  const inputTag = `${tag}-${inputs}`;

  const existing = await registry.headManifest(repository, inputTag);
  if (existing !== undefined) {
    await moveTag(registry, repository, tag, existing);
    return load(registry, repository, existing);
  }
  const systemLayer =
    (await findSystemLayer(registry, repository, tag, system)) ??
    (await pushSystemLayer(options, repository, runtime, program, packages, onProgress));
  const image = createImageDocument({
    config,
    layers: [
      systemLayer,
      { digest: packed.digest, diffId: packed.diffId, bytes: packed.bytes, mediaType: packed.mediaType },
    ],
    history: [`Debian packages and ${runtime.title}`, 'skiff guest'],
    annotations: {
      [SYSTEM_ANNOTATION]: system,
      'org.opencontainers.image.title': `${repository}:${tag}`,
      'org.opencontainers.image.version': runtime.title,
    },
  });
  await Promise.all([
    registry.pushBlob(repository, packed.data),
    registry.pushBlob(repository, image.configBytes),
  ]);
  const digest = await registry.putManifest(repository, image.manifestBytes, MEDIA.ociManifest, inputTag);
  await moveTag(registry, repository, tag, digest);
  onProgress(`base image ${repository}:${tag} is ready (${Math.round(image.bytes / 1e6)} MB)`);
  return load(registry, repository, digest);
}

/** After a return to earlier inputs the plain tag still names the image between. */
async function moveTag(registry: Registry, repository: string, tag: string, digest: string): Promise<void> {
  if ((await registry.headManifest(repository, tag)) === digest) return;
  const { bytes, mediaType } = await registry.getManifest(repository, digest);
  await registry.putManifest(repository, bytes, mediaType, tag);
}

async function load(registry: Registry, repository: string, digest: string): Promise<BaseImage> {
  const reference = `${repository}@${digest}`;
  return { reference, digest, ...(await loadBaseImage(registry, reference)) };
}

/** The layer of the image before this one, if its inputs were the same. */
async function findSystemLayer(
  registry: Registry,
  repository: string,
  tag: string,
  system: string,
): Promise<LayerDescriptor | undefined> {
  const digest = await registry.headManifest(repository, tag);
  if (digest === undefined) return undefined;
  const { manifest } = await registry.getManifest(repository, digest);
  if (manifest?.annotations?.[SYSTEM_ANNOTATION] !== system) return undefined;
  const { layers } = await load(registry, repository, digest);
  const [layer] = layers;
  return layer && (await registry.headBlob(repository, layer.digest)) !== undefined ? layer : undefined;
}

async function pushSystemLayer(
  options: BaseImageOptions,
  repository: string,
  runtime: Runtime,
  program: FoundProgram | undefined,
  packages: readonly DebianPackage[],
  onProgress: (line: string) => void,
): Promise<LayerDescriptor> {
  await mkdir(options.workDir, { recursive: true });
  const temporary = await mkdtemp(join(options.workDir, 'base-'));
  try {
    const libraries = await unpackPackages(
      packages,
      runtime.base,
      join(options.workDir, 'debian'),
      join(temporary, 'root'),
      onProgress,
    );
    const entries: LayerEntry[] = [...libraries, ...ROOT_FILES];
    if (program && runtime.base.program) {
      const file = await program.open(onProgress);
      entries.push({ path: runtime.base.program.path, file, isExecutable: true });
    }
    onProgress(`packing ${runtime.title} and its libraries`);
    const file = join(temporary, 'system.tar.gz');
    const layer = await packLayerFile(entries, file, { level: SYSTEM_LEVEL });
    onProgress(`pushing ${Math.round(layer.bytes / 1e6)} MB to the registry`);
    await options.registry.pushBlob(repository, { file }, layer.digest);
    return layer;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** `entry` replaces the module of a guest that is bundled. */
async function collectGuest(guest: GuestSource, entry: string | undefined): Promise<LayerEntry[]> {
  if ('folder' in guest) {
    const entries = await listEntries(join(ROOT, guest.folder), guest.path);
    return entries.filter(({ path }) => !path.includes('__pycache__'));
  }
  return [{ path: guest.path, data: await bundleGuest(entry ?? join(ROOT, guest.bundle), guest.target) }];
}

/** CommonJS, since an ES module that imports node:http starts 25 ms later. */
async function bundleGuest(entry: string, target: string): Promise<Buffer> {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    target,
    format: 'cjs',
    charset: 'utf8',
    absWorkingDir: ROOT,
    logLevel: 'silent',
  });
  return Buffer.from((result.outputFiles[0] as { contents: Uint8Array }).contents);
}

/** 16 hex digits are plenty to tell a few images apart, and keep the tag readable. */
function hashOf(input: unknown): string {
  return digestOf(JSON.stringify(input)).slice(7, 23);
}
