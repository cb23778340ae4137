/** `skiff up`, `down`, `ps`, `config` and the provider of docker compose, as processes against a real gateway. */
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { type CliResult, createCli, type TestCli } from '../../helpers/cli.ts';
import { startGateway, type TestGateway } from '../../helpers/gateway.ts';
import { type ScriptedBuilder, startScriptedBuilder } from '../../helpers/scripted-builder.ts';

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
  const catalog = openCatalog(gateway.durableRedis);
  for (const { name } of await catalog.listFunctions()) await catalog.removeFunction(name);
  builder.jobs.length = 0;
  builder.onBuild = (build) => build.succeed();
});
afterEach(() => cli.close());

const APP = {
  'shop/compose.yaml': `
name: shop
services:
  web:
    build: ./web
    x-skiff-function: { memory: 128MB }
    depends_on: [api]
  api:
    build: ./api
    environment: { STAGE: "\${STAGE:-test}" }
    x-skiff-function:
`,
  'shop/web/index.ts': 'export default () => new Response("web")',
  'shop/api/index.ts': 'export default () => new Response("api")',
};

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(cli.home, name)), { recursive: true });
    await writeFile(join(cli.home, name), text);
  }
}
const run = (...args: string[]): Promise<CliResult> => cli.run(args, { cwd: join(cli.home, 'shop') });
async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await run(...args, '--json');
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  return JSON.parse(stdout) as T;
}

test('creates all in the order of their dependencies, and the second time does nothing', async () => {
  await write(APP);
  const first = await run('up', '-d');
  expect([first.code, first.stderr]).toEqual([
    0,
    expect.stringMatching(/✓ api {2}created {2}http\S+\/f\/shop-api.*\n✓ web {2}created/),
  ]);
  expect(builder.jobs.map(({ functionName }) => functionName)).toEqual(['shop-api', 'shop-web']);
  expect(builder.jobs.map(({ config }) => config)).toMatchObject([
    { env: { STAGE: 'test' }, labels: { 'dev.skiff.application': 'shop', 'dev.skiff.service': 'api' } },
    { memory: '128MB' },
  ]);
  const again = await run('up', '-d');
  expect([again.code, again.stderr]).toEqual([0, expect.stringMatching(/✓ api {2}unchanged/)]);
  expect(builder.jobs.length).toBe(2);
  const members = await json<{ service?: string; name: string; labels: object }[]>('ps');
  expect(members.map(({ name }) => name)).toEqual(['shop-api', 'shop-web']);
  expect((await run('ps')).stdout).toMatch(/^SERVICE +FUNCTION.*\napi +shop-api +live.*\nweb +shop-web/);
});

test('shows with --dry-run what would happen, with reasons, and changes nothing', async () => {
  await write(APP);
  await run('up', '-d', 'api');
  await write({
    'shop/api/index.ts': 'changed',
    'shop/.env': 'STAGE=live',
    'shop/compose.yaml': APP['shop/compose.yaml'].replaceAll('web', 'site'),
    'shop/site/index.ts': 'site',
  });
  builder.jobs.length = 0;
  const plan = await json<object>('up', '--dry-run');
  expect(plan).toEqual({
    name: 'shop',
    members: [
      { service: 'api', name: 'shop-api', action: 'update', reason: 'source, env' },
      { service: 'site', name: 'shop-site', action: 'create', reason: 'new' },
    ],
    secrets: [],
    schedules: [],
    orphans: [],
  });
  expect((await run('up', '--dry-run')).stdout).toBe(
    'shop\n~ api (shop-api)  source, env\n+ site (shop-site)  new\n',
  );
  expect(builder.jobs).toEqual([]);
});

test('tells of orphans, and removes them only when asked', async () => {
  await write(APP);
  await run('up', '-d');
  await write({
    'shop/compose.yaml':
      'name: shop\nservices: { api: { build: ./api, x-skiff-function: , environment: { STAGE: test } } }',
  });
  const kept = await run('up', '-d');
  expect(kept.stderr).toContain(
    '1 function of this application in the files no more: shop-web; --remove-orphans removes it',
  );
  expect((await json<unknown[]>('ps')).length).toBe(2);
  expect(await json<object>('up', '--remove-orphans')).toMatchObject({ removed: ['shop-web'] });
  expect((await json<{ name: string }[]>('ps')).map(({ name }) => name)).toEqual(['shop-api']);
});

