import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createFunctionWish } from '../../../sdk/compose/function-wish.ts';
import { loadProject } from '../../../sdk/compose/project.ts';
import { kindOf } from '../../../sdk/compose/kind.ts';
import { formatSupport, judge, listSupport } from '../../../sdk/compose/support.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';
import { ROOT } from '../../helpers/source-tree.ts';

async function load(text: string) {
  await using folder = await createSourceFolder({ 'compose.yaml': text });
  const project = loadProject({ cwd: folder.path, env: {}, projectName: 'shop' });
  const [service] = project.services;
  if (service === undefined) throw new Error('no service');
  return { project, service, folder: folder.path };
}

test('a service is a function by x-skiff-function, a range of replicas, or the provider skiff', async () => {
  const kind = async (yaml: string) => kindOf((await load(`services: { a: ${yaml} }`)).service);
  expect(await kind('{ build: ., x-skiff-function: }')).toBe('function');
  expect(await kind('{ build: ., x-skiff-function: true }')).toBe('function');
  expect(await kind('{ build: ., deploy: { replicas: 0..5 } }')).toBe('function');
  expect(await kind('{ provider: { type: skiff, options: { source: ./a } } }')).toBe('function');
  expect(await kind('{ image: x, deploy: { replicas: 0 } }')).toBe('service');
});

test('takes memory, processors, scale, variables and labels from the service, below its own options', async () => {
  const { project, service, folder } = await load(`
services:
  Resize_img:
    build: ./fn
    environment: { A: service, B: service }
    deploy: { replicas: 1..20, resources: { limits: { memory: 256M, cpus: 0.5 } } }
    labels: { team: images }
    x-skiff-function: { entry: main.ts, timeout: 5s, memory: 1GB, env: { B: own } }`);
  expect(createFunctionWish(project, service)).toEqual({
    service: 'Resize_img',
    name: 'shop-resize-img',
    source: `${folder}/fn`,
    entry: 'main.ts',
    schedules: {},
    config: {
      memory: '1GB',
      cpu: 0.5,
      min: 1,
      max: 20,
      timeout: '5s',
      env: { A: 'service', B: 'own' },
      labels: { team: 'images', 'dev.skiff.application': 'shop', 'dev.skiff.service': 'Resize_img' },
    },
  });
});

test('takes options of the provider as docker compose writes them', async () => {
  const { project, service, folder } = await load(
    'services: { fn: { provider: { type: skiff, options: { source: ./a, memory: 128MB, name: my-fn, concurrency: 4 } } } }',
  );
  expect(createFunctionWish(project, service)).toMatchObject({
    name: 'my-fn',
    source: `${folder}/a`,
    config: { memory: '128MB', concurrency: '4' },
  });
});

test.each([
  ['{ x-skiff-function: {} }', 'services.a: build (the folder of its source) or image is needed'],
  ['{ build: ., x-skiff-function: { memory: lots } }', 'services.a.memory: "lots" is not a size'],
  ['{ build: ., x-skiff-function: { memroy: 1GB } }', 'memroy'],
  [
    '{ build: ., x-skiff-function: { name: "Not Good" } }',
    'services.a.x-skiff-function.name: a name has lower-case',
  ],
  [
    '{ build: ., x-skiff-function: { env: { PATH: x } } }',
    'services.a.env.PATH: PATH is set by the platform',
  ],
])('refuses the function %s', async (yaml, message) => {
  const { project, service } = await load(`services: { a: ${yaml} }`);
  expect(() => createFunctionWish(project, service)).toThrow(message);
});

test('every key of the specification is used, moot or refused, and says why', () => {
  const rows = listSupport();
  expect(rows.length).toBeGreaterThan(85);
  for (const [key, row] of rows) {
    expect(row, key).toBeDefined();
    for (const treatment of Object.values(row))
      expect(treatment).toMatch(/^(?:used|moot: .{10,}|no: .{10,})$/);
  }
});

