/**
 * An image that somebody else built becomes a deployment: copied into the registry, blob by blob and checked, so that
 * runners need no other registry and what runs cannot change or vanish elsewhere; and its configuration read once.
 * Invariant: of an image's configuration only command, variables and working folder are used; user, capabilities,
 * ports and volumes are the platform's.
 */
import { assertReadable } from '../image/readable.ts';
import { functionRepository, type ImageJob } from '../../infra/contract/jobs.ts';
import {
  parseConfig,
  selectPlatform,
  type ImageConfig,
  type ManifestDocument,
} from '../../infra/oci/manifest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { assertOwnNamespace } from '../../sdk/protocol/reach/namespaces.ts';
import { describeIssues, FunctionConfig } from '../../sdk/protocol/manifest.ts';
import {
  parseExternalReference,
  type ExternalReference,
  type ExternalRegistries,
} from '../../infra/oci/external-registry.ts';
import type { Built } from './build.ts';
import type { Progress } from './progress.ts';

export interface ImportParts {
  readonly registry: Registry;
  readonly externals: ExternalRegistries;
}

const COPIES_AT_ONCE = 4;
/** What $PORT is: the convention of Cloud Run and Knative. */
const PORT = 8080;
const PATH_DEFAULT = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @throws SkiffError INVALID_SOURCE, INVALID_CONFIG, UNAVAILABLE; the reason of `signal`. */
export async function importImage(
  parts: ImportParts,
  job: ImageJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<Built> {
  const parsed = FunctionConfig.safeParse({ ...job.config, runtime: 'image' });
  if (!parsed.success) throw new SkiffError('INVALID_CONFIG', describeIssues(parsed.error));
  assertOwnNamespace(job.functionName, parsed.data);
  assertReadable(job.functionName, job.image);
  const reference = parseExternalReference(job.image);
  const from =
    reference.host === undefined
      ? parts.registry
      : await parts.externals.open(reference.host, job.functionName);
  try {
    const document = await progress.step(
      'fetch',
      () => findManifest(from, reference, job.image),
      ({ digest }) => digest,
    );
    const manifest = document.manifest as NonNullable<ManifestDocument['manifest']>;
    const config = parseConfig(
      await from.readBlob(reference.repository, manifest.config),
      manifest.layers.length,
    );
    const container = describeContainer(config, parsed.data, job, `image "${job.image}"`);
    const bytes = manifest.layers.reduce((sum, layer) => sum + layer.size, manifest.config.size);
    const repository = functionRepository(job.functionName);
    await progress.step(
      'push',
      () => copyImage(from, reference.repository, parts.registry, repository, document, signal),
      (copied) => `${(bytes / 1024 ** 2).toFixed(1)} MB, ${copied} of ${manifest.layers.length} layers new`,
    );
    const image = {
      reference: `${repository}@${document.digest}`,
      digest: document.digest,
      bytes,
      layers: [],
    };
    return { config: parsed.data, built: { image, entry: '', container } };
  } finally {
    if (from !== parts.registry) await from.close();
  }
}

/** The manifest for this machine, of an image or out of an index. */
async function findManifest(
  from: Registry,
  reference: ExternalReference,
  text: string,
): Promise<ManifestDocument> {
  try {
    const document = await from.getManifest(reference.repository, reference.tagOrDigest);
    if (!document.index) return document;
    const selected = selectPlatform(document.index, document.digest);
    return await from.getManifest(reference.repository, selected.digest);
  } catch (error) {
    if (!(error instanceof SkiffError) || error.code !== 'NOT_FOUND') throw error;
    throw new SkiffError('INVALID_SOURCE', `there is no image "${text}"`, { cause: error });
  }
}

/** Returns how many layers were not there yet. */
async function copyImage(
  from: Registry,
  fromRepository: string,
  to: Registry,
  repository: string,
  document: ManifestDocument,
  signal: AbortSignal,
): Promise<number> {
  const manifest = document.manifest as NonNullable<ManifestDocument['manifest']>;
  const waiting = [
    ...new Map([...manifest.layers, manifest.config].map((blob) => [blob.digest, blob])).values(),
  ];
  let copied = 0;
  const work = async (): Promise<void> => {
    for (let blob = waiting.shift(); blob; blob = waiting.shift()) {
      signal.throwIfAborted();
      if ((await to.headBlob(repository, blob.digest)) !== undefined) continue;
      if (from === to && (await to.mountBlob(repository, blob.digest, fromRepository))) continue;
      const stream = await from.pullBlob(fromRepository, blob.digest, { bytes: blob.size, signal });
      await to.pushBlob(repository, stream, blob.digest);
      if (blob.digest !== manifest.config.digest) copied++;
    }
  };
  await Promise.all(Array.from({ length: COPIES_AT_ONCE }, work));
  signal.throwIfAborted();
  await to.putManifest(repository, document.bytes, document.mediaType, document.digest.slice(7, 19));
  return copied;
}

/** How the image is started. `what` it is, for the message. @throws SkiffError INVALID_SOURCE */
export function describeContainer(
  image: ImageConfig,
  config: FunctionConfig,
  job: Pick<ImageJob, 'functionName' | 'deploymentId'>,
  what: string,
): NonNullable<Deployment['container']> {
  const { Entrypoint, Cmd, Env, WorkingDir } = image.config ?? {};
  // As in docker: an entry point of the deploy's own makes the image's CMD count no more.
  const { entrypoint, command = entrypoint ? [] : Cmd, port = PORT } = config;
  const args = [...(entrypoint ?? Entrypoint ?? []), ...(command ?? [])];
  if (args.length === 0)
    throw new SkiffError(
      'INVALID_SOURCE',
      `${what} has neither ENTRYPOINT nor CMD; nothing says what to start`,
    );
  const own = Object.fromEntries((Env ?? []).map(splitEnv));
  return {
    args,
    env: {
      PATH: PATH_DEFAULT,
      HOME: '/tmp',
      ...own,
      ...config.env,
      PORT: String(port),
      // The names of Knative's container contract.
      K_SERVICE: job.functionName,
      K_REVISION: job.deploymentId,
      K_CONFIGURATION: job.functionName,
    },
    cwd: WorkingDir?.startsWith('/') === true ? WorkingDir : '/',
    port,
  };
}

function splitEnv(line: string): [name: string, value: string] {
  const equals = line.indexOf('=');
  return equals < 0 ? [line, ''] : [line.slice(0, equals), line.slice(equals + 1)];
}