test('a member that fails keeps those that need it from starting, and nothing else', async () => {
  await write({
    ...APP,
    'shop/compose.yaml': `${APP['shop/compose.yaml']}  other: { build: ./api, x-skiff-function: }\n`,
  });
  builder.onBuild = (build) =>
    build.job.functionName === 'shop-api'
      ? build.fail('BUILD_FAILED', 'index.ts:1:1: error: nonsense\n  1 | x')
      : build.succeed();
  const { code, stderr } = await run('up', '-d');
  expect(code).toBe(3);
  expect(stderr).toMatch(/✗ api {4}index\.ts:1:1: error: nonsense/);
  expect(stderr).toMatch(/- web {4}needs api, which failed/);
  expect(stderr).toMatch(/✓ other {2}created/);
  expect((await json<{ name: string }[]>('ps')).map(({ name }) => name)).toEqual(['shop-other']);
});

test('removes all of it with down, and nothing of others', async () => {
  await write({ ...APP, 'lonely.ts': 'x' });
  await run('up', '-d');
  await cli.run(['deploy', 'lonely.ts', '--name', 'lonely']);
  expect((await run('down', '--dry-run')).stdout).toBe('- shop-api\n- shop-web\n');
  expect(await json<object>('down')).toEqual({
    name: 'shop',
    removed: ['shop-api', 'shop-web'],
    volumes: [],
  });
  expect(JSON.parse((await cli.run(['ls', '--json'])).stdout)).toMatchObject([{ name: 'lonely' }]);
  expect((await run('down')).stderr).toContain('the application shop has nothing on the server');
});

test('refuses what cannot be done with a list of places and reasons, before anything is changed', async () => {
  await write({
    'shop/compose.yaml': `
services:
  fn: { build: ., x-skiff-function: , privileged: true, container_name: fn-1 }
  db: { image: postgres, volumes: ["./data:/data"], command: x, healthcheck: { test: pg_isready } }`,
    'shop/index.ts': 'x',
  });
  const { code, stderr } = await run('up', '-d');
  expect(code).toBe(2);
  expect(stderr).toContain('services.db.volumes: /data: bind it read-only (:ro), or use a named volume');
  expect(stderr).toContain('services.db.healthcheck.test: only an HTTP request is made');
  expect(stderr).toContain('services.fn.privileged: sandboxes have no capabilities');
  expect(stderr).toContain('services.fn.container_name: sandboxes have names of their own');
  expect(builder.jobs).toEqual([]);
  const config = await run('config', '--unsupported', '--format', 'json');
  expect(
    (JSON.parse(config.stdout) as { refused: { path: string }[] }).refused.map(({ path }) => path),
  ).toEqual(['services.fn.privileged', 'services.db.volumes', 'services.db.healthcheck.test']);
  const forced = await run('up', '-d', 'fn', '--ignore-unsupported');
  expect([forced.code, forced.stderr]).toEqual([0, expect.stringContaining('left out:')]);
});

test('a port that no sandbox can listen on is an error with its place', async () => {
  await write({
    'shop/compose.yaml': 'services: { web: { image: nginx, ports: ["80:80"] } }',
  });
  const { code, stderr } = await run('up', '-d');
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(/services\.web\.port: programs in a sandbox have no rights to listen below 1024/),
  ]);
});