test('lists what cannot be done and what changes nothing, each with its place', async () => {
  const { project } = await load(`
services:
  fn: { build: "https://example.org/x.git", x-skiff-function: , ports: ["80:80"], privileged: true, container_name: fn-1, healthcheck: { test: x } }
  db: { image: d, ports: ["80:80"], devices: [/dev/kvm], container_name: db-1, healthcheck: { test: x } }
  other: { provider: { type: model } }`);
  const { refused, moot } = judge(project);
  expect(refused.map(({ path }) => path)).toEqual([
    'services.fn.privileged',
    'services.fn.ports',
    'services.fn.build.context',
    'services.db.devices',
    'services.db.healthcheck.test',
    'services.other.provider',
  ]);
  expect(moot.map(({ path }) => path)).toEqual([
    'services.fn.container_name',
    'services.fn.healthcheck',
    'services.db.container_name',
    'services.db.ports.published',
  ]);
});

test('lists what is below deploy, too', async () => {
  const { project } = await load(`
services:
  web:
    image: w
    ports: ["8080:3000", "9090:9090"]
    deploy:
      endpoint_mode: vip
      resources: { limits: { pids: 5 }, reservations: { memory: 1G } }
      restart_policy: { condition: none, window: 5s }
      rollback_config: { parallelism: 2 }
      update_config: { max_failure_ratio: 0.1, parallelism: 2 }
      placement: { preferences: [{ spread: node.labels.zone }] }`);
  const { refused, moot } = judge(project);
  expect(refused.map(({ path }) => path)).toEqual([
    'services.web.ports',
    'services.web.deploy.resources.limits.pids',
    'services.web.deploy.update_config.max_failure_ratio',
    'services.web.deploy.restart_policy.condition',
  ]);
  expect(moot.map(({ path }) => path)).toEqual([
    'services.web.ports.published',
    'services.web.deploy.endpoint_mode',
    'services.web.deploy.resources.reservations.memory',
    'services.web.deploy.restart_policy.window',
  ]);
});

test('an image is started as the file says, listens where it says, and has the files that it says', async () => {
  const { project, service } = await load(`
services:
  web:
    image: w
    entrypoint: /bin/server --fast
    command: ["--name", "a b"]
    ports: ["80:3000"]
    configs: [motd, { source: settings, target: /etc/app/settings.json }]
configs:
  motd: { content: "hello" }
  settings: { content: "{}" }`);
  expect(createFunctionWish(project, service).config).toMatchObject({
    entrypoint: ['/bin/server', '--fast'],
    command: ['--name', 'a b'],
    port: 3000,
    files: { '/motd': 'hello', '/etc/app/settings.json': '{}' },
  });
});

test.each([
  ['ports: ["80:80"]', /port: programs in a sandbox have no rights to listen below 1024/],
  ['configs: [{ source: c, target: /tmp/x }]', /\/tmp and \/run are the platform/],
  ['configs: [e]', /configs\.e\.environment: write content/],
  ['configs: [gone]', /configs\.gone\.file: .* cannot be read/],
])('an image with %s is refused', async (keys, expected) => {
  const { project, service } = await load(
    `services: { web: { image: w, ${keys} } }\nconfigs: { c: { content: x }, e: { environment: E }, gone: { file: ./none } }`,
  );
  expect(() => createFunctionWish(project, service)).toThrow(expected);
});

test('the documented table of keys is that of the code', async () => {
  const documented = await readFile(join(ROOT, 'sdk/compose/keys.md'), 'utf8');
  const plain = (text: string): string => text.replaceAll(/ +/g, ' ').replaceAll(/-{3,}/g, '---');
  expect(plain(documented)).toBe(plain(formatSupport()));
});

test('declares calls of members by the names of their services: those it names, and those it depends on', async () => {
  const { project } = await load(`
services:
  api: { build: ., x-skiff-function: { calls: [resize, elsewhere, x=y] }, depends_on: [store] }
  resize: { build: ., x-skiff-function: { name: the-resizer } }
  store: { build: ., x-skiff-function: }`);
  const api = project.services.find(({ name }) => name === 'api');
  if (!api) throw new Error('no api');
  expect(createFunctionWish(project, api).config['calls']).toEqual([
    'resize=the-resizer',
    'elsewhere',
    'x=y',
    'store=shop-store',
  ]);
});

