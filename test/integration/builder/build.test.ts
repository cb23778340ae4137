import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from 'vitest';
import type { StartOrder, StartResult } from '../../../infra/contract/jobs.ts';
import { fast } from '../../helpers/keys.ts';
import { unpackArchive } from '../../../infra/oci/layer-unpack.ts';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildEvent } from '../../../sdk/protocol/api.ts';
import { createId } from '../../../sdk/protocol/ids.ts';
import { FunctionConfig } from '../../../sdk/protocol/manifest.ts';
import { answerStarts, openTestBuilder, type TestBuilder } from '../../helpers/builder.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';
import { waitFor } from '../../helpers/wait.ts';

let redis: TestRedis;
let registry: TestRegistry;
let builder: TestBuilder;
let answer: (order: StartOrder) => Promise<StartResult | undefined> | StartResult | undefined;
let runner: ReturnType<typeof answerStarts>;
const started = (): StartResult => ({ ok: true, ms: 5, sandbox: 'sbx-1' });

beforeAll(async () => {
  [redis, registry] = await Promise.all([startRedis(), startTestRegistry()]);
});
afterAll(() => Promise.all([redis?.close(), registry?.stop()]));
beforeEach(async () => {
  answer = started;
  builder = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url, verifyMsMax: 3_000 });
  runner = answerStarts(redis.url, (order) => answer(order));
  builder.worker.start();
});
afterEach(async () => {
  await runner.close();
  await builder.close();
});

const HELLO = { 'hello.ts': 'export default (): Response => new Response("hello");' };
const names = (() => {
  let count = 0;
  return () => `fn-${++count}`;
})();

function steps(events: readonly BuildEvent[], status: 'start' | 'done'): string[] {
  return events.flatMap((event) => (event.type === 'step' && event.status === status ? [event.step] : []));
}

async function expectNothingLeft(name: string): Promise<void> {
  expect(await builder.listWork()).toEqual([]);
  expect(await builder.catalog.listDeployments(name)).toEqual([]);
  expect(await builder.catalog.resolveRoute(name)).toBeUndefined();
  expect(await builder.redis.llen(fast.demand)).toBe(0);
}

test('turns a source into an image, a deployment and a live alias, and tells it step by step', async () => {
  const name = names();
  const { job, events, end } = await builder.deploy({
    name,
    files: HELLO,
    config: { env: { COLOUR: 'red' }, labels: { team: 'a' } },
  });
  expect(end.build).toMatchObject({
    state: 'succeeded',
    deployment: job.deploymentId,
    functionName: name,
    endedMs: expect.any(Number),
  });
  expect(await builder.catalog.getBuild(job.buildId)).toEqual(end.build);
  expect(steps(events, 'start')).toEqual(['fetch', 'install', 'bundle', 'push', 'verify', 'activate']);
  expect(steps(events, 'done')).toEqual(steps(events, 'start'));

  const route = await builder.catalog.resolveRoute(name);
  const deployment = route?.targets[0]?.deployment;
  expect(deployment).toMatchObject({
    id: job.deploymentId,
    functionName: name,
    createdMs: job.requestedMs,
    source: job.source,
    entry: '/var/task/index.cjs',
    config: FunctionConfig.parse(job.config),
  });
  expect(runner.orders).toEqual([{ id: expect.any(String), dep: job.deploymentId, reply: true }]);

  const { manifest } = await builder.registry.getManifest(
    `functions/${name}`,
    deployment?.image.digest ?? '',
  );
  const config = JSON.parse(
    (
      await builder.registry.readBlob(
        `functions/${name}`,
        manifest?.config as { digest: string; size: number },
      )
    ).toString(),
  ) as { config: { Env: string[]; Labels: object } };
  expect(config.config.Env).toEqual(
    expect.arrayContaining(['COLOUR=red', 'SKIFF_ENTRY=/var/task/index.cjs']),
  );
  expect(config.config.Labels).toMatchObject({ team: 'a', 'dev.skiff.function': name });
  const layer = deployment?.image.layers.at(-1);
  const folder = join(builder.dataDir, 'unpacked');
  await unpackArchive(await builder.registry.pullBlob(`functions/${name}`, layer?.digest ?? ''), folder, {
    policy: 'layer',
    compression: 'gzip',
  });
  expect(await readdir(join(folder, 'var/task'))).toEqual(['index.cjs', 'index.cjs.map']);
  expect(await readFile(join(folder, 'var/task/index.cjs'), 'utf8')).toContain('new Response("hello")');
  expect(await builder.listWork()).toEqual([]);
});

