import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { StartResult } from '../../../infra/contract/jobs.ts';
import { answerStarts, openTestBuilder, type TestBuilder } from '../../helpers/builder.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';
import { waitFor } from '../../helpers/wait.ts';

const PROCESS = fileURLToPath(new URL('../../helpers/builder-process.ts', import.meta.url));
const LOCK_MS = 1_000;
let redis: TestRedis;
let registry: TestRegistry;
let runner: ReturnType<typeof answerStarts>;
let answer: StartResult | undefined;
let builder: TestBuilder;

beforeEach(async () => {
  [redis, registry] = await Promise.all([startRedis({ persistent: true }), startTestRegistry()]);
  answer = undefined;
  runner = answerStarts(redis.url, () => answer);
  // Not started: it only uploads and looks, until a test wants it to build.
  builder = await openTestBuilder({
    redisUrl: redis.url,
    registryUrl: registry.url,
    worker: { lockMs: LOCK_MS },
  });
});
afterEach(async () => {
  await runner.close();
  await builder.close();
  await redis.close();
  await registry.stop();
});

async function startProcess(): Promise<{ child: ChildProcess; dataDir: string }> {
  const child = spawn(process.execPath, [PROCESS, redis.url, registry.url, String(LOCK_MS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, dataDir: line.toString().trim() };
}

async function killWhileItWaits(deploymentId: string, orders: number): Promise<void> {
  const { child, dataDir } = await startProcess();
  await waitFor(
    'the start order',
    () => runner.orders.filter(({ dep }) => dep === deploymentId).length >= orders,
    20_000,
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  await rm(dataDir, { recursive: true, force: true });
}

const FILES = { 'index.ts': 'export default () => new Response("hi");' };

test('a build whose builder was killed is built by another one, to the same deployment', async () => {
  const job = await builder.enqueue({ name: 'lost', files: FILES });
  await killWhileItWaits(job.deploymentId, 1);
  const before = await builder.catalog.getDeployment(job.deploymentId);
  expect(before?.id).toBe(job.deploymentId);
  expect(await builder.catalog.resolveRoute('lost')).toBeUndefined();
  answer = { ok: true, ms: 1 };
  builder.worker.start();
  const events = await builder.follow(job.buildId);
  expect(events.at(-1)).toMatchObject({
    type: 'end',
    build: { state: 'succeeded', deployment: job.deploymentId },
  });
  expect(await builder.catalog.getDeployment(job.deploymentId)).toEqual(before);
  expect((await builder.catalog.resolveRoute('lost'))?.targets[0]?.deployment.id).toBe(job.deploymentId);
});

test('a build that killed its builder twice is given up with words and an end event', async () => {
  const job = await builder.enqueue({ name: 'poison', files: FILES });
  await killWhileItWaits(job.deploymentId, 1);
  await killWhileItWaits(job.deploymentId, 2);
  builder.worker.start();
  const events = await builder.follow(job.buildId);
  expect(events.at(-1)).toMatchObject({
    type: 'end',
    build: {
      state: 'failed',
      error: { code: 'UNAVAILABLE', message: expect.stringMatching(/the build was lost/) },
    },
  });
  expect(await builder.catalog.resolveRoute('poison')).toBeUndefined();
  expect(await builder.catalog.getDeployment(job.deploymentId)).toBeUndefined();
});

test('builds go on after Redis was away for longer than a lock', async () => {
  answer = { ok: true, ms: 1 };
  builder.worker.start();
  const first = await builder.deploy({ name: 'outage', files: FILES });
  expect(first.end.build.state).toBe('succeeded');
  await redis.stop();
  // Longer than LOCK_MS and than the first retries.
  await new Promise((resolve) => setTimeout(resolve, 2 * LOCK_MS));
  await redis.start();
  await waitFor('commands are answered again', () => builder.redis.ping().catch(() => undefined));
  const second = await builder.deploy({ name: 'outage', files: { 'index.ts': 'export default 2;' } });
  expect(second.end.build.state).toBe('succeeded');
});