describe('secrets', () => {
  const yaml = `
services:
  api: { build: ./api, x-skiff-function: , secrets: [api-key, token] }
secrets:
  api-key: { file: ./key.txt }
  token: { environment: TOKEN_VALUE }`;

  test('are created from files and the environment, and given to functions', async () => {
    await write({ ...APP, 'shop/compose.yaml': yaml, 'shop/key.txt': 'k1' });
    const cwd = join(cli.home, 'shop');
    const without = await cli.run(['up', '-d'], { cwd });
    expect([without.code, without.stderr]).toEqual([
      2,
      expect.stringContaining('secrets.token: its variable TOKEN_VALUE is not set'),
    ]);
    const env = { TOKEN_VALUE: 't' };
    expect((await cli.run(['up', '-d'], { cwd, env })).code).toBe(0);
    expect(builder.jobs[0]?.config).toMatchObject({ secrets: ['api-key', 'token'] });
    const versions = async () =>
      Object.fromEntries(
        (
          JSON.parse((await cli.run(['secret', 'ls', '--json'])).stdout) as {
            name: string;
            version: number;
          }[]
        ).map(({ name, version }) => [name, version]),
      );
    expect(await versions()).toMatchObject({ 'api-key': 1, token: 1 });
    await cli.run(['up', '-d'], { cwd });
    expect(await versions()).toMatchObject({ 'api-key': 1, token: 1 });
    await write({ 'shop/key.txt': 'k2' });
    const later = new Date(Date.now() + 5_000);
    await utimes(join(cwd, 'key.txt'), later, later);
    await cli.run(['up', '-d'], { cwd });
    expect(await versions()).toMatchObject({ 'api-key': 2, token: 1 });
  });
});

test('config prints what the files come to, also as a compose file that means the same', async () => {
  await write(APP);
  expect((await run('config', '--services')).stdout).toBe('api\nweb\n');
  expect((await run('config', '--quiet')).stdout).toBe('');
  const { stdout } = await run('config');
  expect(stdout).toContain(`context: ${join(cli.home, 'shop/api')}`);
  await write({ 'copy/compose.yaml': stdout });
  const copy = await cli.run(['config'], { cwd: join(cli.home, 'copy') });
  expect(copy.stdout).toBe(stdout);
  const functions = JSON.parse((await run('config', '--functions', '--format', 'json')).stdout) as Record<
    string,
    { name: string }
  >;
  expect(functions['api']?.name).toBe('shop-api');
  expect((await run('config', '--no-interpolate')).stdout).toContain('${STAGE:-test}');
});

test('says where a mistake is, and what to do without a file', async () => {
  await write({ 'shop/compose.yaml': 'services: { api: { biuld: . } }' });
  const wrong = await run('up');
  expect([wrong.code, wrong.stderr]).toEqual([
    2,
    expect.stringContaining(
      'services.api.biuld is not a key of the Compose Specification; did you mean build?',
    ),
  ]);
  const none = await cli.run(['up']);
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('there is no compose.yaml')]);
});

test('Ctrl-C during up cancels the builds it ordered', async () => {
  await write(APP);
  let begun = (): void => {};
  const started = new Promise<void>((resolve) => (begun = resolve));
  let release = (): void => {};
  builder.onBuild = async (build) => {
    begun();
    await new Promise<void>((resolve) => (release = resolve));
    await build.fail('BUILD_FAILED', 'cancelled');
  };
  const running = cli.start(['up', '-d'], { cwd: join(cli.home, 'shop') });
  await started;
  running.process.kill('SIGINT');
  expect((await running.ended).code).toBe(130);
  release();
});

