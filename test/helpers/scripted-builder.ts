/**
 * Takes build jobs from the real queue and does what the test says with them, so that what a client sees of a
 * build can be tested without base images and containers. The real builder has tests of its own.
 */
import { Worker } from 'bullmq';
import { openCatalog } from '../../infra/catalog/catalog.ts';
import { BUILD_QUEUE, type SourceJob } from '../../infra/contract/jobs.ts';
import { durable } from './keys.ts';
import { openBlockingRedis } from '../../infra/lib/redis.ts';
import type { BuildEvent, BuildRecord, BuildStep } from '../../sdk/protocol/api.ts';
import { FunctionConfig } from '../../sdk/protocol/manifest.ts';
import { createDeployment } from './deployment.ts';
import type { TestGateway } from './gateway.ts';

export interface ScriptedBuild {
  readonly job: SourceJob;
  emit(event: BuildEvent): Promise<void>;
  step(step: BuildStep, ms: number, detail?: string): Promise<void>;
  succeed(): Promise<void>;
  fail(code: string, message: string): Promise<void>;
}

export interface ScriptedBuilder {
  /** What to do with the next builds. */
  onBuild: (build: ScriptedBuild) => Promise<void>;
  readonly jobs: SourceJob[];
  close(): Promise<void>;
}

export async function startScriptedBuilder(gateway: TestGateway): Promise<ScriptedBuilder> {
  const catalog = openCatalog(gateway.durableRedis);
  const connection = openBlockingRedis(gateway.durable.url);
  const builder: ScriptedBuilder = {
    jobs: [],
    onBuild: (build) => build.succeed(),
    async close() {
      await worker.close(true);
      connection.disconnect();
    },
  };

  function open(job: SourceJob): ScriptedBuild {
    const emit = (event: BuildEvent) => catalog.appendBuildEvent(job.buildId, event);
    const end = async (result: Partial<BuildRecord> & Pick<BuildRecord, 'state'>) => {
      const base = { id: job.buildId, functionName: job.functionName, createdMs: job.requestedMs };
      const build: BuildRecord = { ...base, ...result, endedMs: Date.now() };
      await catalog.putBuild(build);
      await emit({ type: 'end', atMs: Date.now(), build });
    };
    return {
      job,
      emit,
      async step(step, ms, detail) {
        await emit({ type: 'step', atMs: Date.now(), step, status: 'start' });
        await emit({
          type: 'step',
          atMs: Date.now(),
          step,
          status: 'done',
          ms,
          ...(detail !== undefined && { detail }),
        });
      },
      async succeed() {
        const deployment = {
          ...createDeployment(job.functionName),
          id: job.deploymentId,
          config: FunctionConfig.parse(job.config),
        };
        await catalog.putDeployment(deployment);
        await catalog.setAlias(job.functionName, 'live', [{ deployment: job.deploymentId, weight: 100 }]);
        await end({ state: 'succeeded', deployment: job.deploymentId });
      },
      fail: (code, message) => end({ state: 'failed', error: { code, message } }),
    };
  }

  const worker = new Worker<SourceJob>(
    BUILD_QUEUE,
    async ({ data }) => {
      builder.jobs.push(data);
      await builder.onBuild(open(data));
    },
    { connection, prefix: durable.bullPrefix },
  );
  worker.on('error', () => {});
  await worker.waitUntilReady();
  return builder;
}