test('moves nothing before a runner has started the function', async () => {
  const name = names();
  let seen: unknown;
  answer = async (order) => {
    seen = [await builder.catalog.resolveRoute(name), (await builder.catalog.getDeployment(order.dep))?.id];
    return started();
  };
  const { job } = await builder.deploy({ name, files: HELLO });
  expect(seen).toEqual([undefined, job.deploymentId]);
});

test('leaves the live deployment alone when the new one does not start, and says why', async () => {
  const name = names();
  const first = await builder.deploy({ name, files: HELLO });
  answer = () => ({
    ok: false,
    ms: 9,
    code: 'COLD_START_FAILED',
    message: 'index.ts threw at import: boom',
    stack: 'Error: boom\n    at index.ts:1:7',
  });
  const second = await builder.deploy({
    name,
    files: { 'index.ts': 'throw new Error("boom"); export default 1;' },
  });
  expect(second.end.build).toMatchObject({
    state: 'failed',
    error: {
      code: 'COLD_START_FAILED',
      message: expect.stringMatching(/index\.ts threw at import: boom[^]*index\.ts:1:7/),
    },
  });
  const route = await builder.catalog.resolveRoute(name);
  expect(route?.targets.map(({ deployment }) => deployment.id)).toEqual([first.job.deploymentId]);
  expect((await builder.catalog.listDeployments(name)).map(({ id }) => id)).toEqual([first.job.deploymentId]);
  expect(await builder.listWork()).toEqual([]);
});

test.each<
  [
    string,
    Record<string, string>,
    { entry?: string; runtime?: 'python:3.11' },
    { code: string; message: RegExp },
  ]
>([
  [
    'a syntax error',
    { 'index.ts': 'let a b = 3;' },
    {},
    { code: 'BUILD_FAILED', message: /Expected ";" but found "b"[^]*index\.ts:1:6/ },
  ],
  [
    'an import of a host file',
    { 'index.ts': 'import x from "/etc/passwd"; export default x;' },
    {},
    { code: 'BUILD_FAILED', message: /outside the function's folder/ },
  ],
  [
    'an entry that is not there',
    { 'index.ts': '' },
    { entry: 'main.ts' },
    { code: 'INVALID_SOURCE', message: /entry "main\.ts" is not in the upload/ },
  ],
  [
    'a runtime of another language',
    { 'index.ts': '' },
    { runtime: 'python:3.11' },
    { code: 'INVALID_SOURCE', message: /runtime "python:3\.11" cannot run index\.ts/ },
  ],
])(
  'fails for %s with words for its author and leaves nothing',
  async (_what, files, { entry, runtime }, error) => {
    const name = names();
    const { end } = await builder.deploy({
      name,
      files,
      ...(entry ? { entry } : {}),
      ...(runtime ? { config: { runtime } } : {}),
    });
    expect(end.build).toMatchObject({
      state: 'failed',
      error: { code: error.code, message: expect.stringMatching(error.message) },
    });
    expect(end.build.error?.message).not.toContain(builder.dataDir);
    await expectNothingLeft(name);
  },
);

test('says that no runner is there and takes its order back', async () => {
  const name = names();
  await runner.close();
  const { end } = await builder.deploy({ name, files: HELLO });
  expect(end.build).toMatchObject({
    state: 'failed',
    error: { code: 'UNAVAILABLE', message: expect.stringMatching(/no runner had room/) },
  });
  await expectNothingLeft(name);
});

test('tries again while runners are full', async () => {
  let refusals = 2;
  answer = () => (refusals-- > 0 ? { ok: false, ms: 0, code: 'OVERLOADED', message: 'no room' } : started());
  const { end } = await builder.deploy({ name: names(), files: HELLO });
  expect(end.build.state).toBe('succeeded');
  expect(runner.orders.length).toBe(3);
});

test('a source that is gone from the registry is asked for again', async () => {
  const name = names();
  const files = { 'index.ts': `export default ${JSON.stringify(name)};` };
  await builder.worker.stop();
  const job = await builder.enqueue({ name, files });
  await builder.registry.deleteBlob('skiff/source', job.source.digest);
  const other = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url });
  try {
    other.worker.start();
    expect((await other.follow(job.buildId)).at(-1)).toMatchObject({
      build: {
        state: 'failed',
        error: { code: 'INVALID_SOURCE', message: expect.stringMatching(/upload it again/) },
      },
    });
  } finally {
    await other.close();
  }
});

