/**
 * A builder in this process on a real Redis and a real registry. Its base image is small and not bootable; who answers
 * start orders is `answerStarts`, a consumer of the real demand list.
 */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import type { BaseImage } from '../../builder/base/base-image.ts';
import { holdImage } from '../../builder/collect/collector.ts';
import { engineFolders, openBundlerEngine } from '../../builder/bundle/engine.ts';
import { createImageDocument } from '../../builder/image/image-document.ts';
import { createExternalRegistries } from '../../infra/oci/external-registry.ts';
import { loadBaseImage } from '../../builder/image/function-image.ts';
import { DependencyStore } from '../../builder/install/dependency-store.ts';
import { runBuild, type BuildParts } from '../../builder/job/build.ts';
import { BuiltImage, InputIndex, RememberedConfig } from '../../builder/job/input-index.ts';
import { Verifier } from '../../builder/job/verify.ts';
import { BuildWorker, type BuildWorkerOptions } from '../../builder/worker.ts';
import { openCatalog, type Catalog } from '../../infra/catalog/catalog.ts';
import {
  BUILD_QUEUE,
  type BuildJob,
  type SourceJob,
  SOURCE_REPOSITORY,
  type StartOrder,
  type StartResult,
} from '../../infra/contract/jobs.ts';
import { durable, fast } from './keys.ts';
import { openBlockingRedis, openRedis } from '../../infra/lib/redis.ts';
import { packLayer } from '../../infra/oci/layer-pack.ts';
import { MEDIA } from '../../infra/oci/manifest.ts';
import { openRegistry, type Registry } from '../../infra/oci/registry.ts';
import type { BuildEvent } from '../../sdk/protocol/api.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { FunctionConfigInput } from '../../sdk/protocol/manifest.ts';

export interface DeployInput {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
  readonly entry?: string;
  readonly config?: FunctionConfigInput;
  readonly deploymentId?: string;
  readonly buildOnly?: boolean;
}

export interface TestBuilder {
  readonly catalog: Catalog;
  readonly registry: Registry;
  readonly worker: BuildWorker;
  readonly dataDir: string;
  readonly redis: Redis;
  /** Uploads the files and puts the job into the queue. */
  enqueue(input: DeployInput): Promise<SourceJob>;
  /** All events of a build, to its end. */
  follow(buildId: string, msMax?: number): Promise<BuildEvent[]>;
  deploy(
    input: DeployInput,
  ): Promise<{ job: SourceJob; events: BuildEvent[]; end: Extract<BuildEvent, { type: 'end' }> }>;
  /** Names below the folder where sources are unpacked. */
  listWork(): Promise<string[]>;
  close(): Promise<void>;
}

export interface TestBuilderOptions {
  readonly redisUrl: string;
  readonly registryUrl: string;
  readonly installer?: BuildParts['installer'];
  readonly worker?: Partial<BuildWorkerOptions>;
  readonly verifyMsMax?: number;
}

