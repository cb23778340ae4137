/** The source of a job on disk: fetched, unpacked with distrust, and gone when the build is over. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type SourceJob, SOURCE_REPOSITORY } from '../../infra/contract/jobs.ts';
import { unpackArchive, type Unpacked } from '../../infra/oci/layer-unpack.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Progress } from '../job/progress.ts';
import { openSourceTree, type SourceTree } from '../source/tree.ts';

export interface SourceParts {
  readonly registry: Registry;
  /** Sources are unpacked in folders below it. */
  readonly workFolder: string;
}

/** A source on disk, and which build it belongs to. */
export interface FetchedSource {
  readonly tree: SourceTree;
  readonly job: SourceJob;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/**
 * Unpacks the source of a job for as long as `use` runs; afterwards nothing of it is left on disk.
 * @throws SkiffError INVALID_SOURCE, UNAVAILABLE; the reason of `signal`; what `use` throws.
 */
export async function withSource<Result>(
  parts: SourceParts,
  job: SourceJob,
  progress: Progress,
  signal: AbortSignal,
  use: (source: FetchedSource) => Promise<Result>,
): Promise<Result> {
  const folder = join(parts.workFolder, job.buildId);
  // A predecessor that died may have left its own.
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o711 });
  try {
    const { tree } = await progress.step(
      'fetch',
      () => fetchSource(parts, job, join(folder, 'src'), signal),
      ({ unpacked }) => `${unpacked.entries} entries, ${formatSize(unpacked.bytes)}`,
    );
    return await use({ tree, job, progress, signal });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function fetchSource(
  parts: SourceParts,
  job: SourceJob,
  target: string,
  signal: AbortSignal,
): Promise<{ tree: SourceTree; unpacked: Unpacked }> {
  let blob;
  try {
    blob = await parts.registry.pullBlob(SOURCE_REPOSITORY, job.source.digest, {
      bytes: job.source.bytes,
      signal,
    });
  } catch (error) {
    if (!(error instanceof SkiffError) || error.code !== 'NOT_FOUND') throw error;
    throw new SkiffError(
      'INVALID_SOURCE',
      `the uploaded source ${job.source.digest} is not there any more; upload it again`,
      { cause: error },
    );
  }
  const unpacked = await unpackArchive(blob, target, { policy: 'source', compression: 'detect' });
  signal.throwIfAborted();
  return { tree: await openSourceTree(target), unpacked };
}

export function formatSize(bytes: number): string {
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}