test('uses the image again when source and settings are unchanged, and not when they changed', async () => {
  const name = names();
  const files = { 'index.ts': 'export default () => new Response("same");' };
  const first = await builder.deploy({ name, files });
  const second = await builder.deploy({ name, files, config: { memory: '512MB' } });
  const third = await builder.deploy({ name, files, config: { env: { A: '1' } } });
  expect(steps(second.events, 'start')).toEqual(['verify', 'activate']);
  expect(steps(third.events, 'start')).toContain('bundle');
  const [c, b, a] = await builder.catalog.listDeployments(name);
  expect(b?.image).toEqual(a?.image);
  expect(b?.config.memory).toBe(512 * 1024 ** 2);
  expect(c?.image.digest).not.toBe(a?.image.digest);
  expect(c?.image.layers).toEqual(a?.image.layers);
  expect([first, second, third].map(({ end }) => end.build.state)).toEqual([
    'succeeded',
    'succeeded',
    'succeeded',
  ]);
});

test('builds again when the registry lost the image', async () => {
  const name = names();
  const { job } = await builder.deploy({ name, files: HELLO });
  const digest = (await builder.catalog.getDeployment(job.deploymentId))?.image.digest ?? '';
  await builder.registry.deleteManifest(`functions/${name}`, digest);
  const again = await builder.deploy({ name, files: HELLO });
  expect(again.end.build.state).toBe('succeeded');
  expect(steps(again.events, 'start')).toContain('bundle');
  expect(await builder.registry.headManifest(`functions/${name}`, digest)).toBe(digest);
});

test('gives the same image digest for the same source on another builder', async () => {
  const name = names();
  const files = {
    'index.ts': 'import "./a.ts"; export default () => import.meta.url;',
    'a.ts': 'export {};',
  };
  const first = await builder.deploy({ name, files });
  await builder.worker.stop();
  const other = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url });
  try {
    other.worker.start();
    const second = await other.deploy({ name, files });
    expect(steps(second.events, 'start')).toContain('bundle');
    const digests = await Promise.all(
      [first, second].map(
        async ({ job }) => (await other.catalog.getDeployment(job.deploymentId))?.image.digest,
      ),
    );
    expect(digests[0]).toBe(digests[1]);
  } finally {
    await other.close();
  }
});

test('an older deploy that ends later does not replace a newer one', async () => {
  const name = names();
  const older = createId('dep', Date.now() - 10_000);
  const newer = await builder.deploy({ name, files: HELLO });
  const late = await builder.deploy({ name, files: { 'index.ts': 'export default 2' }, deploymentId: older });
  expect(late.end.build).toMatchObject({
    state: 'failed',
    error: { code: 'CONFLICT', message: expect.stringContaining(newer.job.deploymentId) },
  });
  expect((await builder.catalog.resolveRoute(name))?.targets.map(({ deployment }) => deployment.id)).toEqual([
    newer.job.deploymentId,
  ]);
  expect(await builder.catalog.getDeployment(older)).toBeUndefined();
});

