/** `skiff deploy` as a process, against a real gateway, registry and queue. */
import { FunctionConfig } from '../../../sdk/protocol/manifest.ts';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { unpackTar } from 'modern-tar';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { SOURCE_REPOSITORY } from '../../../infra/contract/jobs.ts';
import type { SourceJob } from '../../../infra/contract/jobs.ts';
import { digestOf } from '../../../infra/oci/digest.ts';
import { packLayer } from '../../../infra/oci/layer-pack.ts';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { startGateway, type TestGateway } from '../../helpers/gateway.ts';
import {
  type ScriptedBuild,
  type ScriptedBuilder,
  startScriptedBuilder,
} from '../../helpers/scripted-builder.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
let builder: ScriptedBuilder;
let cli: TestCli;

beforeAll(async () => {
  gateway = await startGateway();
  builder = await startScriptedBuilder(gateway);
});
afterAll(async () => {
  await builder?.close();
  await gateway?.close();
});
beforeEach(async () => {
  cli = await createCli({ SKIFF_URL: gateway.url, SKIFF_DATA_DIR: gateway.dataDir });
  builder.jobs.length = 0;
  builder.onBuild = (build) => build.succeed();
});
afterEach(() => cli.close());

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(cli.home, name)), { recursive: true });
    await writeFile(join(cli.home, name), text);
  }
}

test('prints the URL on stdout and the steps on stderr', async () => {
  await write({ 'hello.ts': 'export default () => new Response("hi")' });
  builder.onBuild = async (build) => {
    await build.step('bundle', 12, '1.2 KB');
    await build.emit({ type: 'log', atMs: Date.now(), level: 'warn', message: 'hello.ts:1:1: something' });
    await build.succeed();
  };
  const { code, stdout, stderr } = await cli.run(['deploy', 'hello.ts']);
  expect([code, stdout]).toEqual([0, `${gateway.url}/f/hello\n`]);
  expect(stderr).toMatch(
    /^upload {5}\d+ ms {2}1 file, 39 B\nbundle {5}12 ms {2}1\.2 KB\nhello\.ts:1:1: something\nhello is live in /,
  );
});

test('a module or an archive is read from standard input with "-"', async () => {
  const module = 'export default () => new Response("piped")';
  const args = ['deploy', '-', '--name', 'piped'];
  expect((await cli.run(args, { input: module })).code).toBe(0);
  expect(builder.jobs.at(-1)).toMatchObject({ functionName: 'piped', entry: 'index.ts' });
  expect((await cli.run([...args, '--runtime', 'python:3.11'], { input: 'x = 1' })).code).toBe(0);
  expect(builder.jobs.at(-1)).toMatchObject({ entry: 'main.py' });
  const { data } = await packLayer([{ path: 'index.ts', data: module }]);
  expect((await cli.run(args, { input: data })).code).toBe(0);
  expect((builder.jobs.at(-1) as SourceJob).source.digest).toBe(digestOf(data));
  expect(builder.jobs.at(-1)).not.toHaveProperty('entry');

  const nameless = await cli.run(['deploy', '-'], { input: module });
  expect([nameless.code, nameless.stderr]).toEqual([2, expect.stringContaining('--name hello')]);
  const empty = await cli.run(args, { input: ' ' });
  expect([empty.code, empty.stderr]).toEqual([1, expect.stringContaining('nothing was piped in')]);
});

test('with --json prints what scripts rely on, and nothing else', async () => {
  await write({ 'hello.ts': '1' });
  const { code, stdout, stderr } = await cli.run(['deploy', 'hello.ts', '--json']);
  expect([code, stderr]).toEqual([0, '']);
  expect(JSON.parse(stdout)).toEqual({
    name: 'hello',
    url: `${gateway.url}/f/hello`,
    deployment: builder.jobs[0]?.deploymentId,
    image: expect.stringMatching(/^functions\/hello@sha256:/),
    ms: { upload: expect.any(Number), total: expect.any(Number) },
  });
});

test('what the builder fetches is the packed source', async () => {
  await write({
    'app/package.json': '{"name":"shop"}',
    'app/index.ts': 'code',
    'app/.env': 'S=1',
    'app/node_modules/x.js': '',
  });
  expect((await cli.run(['deploy', 'app'])).code).toBe(0);
  const [job] = builder.jobs;
  expect(job?.functionName).toBe('shop');
  const blob = await fetch(`${gateway.registry.url}/v2/${SOURCE_REPOSITORY}/blobs/${job?.source.digest}`);
  const entries = await unpackTar(await blob.arrayBuffer());
  expect(entries.map(({ header }) => header.name)).toEqual(['index.ts', 'package.json']);
});

test('without a path deploys the folder it stands in; the same source has the same digest', async () => {
  await write({ 'one/thing/index.ts': 'x', 'two/thing/index.ts': 'x' });
  for (const folder of ['one', 'two']) {
    expect((await cli.run(['deploy'], { cwd: join(cli.home, folder, 'thing') })).code).toBe(0);
  }
  const [one, two] = builder.jobs;
  expect([one?.functionName, two?.functionName]).toEqual(['thing', 'thing']);
  expect(one?.source.digest).toBe(two?.source.digest);
});

