/**
 * A deployment made from another one of the same function: other variables, limits or secrets, and the same code.
 * Invariant: nothing is built. Layers are used as they are; only the image's configuration, which has the variables,
 * is written anew, so that the image is still all there is to the function.
 */
import type { Catalog } from '../../infra/catalog/catalog.ts';
import type { CopyJob } from '../../infra/contract/jobs.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { describeIssues, FunctionConfig } from '../../sdk/protocol/manifest.ts';
import type { Built } from './build.ts';
import { importImage, type ImportParts } from './import-image.ts';
import type { Progress } from './progress.ts';
import { pushImage } from './push-image.ts';

export interface CopyParts extends ImportParts {
  readonly catalog: Pick<Catalog, 'getDeployment'>;
  readonly hold: (digest: string) => Promise<void>;
}

/** @throws SkiffError NOT_FOUND, INVALID_CONFIG, UNAVAILABLE; the reason of `signal`. */
export async function copyDeployment(
  parts: CopyParts,
  job: CopyJob,
  progress: Progress,
  signal: AbortSignal,
): Promise<Built> {
  const from = await parts.catalog.getDeployment(job.from);
  if (from?.functionName !== job.functionName) {
    throw new SkiffError('NOT_FOUND', `"${job.functionName}" has no deployment ${job.from} any more`);
  }
  if (job.config.runtime !== undefined && job.config.runtime !== from.config.runtime) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `runtime: ${job.from} was built for ${from.config.runtime}; another runtime needs a build of the source`,
    );
  }
  const settings = { ...from.config, ...job.config };
  const parsed = FunctionConfig.safeParse(settings);
  if (!parsed.success) throw new SkiffError('INVALID_CONFIG', describeIssues(parsed.error));
  await parts.hold(from.image.digest);
  const { base, layers, reference } = from.image;
  if (base === undefined || from.container !== undefined) {
    return importImage(parts, { ...job, config: settings, image: reference }, progress, signal);
  }
  const image = await pushImage(
    { ...parts, progress },
    {
      functionName: job.functionName,
      config: parsed.data,
      base,
      layers: layers.map((stored) => ({ stored })),
      entry: from.entry,
      source: from.source,
    },
    ({ digest }) => `the code of ${job.from}, ${digest}`,
  );
  return { config: parsed.data, built: { image, entry: from.entry }, source: from.source };
}