test('a cancelled build ends as cancelled and leaves nothing', async () => {
  const name = names();
  answer = () => undefined;
  const job = await builder.enqueue({ name, files: HELLO });
  await waitFor('the start order', () => runner.orders.find(({ dep }) => dep === job.deploymentId));
  builder.worker.cancel(job.buildId);
  expect((await builder.follow(job.buildId)).at(-1)).toMatchObject({
    type: 'end',
    build: { state: 'cancelled' },
  });
  await expectNothingLeft(name);
});

test('a cancel that comes before the build begins holds', async () => {
  const name = names();
  await builder.worker.stop();
  const job = await builder.enqueue({ name, files: HELLO });
  const other = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url });
  try {
    other.worker.cancel(job.buildId);
    other.worker.start();
    expect((await other.follow(job.buildId)).at(-1)).toMatchObject({
      type: 'end',
      build: { state: 'cancelled' },
    });
    expect(runner.orders).toEqual([]);
  } finally {
    await other.close();
  }
});

test('a build that was cancelled while it waited is not begun', async () => {
  const name = names();
  await builder.worker.stop();
  const job = await builder.enqueue({ name, files: HELLO });
  await builder.catalog.putBuild({
    id: job.buildId,
    functionName: name,
    state: 'cancelled',
    createdMs: job.requestedMs,
  });
  const other = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url });
  try {
    other.worker.start();
    const after = await other.deploy({ name: names(), files: HELLO });
    expect(after.end.build.state).toBe('succeeded');
    expect(await other.catalog.getBuild(job.buildId)).toMatchObject({ state: 'cancelled' });
    expect(await other.catalog.listDeployments(name)).toEqual([]);
  } finally {
    await other.close();
  }
});

test('a builder that is stopped gives its build to the next one', async () => {
  const name = names();
  answer = () => undefined;
  const job = await builder.enqueue({ name, files: HELLO });
  await waitFor('the start order', () => runner.orders.find(({ dep }) => dep === job.deploymentId));
  await builder.worker.stop();
  expect(await builder.catalog.getBuild(job.buildId)).toMatchObject({ state: 'running' });
  answer = started;
  const next = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url });
  try {
    next.worker.start();
    const events = await next.follow(job.buildId);
    expect(events.at(-1)).toMatchObject({
      type: 'end',
      build: { state: 'succeeded', deployment: job.deploymentId },
    });
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'log', message: expect.stringContaining('starts again') }),
    );
  } finally {
    await next.close();
  }
});

test('a build that takes too long is ended', async () => {
  const name = names();
  await builder.worker.stop();
  answer = () => undefined;
  const slow = await openTestBuilder({
    redisUrl: redis.url,
    registryUrl: registry.url,
    worker: { buildMsMax: 300 },
  });
  try {
    slow.worker.start();
    const { end } = await slow.deploy({ name, files: HELLO });
    expect(end.build).toMatchObject({
      state: 'failed',
      error: { code: 'BUILD_FAILED', message: expect.stringMatching(/took longer than 0\.3 s/) },
    });
    await expectNothingLeft(name);
  } finally {
    await slow.close();
  }
});

test('a registry that is away is named as the reason', async () => {
  const name = names();
  await builder.worker.stop();
  const other = await openTestBuilder({ redisUrl: redis.url, registryUrl: registry.url });
  try {
    const job = await other.enqueue({ name, files: HELLO });
    await registry.pause();
    other.worker.start();
    expect((await other.follow(job.buildId)).at(-1)).toMatchObject({
      build: { state: 'failed', error: { code: 'UNAVAILABLE', message: expect.stringMatching(/registry/) } },
    });
  } finally {
    await registry.resume();
    await other.close();
  }
});

