/**
 * One build from job to live deployment: compile, push, record, verify, activate.
 *
 * Invariants: `live` moves only to a deployment that a runner has started; a build that fails leaves neither a folder
 * nor a deployment; running the same job again after a crash gives the same deployment, as everything in it comes
 * from the job and nothing from the clock. A source that was built before with the same settings is not built again.
 * Deliberately absent: the queue (../worker.ts), and removing images nobody points to (the registry's collection).
 */
import type { Catalog } from '../../infra/catalog/catalog.ts';
import { type BuildJob, functionRepository, type SourceJob } from '../../infra/contract/jobs.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { BuildRecord, Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BundleReport } from '../../sdk/protocol/source/bundle-report.ts';
import type { FunctionConfig } from '../../sdk/protocol/manifest.ts';
import type { BaseImage } from '../base/base-image.ts';
import { activateDeployment } from './activate.ts';
import { buildContainer, type ContainerParts } from './build-container.ts';
import { copyDeployment } from './copy.ts';
import { compileFunction, type CompileParts } from '../compile/compile.ts';
import { type FetchedSource, withSource } from '../compile/source.ts';
import { importImage, type ImportParts } from './import-image.ts';
import { type BuiltImage, InputIndex } from './input-index.ts';
import type { Progress } from './progress.ts';
import { pushImage } from './push-image.ts';
import { type ConfigParts, IMAGE_RUNTIME, settleConfig, trySettleConfig } from './settle-config.ts';
import type { Verifier } from './verify.ts';

export interface BuildParts extends CompileParts, ConfigParts, ImportParts, ContainerParts {
  readonly catalog: Catalog;
  readonly verifier: Verifier;
  readonly log: Log;
}

/** Raised when this code makes another image of the same source. */
const BUILD_VERSION = 1;

/** What the build's record says of it. */
export type BuildOutcome = Pick<BuildRecord, 'deployment' | 'image' | 'report'>;