describe('provider of docker compose', () => {
  const lines = ({ stdout }: CliResult): { type: string; message: string }[] =>
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; message: string });

  test('up deploys, tells the URL as a variable, and may come again; down removes', async () => {
    await write(APP);
    const up = [
      'compose',
      '--project-name',
      'shop',
      'up',
      '--source=./api',
      '--memory=128MB',
      '--env=A=b',
      'api',
    ];
    const first = await run(...up);
    expect(first.code).toBe(0);
    expect(lines(first)).toContainEqual({ type: 'setenv', message: `URL=${gateway.url}/f/shop-api` });
    expect(builder.jobs[0]?.config).toMatchObject({ memory: '128MB', env: { A: 'b' } });
    const again = await run(...up);
    expect(lines(again)).toContainEqual({ type: 'info', message: 'unchanged' });
    expect(builder.jobs.length).toBe(1);
    expect(lines(await run('compose', '--project-name', 'shop', 'down', 'api'))).toEqual([
      { type: 'info', message: 'removed' },
    ]);
    expect(lines(await run('compose', '--project-name', 'shop', 'down', 'api'))).toEqual([
      { type: 'info', message: 'was not there' },
    ]);
  });

  test('says errors in its own way, and describes its options', async () => {
    await write(APP);
    const bad = await run('compose', '--project-name', 'shop', 'up', '--source=./api', '--memroy=1', 'api');
    expect(bad.code).toBe(1);
    expect(lines(bad).at(-1)).toMatchObject({ type: 'error', message: expect.stringContaining('memroy') });
    const { stdout } = await run('compose', 'metadata');
    expect(
      (JSON.parse(stdout) as { up: { parameters: { name: string }[] } }).up.parameters.map(
        ({ name }) => name,
      ),
    ).toContain('memory');
    expect((await run('compose', 'nonsense')).code).toBe(2);
  });

  test('the same file works with skiff up', async () => {
    await write({
      ...APP,
      'shop/compose.yaml':
        'services: { api: { provider: { type: skiff, options: { source: ./api, memory: 128MB, env: [A=b] } } } }',
    });
    expect((await run('up', '-d')).code).toBe(0);
    expect(builder.jobs[0]).toMatchObject({
      functionName: 'shop-api',
      config: { memory: '128MB', env: { A: 'b' } },
    });
  });
});

test('services are kept running: created with their replicas, changed without a deploy, shown, and removed', async () => {
  const yaml = (replicas: number, more = ''): string => `
services:
  web:
    build: ./web
    healthcheck: { test: curl -f http://localhost:8080/health }
    deploy: { replicas: ${replicas}, placement: { constraints: [node.role==worker] }, update_config: { parallelism: 2, order: stop-first, delay: 5s }${more} }
  shop: { image: "127.0.0.1:5000/shop:1", deploy: { replicas: 0 }, x-skiff-service: { network: internet } }`;
  await write({ ...APP, 'shop/compose.yaml': yaml(0) });
  const first = await run('up', '-d');
  expect([first.code, first.stderr]).toEqual([
    0,
    expect.stringMatching(/✓ shop +created {2}0\/0 running {2}http\S+\/f\/shop-shop/),
  ]);
  expect(
    builder.jobs.map((job) => [job.functionName, 'image' in job ? job.image : undefined, job.config]),
  ).toEqual(
    expect.arrayContaining([
      [
        'shop-web-code',
        undefined,
        expect.objectContaining({ readyPath: '/health', constraints: ['node.role==worker'] }),
      ],
      ['shop-shop-code', '127.0.0.1:5000/shop:1', expect.objectContaining({ network: 'internet' })],
    ]),
  );
  const services = JSON.parse((await run('service', 'ls', '--json')).stdout) as {
    service: { name: string; spec: object };
  }[];
  expect(services.find(({ service }) => service.name === 'shop-web')?.service.spec).toMatchObject({
    replicas: 0,
    constraints: ['node.role==worker'],
    update: { parallelism: 2, order: 'stop-first', delayMs: 5_000 },
  });
  builder.jobs.length = 0;
  expect((await run('up', '-d')).stderr).toMatch(/✓ web {3}unchanged/);
  await write({ 'shop/compose.yaml': yaml(0).replace('parallelism: 2', 'parallelism: 3') });
  expect((await run('up', '--dry-run')).stdout).toContain('~ web (shop-web)  update');
  expect((await run('up', '-d')).stderr).toMatch(/✓ web {3}updated {2}0\/0 running/);
  expect(builder.jobs).toEqual([]);
  expect((await run('ps')).stdout).toMatch(/web +shop-web-code +live +0\/0/);
  expect(await json<object>('down')).toEqual({
    name: 'shop',
    removed: ['shop-shop-code', 'shop-web-code'],
    volumes: [],
  });
  expect(JSON.parse((await run('service', 'ls', '--json')).stdout)).toEqual([]);
});
