/** Ordering builds, looking at them, cancelling them. */
import { traceparentOf } from '../../infra/lib/telemetry.ts';
import { type Span, trace } from '@opentelemetry/api';
import { isBuildEnded } from '../../infra/catalog/builds.ts';
import { type BuildJob, SOURCE_REPOSITORY } from '../../infra/contract/jobs.ts';
import { findRuntime } from '../../infra/runtimes/catalog.ts';
import type { BuildRecord, DeployRequest } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId, createOwnedId } from '../../sdk/protocol/ids.ts';
import {
  FunctionConfig,
  type FunctionConfigInput,
  FunctionName,
  describeIssues,
} from '../../sdk/protocol/manifest.ts';
import { assertOwnNamespace } from '../../sdk/protocol/reach/namespaces.ts';
import { owns } from '../middleware/auth.ts';
import { listIssues } from '../middleware/input.ts';
import type { GatewayParts } from '../parts.ts';
import { functionUrl } from './links.ts';
import type { LineStreamer } from './lines.ts';
import type { Handlers, RequestVariables } from './route.ts';

export function createBuildHandlers(
  parts: GatewayParts,
  streamLines: LineStreamer,
): Pick<Handlers, 'deploy' | 'listBuilds' | 'getBuild' | 'followBuild' | 'cancelBuild'> {
  const { catalog } = parts;

  async function getBuild(id: string, { token }: RequestVariables): Promise<BuildRecord> {
    const build = await catalog.getBuild(id);
    if (build && owns(token, build.functionName)) return build;
    throw new SkiffError('NOT_FOUND', `there is no build ${id}; builds are kept for a day`);
  }

  return {
    async deploy({ name, body }, c) {
      const job = await createJob(parts, name, body);
      await order(parts, job);
      c.header('location', `/v1/builds/${job.buildId}`);
      return { build: job.buildId, deployment: job.deploymentId };
    },

    async listBuilds({ query }, c) {
      const ids = await parts.builds.listRecent(query.function, query.limit);
      const builds = await Promise.all(ids.map((id) => catalog.getBuild(id)));
      const isOwn = (name: string): boolean => owns(c.var.token, name);
      return { builds: builds.flatMap((build) => (build && isOwn(build.functionName) ? [build] : [])) };
    },

    getBuild: ({ id }, c) => getBuild(id, c.var),

    async followBuild({ id, signal }, c) {
      // Asked first, so that an unknown build or an absent Redis is an answer and not an empty stream.
      await getBuild(id, c.var);
      return streamLines(signal, (open) => catalog.followBuildEvents(id, { signal: open }));
    },

    async cancelBuild({ id }, c) {
      return cancel(parts, await getBuild(id, c.var));
    },
  };
}

/** The build as it then is: `cancelled` if it only waited, unchanged if a builder has it and must notice first. */
async function cancel({ catalog, builds }: GatewayParts, build: BuildRecord): Promise<BuildRecord> {
  if (isBuildEnded(build)) return build;
  if (!(await builds.tryWithdraw(build.id))) {
    await catalog.requestBuildCancel(build.id);
    return build;
  }
  const cancelled: BuildRecord = { ...build, state: 'cancelled', endedMs: Date.now() };
  await catalog.putBuild(cancelled);
  await catalog.appendBuildEvent(build.id, { type: 'end', atMs: Date.now(), build: cancelled });
  return cancelled;
}

/** Returns how many there were. A build that ended after its function was removed would bring it back to life. */
export async function cancelBuildsOf(parts: GatewayParts, functionName: string): Promise<number> {
  const ids = await parts.builds.findUnfinished(functionName);
  for (const id of ids) {
    const build = await parts.catalog.getBuild(id);
    if (build) await cancel(parts, build);
  }
  return ids.length;
}

async function createJob(parts: GatewayParts, name: string, request: DeployRequest): Promise<BuildJob> {
  const parsedName = FunctionName.safeParse(name);
  if (!parsedName.success) {
    throw new SkiffError('INVALID_NAME', `function name "${name}": ${parsedName.error.issues[0]?.message}`);
  }
  // Checked here so that a mistake costs no build; merged with what the code says and parsed for good by the builder.
  const checked = FunctionConfig.safeParse(request.config ?? {});
  if (!checked.success) {
    throw new SkiffError('INVALID_CONFIG', describeIssues(checked.error), {
      details: { issues: listIssues(checked.error) },
    });
  }
  assertOwnNamespace(name, checked.data);
  const common = {
    buildId: createId('bld'),
    deploymentId: createOwnedId('dep', name),
    functionName: name,
    config: (request.config ?? {}) as FunctionConfigInput,
    url: functionUrl(parts.publicUrl, name),
    requestedMs: Date.now(),
    ...(request.canary === undefined ? {} : { canary: request.canary }),
    ...(request.buildOnly === true ? { buildOnly: true } : {}),
    ...traceOf(trace.getActiveSpan()),
  };
  if (request.from !== undefined) return { ...common, from: await checkFrom(parts, name, request.from) };
  if (request.source === undefined) return { ...common, image: request.image as string };
  findRuntime(checked.data.runtime);
  const bytes = await parts.registry.headBlob(SOURCE_REPOSITORY, request.source.digest);
  if (bytes === undefined) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `source ${request.source.digest} is not here; POST it to /v1/uploads first`,
    );
  }
  return {
    ...common,
    source: { digest: request.source.digest, bytes },
    ...(request.entry === undefined ? {} : { entry: request.entry }),
  };
}

async function checkFrom({ catalog }: GatewayParts, name: string, from: string): Promise<string> {
  const deployment = await catalog.getDeployment(from);
  if (deployment?.functionName === name) return from;
  throw new SkiffError('INVALID_SOURCE', `function "${name}" has no deployment ${from}`);
}

function traceOf(span: Span | undefined): { traceparent?: string } {
  const traceparent = traceparentOf(span);
  return traceparent === undefined ? {} : { traceparent };
}

/** The record comes before the job: a builder may take the job at once. */
async function order({ catalog, builds }: GatewayParts, job: BuildJob): Promise<void> {
  const { buildId: id, functionName, requestedMs: createdMs } = job;
  await catalog.putBuild({ id, functionName, state: 'queued', createdMs });
  try {
    await builds.enqueue(job);
  } catch (error) {
    // If Redis is away this fails too, and the record expires by itself.
    await catalog.removeBuild(id).catch(() => {});
    throw error;
  }
}
