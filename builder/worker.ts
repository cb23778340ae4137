/**
 * Takes build jobs from the queue and writes down how they went.
 *
 * Invariants: every job that was taken ends with a build record in an ended state and an `end` event; the record is
 * written before the event. A job whose builder died is taken once more, by whichever builder notices; a builder that
 * stops in good order gives its jobs back at once.
 * Deliberately absent: what a build does (job/build.ts) and retries of builds that failed: they would fail again.
 */
import { type Job, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import type { Catalog } from '../infra/catalog/catalog.ts';
import { BUILD_QUEUE, type BuildJob } from '../infra/contract/jobs.ts';
import { durable } from '../infra/contract/keys.ts';
import type { Log } from '../infra/lib/log.ts';
import { inSpan, startSpan } from '../infra/lib/telemetry.ts';
import type { BuildRecord } from '../sdk/protocol/api.ts';
import type { BuildOutcome } from './job/build.ts';
import { SkiffError, toSkiffError } from '../sdk/protocol/errors.ts';
import { BUILD_MS_MAX, BUILDS_KEPT, BUILDS_KEPT_MS } from '../sdk/protocol/limits.ts';
import { Progress } from './job/progress.ts';

export interface BuildWorkerOptions {
  /** Connection that waits for Redis as long as it takes (`openBlockingRedis`); BullMQ makes further ones like it. */
  readonly redis: Redis;
  readonly catalog: Catalog;
  readonly concurrency: number;
  readonly runBuild: (job: BuildJob, progress: Progress, signal: AbortSignal) => Promise<BuildOutcome>;
  readonly log: Log;
  readonly buildMsMax?: number;
  /** A job whose builder was silent for this long is taken by another one. */
  readonly lockMs?: number;
}

const LOCK_MS = 15_000;
const CANCEL_REMEMBERED_MS = 60_000;
/** Reasons of an abort; compared by identity. */
const CANCELLED = new SkiffError('BUILD_FAILED', 'the build was cancelled');
const STOPPING = new SkiffError(
  'UNAVAILABLE',
  'the builder is being stopped; the build starts again with the next one',
);

export class BuildWorker {
  readonly #options: BuildWorkerOptions;
  readonly #worker: Worker<BuildJob>;
  readonly #running = new Map<string, AbortController>();
  /** The word may come between the job's leaving the queue and its begin. */
  readonly #cancelled = new LRUCache<string, true>({ max: 1_000, ttl: CANCEL_REMEMBERED_MS });
  #isStopping = false;

  constructor(options: BuildWorkerOptions) {
    this.#options = options;
    const lockMs = options.lockMs ?? LOCK_MS;
    const kept = { age: BUILDS_KEPT_MS / 1_000, count: BUILDS_KEPT };
    this.#worker = new Worker<BuildJob>(BUILD_QUEUE, (job, token) => this.#process(job, token), {
      connection: options.redis,
      prefix: durable.bullPrefix,
      concurrency: options.concurrency,
      autorun: false,
      lockDuration: lockMs,
      stalledInterval: lockMs,
      maxStalledCount: 1,
      removeOnComplete: kept,
      removeOnFail: kept,
    });
    this.#worker.on('error', (error) =>
      options.log.warn({ error }, 'the build queue cannot be reached; trying again'),
    );
    this.#worker.on('failed', (job, error) => void this.#onGivenUp(job, error));
  }

  /** Begins to take jobs. */
  start(): void {
    void this.#worker.run();
  }

  /** Stops a build of this builder, also one that it is about to take; other ids are other builders' business. */
  cancel(buildId: string): void {
    this.#cancelled.set(buildId, true);
    this.#running.get(buildId)?.abort(CANCELLED);
  }

  /** Gives back what is being built and waits until it is. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const controller of this.#running.values()) controller.abort(STOPPING);
    await this.#worker.close();
  }

  async #process(job: Job<BuildJob>, token: string | undefined): Promise<void> {
    const { catalog, log } = this.#options;
    const { buildId, functionName, requestedMs, traceparent } = job.data;
    const running: BuildRecord = { id: buildId, functionName, state: 'running', createdMs: requestedMs };
    if (!(await catalog.putBuild(running))) return;
    const progress = new Progress(catalog, buildId, log);
    if (job.attemptsStarted > 1) progress.log('warn', 'the builder was lost; the build starts again');
    const controller = new AbortController();
    this.#running.set(buildId, controller);
    if (this.#cancelled.has(buildId)) controller.abort(CANCELLED);
    if (this.#isStopping) controller.abort(STOPPING);
    const span = startSpan('build', {
      traceparent,
      attributes: { 'skiff.function': functionName, 'skiff.build': buildId },
    });
    try {
      await inSpan(span, () => this.#build(job.data, running, progress, controller));
    } catch (error) {
      if (error !== STOPPING) throw error;
      await job.moveToWait(token);
      throw new WaitingError();
    } finally {
      this.#running.delete(buildId);
    }
  }

  async #build(
    job: BuildJob,
    running: BuildRecord,
    progress: Progress,
    controller: AbortController,
  ): Promise<void> {
    const { runBuild, log, buildMsMax = BUILD_MS_MAX } = this.#options;
    const late = new SkiffError('BUILD_FAILED', `the build took longer than ${buildMsMax / 1_000} s`);
    const timer = setTimeout(() => controller.abort(late), buildMsMax);
    try {
      const outcome = await runBuild(job, progress, controller.signal);
      await this.#end({ ...running, state: 'succeeded', ...outcome }, progress);
      log.info(
        { build: job.buildId, function: job.functionName, deployment: outcome.deployment, ms: progress.ms },
        'build succeeded',
      );
    } catch (error) {
      const { signal } = controller;
      if (signal.reason === STOPPING) throw STOPPING;
      await this.#endFailed(running, signal.aborted ? signal.reason : error, progress);
    } finally {
      clearTimeout(timer);
    }
  }

  async #endFailed(running: BuildRecord, failure: unknown, progress: Progress): Promise<void> {
    const error = toSkiffError(failure);
    const { code, message } = error;
    const facts = { build: running.id, function: running.functionName };
    // A fault in somebody's source is their news, not this log's; ours needs the whole chain.
    if (error.row.fault === 'platform') this.#options.log.error({ ...facts, error }, 'build failed');
    else this.#options.log.info({ ...facts, code, reason: message.split('\n', 1)[0] }, 'build failed');
    await this.#end(
      { ...running, state: failure === CANCELLED ? 'cancelled' : 'failed', error: { code, message } },
      progress,
    );
  }

  async #end(build: BuildRecord, progress: Progress): Promise<void> {
    const ended = { ...build, endedMs: Date.now() };
    await this.#options.catalog.putBuild(ended);
    await progress.end(ended);
  }

  /** BullMQ gives up a job whose builder died twice, or whose end could not be written. Its record must still end. */
  async #onGivenUp(job: Job<BuildJob> | undefined, cause: Error): Promise<void> {
    if (!job) return;
    const { buildId, deploymentId, functionName, requestedMs } = job.data;
    const { catalog, log } = this.#options;
    const running: BuildRecord = { id: buildId, functionName, state: 'running', createdMs: requestedMs };
    const progress = new Progress(catalog, buildId, log);
    try {
      const route = await catalog.resolveRoute(functionName);
      if (route?.targets.some(({ deployment }) => deployment.id === deploymentId)) {
        await this.#end({ ...running, state: 'succeeded', deployment: deploymentId }, progress);
        return;
      }
      await catalog.removeDeployment({ id: deploymentId, functionName });
      const message = 'the build was lost: its builder ended or could not reach Redis; deploy again';
      await this.#endFailed(running, new SkiffError('UNAVAILABLE', message, { cause }), progress);
    } catch (error) {
      log.error({ error, build: buildId }, 'the end of a lost build could not be written');
    }
  }
}