/** Resolves when the deployment is live, or the image made where that is all. @throws SkiffError; the reason of `signal`. Nothing half-made stays. */
export async function runBuild(
  parts: BuildParts,
  job: BuildJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<BuildOutcome> {
  const made = await makeBuilt(parts, job, progress, signal);
  const image = made.built.image.reference;
  if (job.buildOnly) return { image, ...(made.report ? { report: made.report } : {}) };
  const deployment = createDeployment(job, made);
  signal.throwIfAborted();
  await recordDeployment(parts.catalog, deployment);
  try {
    await progress.step(
      'verify',
      () => parts.verifier.verify(deployment.id, signal),
      (result) => `started in ${Math.round(result.ms)} ms`,
    );
    signal.throwIfAborted();
    await progress.step('activate', () =>
      activateDeployment(parts.catalog, job.functionName, deployment.id, job.canary),
    );
  } catch (error) {
    await withdraw(parts, deployment);
    throw error;
  }
  return { image, deployment: deployment.id };
}

function makeBuilt(
  parts: BuildParts,
  job: BuildJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<Built> {
  if ('image' in job) return importImage(parts, job, progress, signal);
  if ('from' in job) return copyDeployment(parts, job, progress, signal);
  return buildImage(parts, job, progress, signal);
}

function createDeployment(job: BuildJob, { config, built, source }: Built): Deployment {
  return {
    id: job.deploymentId,
    functionName: job.functionName,
    createdMs: job.requestedMs,
    ...(source ? { source } : {}),
    image: built.image,
    entry: built.entry,
    ...(built.container ? { container: built.container } : {}),
    config,
  };
}

/** A predecessor that died may have recorded it from other inputs, for example an older base image. */
async function recordDeployment(catalog: Catalog, deployment: Deployment): Promise<void> {
  try {
    await catalog.putDeployment(deployment);
  } catch (error) {
    if (!(error instanceof SkiffError) || error.code !== 'CONFLICT') throw error;
    await catalog.removeDeployment(deployment);
    await catalog.putDeployment(deployment);
  }
}

/** A deployment that an alias names already (a repeated job) stays. */
async function withdraw(parts: BuildParts, deployment: Deployment): Promise<void> {
  try {
    await parts.catalog.removeDeployment(deployment);
  } catch (error) {
    parts.log.warn({ error, deployment: deployment.id }, 'a deployment that failed could not be removed');
  }
}

export interface Built {
  readonly config: FunctionConfig;
  readonly built: BuiltImage;
  /** What it was built from, if that is known. */
  readonly source?: Deployment['source'];
  readonly report?: BundleReport | undefined;
}

/** What an image is made of, once the configuration is known. */
interface ImageInput {
  readonly config: FunctionConfig;
  readonly base: BaseImage;
  readonly key: string;
}

async function buildImage(
  parts: BuildParts,
  job: SourceJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<Built> {
  const config = await trySettleConfig(parts, job);
  // Whoever only builds wants to see what is made of it.
  if (config && config.runtime !== IMAGE_RUNTIME && !job.buildOnly) {
    const known = await tryReuse(parts, job, await describeInput(parts, job, config, progress), progress);
    if (known) return { config, built: known, source: job.source };
  }
  return withSource(parts, job, progress, signal, async (source) => {
    const settled = await settleConfig(parts, source);
    if (settled.runtime === IMAGE_RUNTIME)
      return { ...(await buildContainer(parts, source, settled)), source: job.source };
    const input = await describeInput(parts, job, settled, progress);
    const mayReuse = config === undefined && !job.buildOnly;
    const known = mayReuse ? await tryReuse(parts, job, input, progress) : undefined;
    const made = known ? { built: known } : await makeImage(parts, source, input);
    return { config: settled, source: job.source, ...made };
  });
}

async function describeInput(
  parts: BuildParts,
  job: SourceJob,
  config: FunctionConfig,
  progress: Progress,
): Promise<ImageInput> {
  const base = await ensureBase(parts, config.runtime, progress);
  const key = InputIndex.key([
    BUILD_VERSION,
    job.functionName,
    job.source.digest,
    job.entry ?? '',
    config.runtime,
    base.reference,
    config.env,
    config.labels,
    ...(config.build.installScripts ? ['install scripts'] : []),
  ]);
  return { config, base, key };
}

async function tryReuse(
  parts: BuildParts,
  job: SourceJob,
  { key }: ImageInput,
  progress: Progress,
): Promise<BuiltImage | undefined> {
  const known = await parts.images.tryGet(key);
  if (!known) return undefined;
  const repository = functionRepository(job.functionName);
  await parts.hold(known.image.digest);
  if ((await parts.registry.headManifest(repository, known.image.digest)) === undefined) return undefined;
  progress.log('info', `the source is unchanged: image ${known.image.digest} is used again`);
  return known;
}

async function makeImage(
  parts: BuildParts,
  source: FetchedSource,
  { config, base, key }: ImageInput,
): Promise<Pick<Built, 'built' | 'report'>> {
  const { job, progress } = source;
  const made = await compileFunction(parts, source, config, async ({ entry, layers, report }) => {
    const image = await pushImage(
      { ...parts, progress },
      { functionName: job.functionName, config, base, layers, entry, source: job.source },
      (pushed) => `${(pushed.bytes / 1024 ** 2).toFixed(1)} MB, ${pushed.digest}`,
    );
    return { built: { entry, image }, report };
  });
  await parts.images.put(key, made.built);
  return made;
}

/** Mostly at hand. When it has to be assembled first, the build says so: it takes a while. */
async function ensureBase(
  parts: BuildParts,
  runtime: FunctionConfig['runtime'],
  progress: Progress,
): Promise<BaseImage> {
  const notice = setTimeout(
    () => progress.log('info', `the base image of ${runtime} is being assembled, once`),
    500,
  );
  try {
    return await parts.bases.ensure(runtime);
  } finally {
    clearTimeout(notice);
  }
}