export async function openTestBuilder(options: TestBuilderOptions): Promise<TestBuilder> {
  const dataDir = await mkdtemp(join(tmpdir(), 'skiff-builder-'));
  const log = pino({ level: 'silent' });
  const redis = openRedis(options.redisUrl);
  const queueRedis = openBlockingRedis(options.redisUrl);
  await Promise.all([redis.connect(), queueRedis.connect()]);
  const registry = openRegistry({ url: options.registryUrl });
  const catalog = openCatalog(redis);
  const bundlerRoot = join(dataDir, 'bundler');
  const folders = engineFolders(bundlerRoot);
  const engine = await openBundlerEngine(process.getuid?.() === 0 ? bundlerRoot : undefined, process.env);
  await mkdir(folders.work, { recursive: true });
  const base = await pushSmallBase(registry);
  const verifier = new Verifier({
    redis,
    openBlocking: () => openBlockingRedis(options.redisUrl),
    ...(options.verifyMsMax ? { waitMsMax: options.verifyMsMax } : {}),
  });
  const parts: BuildParts = {
    catalog,
    registry,
    engine,
    installer: options.installer ?? NOTHING_TO_INSTALL,
    dependencies: new DependencyStore(folders.dependencies, 1e9),
    verifier,
    bases: { ensure: () => Promise.resolve(base) },
    images: new InputIndex(join(dataDir, 'images'), BuiltImage),
    configs: new InputIndex(join(dataDir, 'configs'), RememberedConfig),
    workFolder: folders.work,
    externals: createExternalRegistries({ logins: {}, findLogin: () => Promise.resolve(undefined) }),
    containers: { build: () => Promise.reject(new Error('needs root and a sandbox host')) },
    hold: (digest) => holdImage(redis, digest),
    log,
  };
  const worker = new BuildWorker({
    redis: queueRedis,
    catalog,
    concurrency: 2,
    runBuild: (job, progress, signal) => runBuild(parts, job, progress, signal),
    log,
    ...options.worker,
  });
  const queue = new Queue<BuildJob>(BUILD_QUEUE, { connection: redis, prefix: durable.bullPrefix });
  queue.on('error', () => {});

  const builder: TestBuilder = {
    catalog,
    registry,
    worker,
    dataDir,
    redis,
    async enqueue(input) {
      const entries = Object.entries(input.files).map(([path, data]) => ({ path, data }));
      const { data } = await packLayer(entries);
      const source = await registry.pushBlob(SOURCE_REPOSITORY, data);
      const job: SourceJob = {
        buildId: createId('bld'),
        deploymentId: input.deploymentId ?? createId('dep'),
        functionName: input.name,
        source: { digest: source.digest, bytes: data.length },
        ...(input.entry === undefined ? {} : { entry: input.entry }),
        config: input.config ?? {},
        ...(input.buildOnly ? { buildOnly: true } : {}),
        url: `http://test/f/${input.name}`,
        requestedMs: Date.now(),
      };
      await catalog.putBuild({
        id: job.buildId,
        functionName: job.functionName,
        state: 'queued',
        createdMs: job.requestedMs,
      });
      await queue.add('build', job, { jobId: job.buildId, attempts: 1 });
      return job;
    },
    async follow(buildId, msMax = 30_000) {
      const events: BuildEvent[] = [];
      for await (const event of catalog.followBuildEvents(buildId, {
        signal: AbortSignal.timeout(msMax),
        quietMs: 500,
      }))
        events.push(event);
      if (events.at(-1)?.type !== 'end')
        throw new Error(`build ${buildId} did not end within ${msMax} ms: ${JSON.stringify(events)}`);
      return events;
    },
    async deploy(input) {
      const job = await builder.enqueue(input);
      const events = await builder.follow(job.buildId);
      return { job, events, end: events.at(-1) as Extract<BuildEvent, { type: 'end' }> };
    },
    listWork: () => readdir(folders.work),
    async close() {
      await worker.stop();
      await queue.close();
      verifier.close();
      await engine.close();
      await registry.close();
      redis.disconnect();
      queueRedis.disconnect();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
  return builder;
}

/** For tests of sources without packages; the real installer needs root and a base image that boots. */
const NOTHING_TO_INSTALL: BuildParts['installer'] = {
  install: () => Promise.resolve(undefined),
  release: () => {},
};

async function pushSmallBase(registry: Registry): Promise<BaseImage> {
  const layer = await packLayer([{ path: 'skiff/guest.cjs', data: '// not bootable' }]);
  const { digest, diffId, bytes, mediaType } = layer;
  const document = createImageDocument({
    config: { Env: ['PATH=/usr/bin'] },
    layers: [{ digest, diffId, bytes, mediaType }],
    history: ['small base'],
    annotations: {},
  });
  await registry.pushBlob('skiff/node', layer.data);
  await registry.pushBlob('skiff/node', document.configBytes);
  const manifest = await registry.putManifest('skiff/node', document.manifestBytes, MEDIA.ociManifest, '26');
  const reference = `skiff/node@${manifest}`;
  return { reference, digest: manifest, ...(await loadBaseImage(registry, reference)) };
}

/** Takes start orders as a runner does and answers those that ask for it; an answer of undefined is silence. */
export function answerStarts(
  redisUrl: string,
  answer: (order: StartOrder) => Promise<StartResult | undefined> | StartResult | undefined,
): { readonly orders: readonly StartOrder[]; close(): Promise<void> } {
  const orders: StartOrder[] = [];
  const redis = openBlockingRedis(redisUrl);
  let isClosed = false;
  const loop = (async () => {
    while (!isClosed) {
      const reply = await redis.blpop(fast.demand, 1).catch(() => null);
      if (!reply) continue;
      const order = JSON.parse(reply[1]) as StartOrder;
      orders.push(order);
      const result = await answer(order);
      if (result && order.reply)
        await redis
          .multi()
          .rpush(fast.startResult(order.id), JSON.stringify(result))
          .expire(fast.startResult(order.id), 60)
          .exec();
    }
  })();
  return {
    orders,
    async close() {
      isClosed = true;
      redis.disconnect();
      await loop;
    },
  };
}