test('takes the configuration from the code, below what the deploy says', async () => {
  const name = names();
  const files = {
    'index.ts': `export const config = { memory: '512MB', timeout: '5s', env: { A: 'code', B: 'code' } };
      export default (): Response => new Response('x');`,
  };
  const config = { timeout: '7s', env: { B: 'deploy' } };
  const first = await builder.deploy({ name, files, config });
  expect(first.end.build.state).toBe('succeeded');
  const deployment = await builder.catalog.getDeployment(first.job.deploymentId);
  expect(deployment?.config).toMatchObject({
    memory: 512 * 1024 ** 2,
    timeout: 7_000,
    concurrency: 16,
    env: { A: 'code', B: 'deploy' },
  });

  // The second time nothing is fetched to know it.
  const again = await builder.deploy({ name, files, config });
  expect(steps(again.events, 'start')).toEqual(['verify', 'activate']);
  expect((await builder.catalog.getDeployment(again.job.deploymentId))?.config).toEqual(deployment?.config);
  const other = await builder.deploy({ name, files });
  expect((await builder.catalog.getDeployment(other.job.deploymentId))?.config.timeout).toBe(5_000);
});

test.each([
  ['is computed', `export const config = { memory: 2 ** 9 };`, 'config.memory is computed: 2 ** 9'],
  ['is not allowed', `export const config = { memory: '9PB' };`, '"9PB" is not a size'],
  ['is unknown', `export const config = { memroy: '1GB' };`, 'memroy'],
])('refuses a configuration in code that %s', async (_why, line, message) => {
  const name = names();
  const { end } = await builder.deploy({
    name,
    files: { 'index.ts': `${line}\nexport default () => new Response();` },
  });
  expect(end.build).toMatchObject({ state: 'failed', error: { code: 'INVALID_CONFIG' } });
  expect(end.build.error?.message).toContain(message);
  await expectNothingLeft(name);
});

test('a build that only builds makes the image, says what is in it, and deploys nothing', async () => {
  const name = names();
  const files = {
    'package.json': { name: 'x', main: 'index.ts' },
    'node_modules/left/index.js': `import { pad } from 'pad'; export const left = (s) => pad(s);`,
    'node_modules/left/package.json': { name: 'left', type: 'module', main: 'index.js' },
    'node_modules/pad/index.js': `export const pad = (s) => '${'-'.repeat(2_000)}' + s; export const unused = '${'u'.repeat(9_000)}';`,
    'node_modules/pad/package.json': { name: 'pad', type: 'module', main: 'index.js' },
    'index.ts': `import { left } from 'left'; import 'node:cluster'; export default () => new Response(left('x'));`,
  };
  const texts = Object.fromEntries(
    Object.entries(files).map(([path, text]) => [
      path,
      typeof text === 'string' ? text : JSON.stringify(text),
    ]),
  );
  const { end, events } = await builder.deploy({ name, files: texts, buildOnly: true });
  expect(end.build).toMatchObject({
    state: 'succeeded',
    image: expect.stringContaining(`functions/${name}@sha256:`),
  });
  expect(end.build).not.toHaveProperty('deployment');
  expect(steps(events, 'done')).toEqual(['fetch', 'install', 'bundle', 'push']);
  const report = end.build.report;
  expect(report?.parts.map((part) => part.name)).toEqual(['pad', 'index.ts', 'left']);
  expect(report?.parts[0]).toMatchObject({ modules: 1, via: ['index.ts', 'left'] });
  expect(report?.parts[0]?.bytes).toBeLessThan(4_000);
  expect(report?.parts[2]?.via).toEqual(['index.ts']);
  const warnings = events.flatMap((event) =>
    event.type === 'log' && event.level === 'warn' ? [event.message] : [],
  );
  expect(warnings.join()).toMatch(/index\.ts: "cluster" will not work in a sandbox/);
  await expectNothingLeft(name);
});