test('hands on every option, and takes a variable without a value from the environment', async () => {
  await write({ 'hello.ts': '1', 'vars.env': 'A=file\nB=file\n' });
  const options =
    '--name greet --memory 512MB --cpu 0.5 --timeout 10s --concurrency 4 --min 1 --max 3 --keep-alive 1m';
  const more =
    '-e A=flag -e FROM_SHELL --env-file vars.env --network internet --access private -l team=red --runtime node:24';
  const args = ['deploy', 'hello.ts', ...options.split(' '), ...more.split(' ')];
  const { code, stderr } = await cli.run(args, { env: { FROM_SHELL: 'yes' } });
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  const [job] = builder.jobs;
  expect(job).toMatchObject({ functionName: 'greet', entry: 'hello.ts' });
  // What was said, as the builder will read it.
  expect(FunctionConfig.parse(job?.config)).toMatchObject({
    memory: 512 * 1024 ** 2,
    cpu: 0.5,
    timeout: 10_000,
    concurrency: 4,
    min: 1,
    max: 3,
    keepAlive: 60_000,
    env: { A: 'flag', B: 'file', FROM_SHELL: 'yes' },
    network: 'internet',
    access: 'private',
    labels: { team: 'red' },
    runtime: 'node:24',
  });
});

test('--detach prints the build and does not wait', async () => {
  await write({ 'hello.ts': '1' });
  const { code, stdout } = await cli.run(['deploy', 'hello.ts', '-d']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^bld-[0-9a-z]{26}\n$/);
});

describe('failures', () => {
  const failing = (code: string, message: string) => (build: ScriptedBuild) => build.fail(code, message);

  test('a syntax error shows file, line and frame, and ends with 1', async () => {
    await write({ 'hello.ts': 'const x y' });
    const frame = 'hello.ts:1:8: Expected ";" but found "y"\n\n    1 │ const x y\n      ╵         ^';
    builder.onBuild = failing('BUILD_FAILED', frame);
    const { code, stdout, stderr } = await cli.run(['deploy', 'hello.ts']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`error: ${frame}\n`);
  });

  test('a function that does not start ends with 3: what was live stays live', async () => {
    await write({ 'hello.ts': '1' });
    builder.onBuild = failing('COLD_START_FAILED', 'the function threw while loading: no such table');
    const { code, stderr } = await cli.run(['deploy', 'hello.ts']);
    expect(code).toBe(3);
    expect(stderr).toContain(
      'error: the function threw while loading: no such table\nhint: the deployment before it still serves',
    );
  });

  test.each([
    [['--memory', 'lots'], 'config.memory'],
    [['--name', 'Bad Name'], 'function name "Bad Name"'],
    [['-e', 'PATH=/x'], 'PATH is set by the platform'],
    [['--min', 'one'], '"one" is not a whole number'],
    [['-e', 'NOT_THERE'], 'there is no such variable in your environment'],
    [['--colour'], "unknown option '--colour'"],
  ])('%j is refused with 2 and the reason', async (args, reason) => {
    await write({ 'hello.ts': '1' });
    const { code, stderr } = await cli.run(['deploy', 'hello.ts', ...args]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(reason)]);
    expect(builder.jobs).toEqual([]);
  });

  test('a path that is not there is named', async () => {
    const { code, stderr } = await cli.run(['deploy', 'absent.ts']);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^error: .*absent\.ts does not exist\n$/)]);
  });
});

test('Ctrl-C cancels the build that was ordered', async () => {
  await write({ 'hello.ts': '1' });
  const release = Promise.withResolvers<void>();
  // The only builder is busy with another build, so this one waits in the queue and can be withdrawn.
  builder.onBuild = async (build) => {
    await release.promise;
    await build.succeed();
  };
  await cli.run(['deploy', 'hello.ts', '--name', 'blocker', '-d']);
  await waitFor('the builder is busy', () => builder.jobs.length === 1);
  const running = cli.start(['deploy', 'hello.ts', '--name', 'cancelled']);
  await waitFor('the upload', () => running.stderr().includes('upload'));
  const catalog = openCatalog(gateway.durableRedis);
  await waitFor('the order', async () => (await gateway.durableRedis.llen('{skiff}:bull:builds:wait')) === 1);
  running.process.kill('SIGINT');
  const { code, stderr } = await running.ended;
  release.resolve();
  expect(code).toBe(130);
  const [, id = ''] = /build (bld-\S+) is cancelled/.exec(stderr) ?? [];
  expect((await catalog.getBuild(id))?.state).toBe('cancelled');
});

test('on a terminal shows a mark for every finished step', async () => {
  await write({ 'hello.ts': '1' });
  builder.onBuild = async (build) => {
    await build.step('bundle', 12);
    await build.step('verify', 230);
    await build.succeed();
  };
  const shown = await cli.runInTerminal(['deploy', 'hello.ts']);
  expect(shown.code).toBe(0);
  const lines = shown.lines.join('\n');
  expect(lines).toMatch(/✓ upload .*\n✓ bundle {7}12 ms\n✓ verify {6}230 ms\nhello is live in/);
  expect(lines).toContain(`${gateway.url}/f/hello`);
});
