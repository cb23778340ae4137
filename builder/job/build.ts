/**
 * One build from job to live deployment: compile, push, record, verify, activate.
 *
 * Invariants: `live` moves only to a deployment that a runner has started; a build that fails leaves neither a folder
 * nor a deployment; running the same job again after a crash gives the same deployment, as everything in it comes
 * from the job and nothing from the clock. A source that was built before with the same settings is not built again.
 * Deliberately absent: the queue (../worker.ts), and removing images nobody points to (the registry's collection).
 */
import type { Catalog } from '../../infra/catalog/catalog.ts';
import { type BuildJob, functionRepository } from '../../infra/contract/jobs.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BaseImage } from '../base/base-image.ts';
import { pushFunctionImage } from '../image/function-image.ts';
import { activateDeployment } from './activate.ts';
import type { BaseImages } from './base-images.ts';
import { compileFunction, type CompileParts } from './compile.ts';
import { type BuiltImage, ImageIndex } from './image-index.ts';
import type { Progress } from './progress.ts';
import type { Verifier } from './verify.ts';

export interface BuildParts extends CompileParts {
  readonly catalog: Catalog;
  readonly verifier: Verifier;
  readonly bases: Pick<BaseImages, 'ensure'>;
  readonly images: ImageIndex;
  readonly log: Log;
}

/** Raised when this code makes another image of the same source. */
const BUILD_VERSION = 1;
/** Where the image serves HTTP under another engine. */
const EXPOSED_PORT = 8080;

/** Resolves when the deployment is live. @throws SkiffError; the reason of `signal`. Nothing half-made stays. */
export async function runBuild(
  parts: BuildParts,
  job: BuildJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<Deployment> {
  const deployment = createDeployment(job, await buildImage(parts, job, progress, signal));
  signal.throwIfAborted();
  await recordDeployment(parts.catalog, deployment);
  try {
    await progress.step(
      'verify',
      () => parts.verifier.verify(deployment.id, signal),
      (result) => `started in ${Math.round(result.ms)} ms`,
    );
    signal.throwIfAborted();
    await progress.step('activate', () => activateDeployment(parts.catalog, job.functionName, deployment.id));
  } catch (error) {
    await withdraw(parts, deployment);
    throw error;
  }
  return deployment;
}

function createDeployment(job: BuildJob, built: BuiltImage): Deployment {
  return {
    id: job.deploymentId,
    functionName: job.functionName,
    createdMs: job.requestedMs,
    source: job.source,
    image: built.image,
    entry: built.entry,
    config: job.config,
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

async function buildImage(
  parts: BuildParts,
  job: BuildJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<BuiltImage> {
  const base = await ensureBase(parts, job, progress);
  const key = ImageIndex.key([
    BUILD_VERSION,
    job.functionName,
    job.source.digest,
    job.entry ?? '',
    job.config.runtime,
    base.reference,
    job.config.env,
    job.config.labels,
  ]);
  const known = await parts.images.tryGet(key);
  if (
    known &&
    (await parts.registry.headManifest(functionRepository(job.functionName), known.image.digest)) !==
      undefined
  ) {
    progress.log('info', `the source is unchanged: image ${known.image.digest} is used again`);
    return known;
  }
  const built = await compileFunction(parts, job, progress, signal, async ({ entry, layers }) => {
    const image = await progress.step(
      'push',
      () =>
        pushFunctionImage({
          registry: parts.registry,
          functionName: job.functionName,
          base,
          layers,
          entry,
          env: job.config.env,
          labels: {
            ...job.config.labels,
            'dev.skiff.function': job.functionName,
            'dev.skiff.source': job.source.digest,
          },
          exposedPort: EXPOSED_PORT,
        }),
      (pushed) => `${(pushed.bytes / 1024 ** 2).toFixed(1)} MB, ${pushed.digest}`,
    );
    return { entry, image };
  });
  await parts.images.put(key, built);
  return built;
}

/** Mostly at hand. When it has to be assembled first, the build says so: it takes a while. */
async function ensureBase(parts: BuildParts, job: BuildJob, progress: Progress): Promise<BaseImage> {
  const { runtime } = job.config;
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