test('a service that is no function asks for replicas, in the words of the API', async () => {
  const { project, service } = await load(`
services:
  web:
    image: host:5000/web:1
    healthcheck: { test: [CMD, curl, "-f", "http://localhost:3000/ready?x=1"] }
    deploy:
      mode: replicated
      replicas: 3
      placement:
        constraints: [node.labels.zone==a]
        preferences: [{ spread: node.labels.rack }]
        max_replicas_per_node: 2
      update_config: { parallelism: 2, delay: 10s, order: start-first, failure_action: rollback, monitor: 1m }`);
  expect(createFunctionWish(project, service)).toMatchObject({
    image: 'host:5000/web:1',
    config: { readyPath: '/ready?x=1' },
    replicas: {
      mode: 'replicated',
      replicas: 3,
      constraints: ['node.labels.zone==a'],
      preferences: ['spread=node.labels.rack'],
      replicasMaxPerNode: 2,
      update: {
        parallelism: 2,
        delayMs: 10_000,
        order: 'start-first',
        failureAction: 'rollback',
        monitorMs: 60_000,
      },
    },
  });
});

test.each([
  ["'0 3 * * *'", { '': { cron: '0 3 * * *' } }],
  ['{ every: 30s, overlap: allow }', { '': { every: 30_000, overlap: 'allow' } }],
  [
    "{ night: '0 3 * * *', often: { every: 5m } }",
    { '-night': { cron: '0 3 * * *' }, '-often': { every: 300_000 } },
  ],
])('runs by the clock: schedule: %s', async (schedule, schedules) => {
  const { project, service } = await load(
    `services: { fn: { build: ., x-skiff-function: { schedule: ${schedule} } } }`,
  );
  expect(createFunctionWish(project, service)).toMatchObject({ schedules });
});

test.each([
  ['7', /schedule must be a cron expression/],
  ['{ every: never }', /schedule\.every: "never" is not a duration/],
  ['{ cron: "* * * * *", often: 1 }', /schedule: Unrecognized key: "often"/],
])('a schedule that is none is refused: %s', async (schedule, expected) => {
  const { project, service } = await load(
    `services: { fn: { build: ., x-skiff-function: { schedule: ${schedule} } } }`,
  );
  expect(() => createFunctionWish(project, service)).toThrow(expected);
});

test('results go to a member by the name of its service', async () => {
  const { project, service } = await load(`
services:
  fn: { build: ., x-skiff-function: { async: { retries: 1, onSuccess: { function: album }, onFailure: { url: 'https://x.example' } } } }
  album: { build: ., x-skiff-function: }`);
  expect(createFunctionWish(project, service).config).toMatchObject({
    async: { retries: 1, onSuccess: { function: 'shop-album' }, onFailure: { url: 'https://x.example' } },
  });
});

test('what is bound read-only is sent along; what would be written on a host is refused', async () => {
  const { project, service, folder } = await load(`
services:
  web:
    image: w
    volumes: ["./conf:/etc/app:ro", "./src:/src", { type: tmpfs, target: /tmp }]`);
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'conf/d'), { recursive: true });
  await writeFile(join(folder, 'conf/a.conf'), 'a');
  await writeFile(join(folder, 'conf/d/b.conf'), 'b');
  expect(createFunctionWish(project, service).config['files']).toEqual({
    '/etc/app/a.conf': 'a',
    '/etc/app/d/b.conf': 'b',
  });
  const { refused, moot } = judge(project);
  expect(refused.map(({ reason }) => reason.split(':', 1)[0])).toEqual(['/src']);
  expect(moot.map(({ path }) => path)).toEqual(['services.web.volumes']);
  await writeFile(join(folder, 'conf/picture'), Buffer.from([0xff, 0xd8, 0xff]));
  expect(() => createFunctionWish(project, service)).toThrow(/picture is not UTF-8 text/);
  await writeFile(join(folder, 'conf/picture'), 'x'.repeat(300 * 1024));
  expect(() => createFunctionWish(project, service)).toThrow(/has more than 256 KB/);
});
