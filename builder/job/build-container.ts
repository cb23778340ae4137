/** A source with a Containerfile becomes an image that listens on $PORT, or the one it became before is used again. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { functionRepository } from '../../infra/contract/jobs.ts';
import { parseConfig } from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BuildConfig, FunctionConfig } from '../../sdk/protocol/manifest.ts';
import { type FetchedSource, formatSize } from '../compile/source.ts';
import type { ContainerBuild, ContainerBuilder } from '../container/container-builder.ts';
import { readContainerfile } from '../container/containerfile.ts';
import { assertReadable } from '../image/readable.ts';
import { findInputImage, type InputImage, type InputImageParts } from '../container/input-images.ts';
import { detectSource } from '../source/detect.ts';
import type { Built } from './build.ts';
import { describeContainer } from './import-image.ts';
import { type BuiltImage, InputIndex } from './input-index.ts';

export interface ContainerParts extends InputImageParts {
  readonly containers: ContainerBuilder;
  readonly images: InputIndex<BuiltImage>;
  /** Keeps an image from being collected until it is recorded. */
  readonly hold: (digest: string) => Promise<void>;
}

type NamedImage = InputImage & { readonly name: string };

/** Raised when another image is made of the same source. */
const CONTAINER_VERSION = 1;

/** @throws SkiffError INVALID_SOURCE, BUILD_FAILED, UNAVAILABLE; the reason of the source's signal */
export async function buildContainer(
  parts: ContainerParts,
  source: FetchedSource,
  config: FunctionConfig,
): Promise<Built> {
  const { job, tree, progress } = source;
  const { entry, reason } = await detectSource(tree, { entry: job.entry, runtime: undefined });
  progress.log('info', `building the image of ${entry} (${reason})`);
  const containerfile = readContainerfile(
    await readFile(join(tree.root, entry), 'utf8'),
    entry,
    config.build.args,
  );
  await using opened = new OpenRegistries(parts, job.functionName);
  const images: NamedImage[] = [];
  for (const name of containerfile.images) {
    assertReadable(job.functionName, name);
    images.push({ ...(await findInputImage(parts, name, opened.open)), name });
  }
  const key = InputIndex.key([
    'containerfile',
    CONTAINER_VERSION,
    job.functionName,
    job.source.digest,
    entry,
    images.map(({ digest }) => digest),
    ...describeSettings(config.build),
  ]);
  const image =
    (await tryReuse(parts, source, key)) ??
    (await makeImage(parts, source, { text: containerfile.text, images, ...config.build }));
  await parts.images.put(key, { image, entry: '' });
  const repository = functionRepository(job.functionName);
  const { manifest } = await parts.registry.getManifest(repository, image.digest);
  if (!manifest) throw new SkiffError('INTERNAL', `the image of ${entry} is an index`);
  const described = parseConfig(
    await parts.registry.readBlob(repository, manifest.config),
    manifest.layers.length,
  );
  return { config, built: { image, entry: '', container: describeContainer(described, config, job, entry) } };
}

/** Nothing when there are none: the key is what it was before there were any. */
function describeSettings({ args, target, network }: BuildConfig): unknown[] {
  const sorted = Object.entries(args).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const isPlain = sorted.length === 0 && target === undefined && network === 'none';
  return isPlain ? [] : [sorted, target ?? '', network];
}

async function tryReuse(
  parts: ContainerParts,
  { job, progress }: FetchedSource,
  key: string,
): Promise<BuiltImage['image'] | undefined> {
  const known = await parts.images.tryGet(key);
  if (!known) return undefined;
  await parts.hold(known.image.digest);
  const repository = functionRepository(job.functionName);
  if ((await parts.registry.headManifest(repository, known.image.digest)) === undefined) return undefined;
  progress.log('info', `source and images are unchanged: image ${known.image.digest} is used again`);
  return known.image;
}

function makeImage(
  parts: ContainerParts,
  { job, tree, progress, signal }: FetchedSource,
  input: Pick<ContainerBuild, 'text' | 'args' | 'network'> & {
    images: readonly NamedImage[];
    target?: string | undefined;
  },
): Promise<BuiltImage['image']> {
  const { registry, containers } = parts;
  const repository = functionRepository(job.functionName);
  const { text, images, args, target, network } = input;
  const build = { id: job.buildId, context: tree.root, text, images, args, target, network, signal };
  const onLine = (line: string): void => progress.log('info', line);
  return progress
    .step('image', () =>
      containers.build({ ...build, onLine }, (push) =>
        progress.step(
          'push',
          () => push({ registry, repository }),
          ({ image }) => `${formatSize(image.bytes)}, ${image.digest}`,
        ),
      ),
    )
    .then(({ image }) => image);
}

/** One client for each host, closed together. */
class OpenRegistries {
  readonly #parts: Pick<InputImageParts, 'externals'>;
  readonly #functionName: string;
  readonly #opened = new Map<string, Promise<Registry>>();

  constructor(parts: Pick<InputImageParts, 'externals'>, functionName: string) {
    this.#parts = parts;
    this.#functionName = functionName;
  }

  readonly open = (host: string): Promise<Registry> => {
    const opened = this.#opened.get(host) ?? this.#parts.externals.open(host, this.#functionName);
    this.#opened.set(host, opened);
    return opened;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    for (const opened of this.#opened.values()) await (await opened).close();
  }
}
