import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type LoadOptions, loadProject } from '../../../sdk/compose/project.ts';
import type { Project, Service } from '../../../sdk/compose/model.ts';
import { createSourceFolder, type SourceFolder } from '../../helpers/source-folder.ts';

let folder: SourceFolder;
beforeEach(async () => {
  folder = await createSourceFolder({});
});
afterEach(() => folder[Symbol.asyncDispose]());

async function load(
  files: Readonly<Record<string, string>> | string,
  options: Partial<LoadOptions> = {},
): Promise<Project> {
  const all = typeof files === 'string' ? { 'compose.yaml': files } : files;
  for (const [name, text] of Object.entries(all)) {
    await mkdir(dirname(join(folder.path, name)), { recursive: true });
    await writeFile(join(folder.path, name), text);
  }
  return loadProject({ cwd: folder.path, env: {}, ...options });
}

const find = (project: Project, name: string): Service =>
  project.services.find((service) => service.name === name) as Service;

test('makes short forms long and reads numbers, times and paths', async () => {
  const project = await load(
    `
name: Shop_1
services:
  api:
    image: shop/api:1
    build: ./api
    command: node "my app.js"
    environment: [A=1, B=x=y, C]
    ports: ["8080:80", "127.0.0.1:9000-9001:90-91/udp", 3000]
    expose: [5000]
    volumes: [data:/var/data, ./conf:/etc/conf:ro, /tmp/anon]
    depends_on: [db]
    secrets: [key, { source: other, target: o, mode: 0440 }]
    networks: [back]
    healthcheck: { test: curl localhost, interval: 1m30s, timeout: 500ms, retries: "3", start_period: 5s }
    deploy: { replicas: 2, resources: { limits: { cpus: "0.5", memory: 64M } }, placement: { constraints: [node.role==worker] } }
    labels: [team=a]
  db: { image: postgres }
volumes: { data: }
secrets: { key: { file: ./key.txt }, other: { environment: OTHER } }
networks: { back: {} }
`,
    { env: { C: 'from outside' } },
  );
  expect(project.name).toBe('shop_1');
  expect(project.services.map(({ name }) => name)).toEqual(['db', 'api']);
  const api = find(project, 'api');
  expect(api).toMatchObject({
    build: { context: join(folder.path, 'api') },
    command: ['node', 'my app.js'],
    env: { A: '1', B: 'x=y', C: 'from outside' },
    ports: [
      { target: 80, published: '8080', protocol: 'tcp' },
      { target: 90, published: '9000', host_ip: '127.0.0.1', protocol: 'udp' },
      { target: 91, published: '9001', host_ip: '127.0.0.1', protocol: 'udp' },
      { target: 3000, protocol: 'tcp' },
    ],
    expose: ['5000'],
    volumes: [
      { type: 'volume', source: 'data', target: '/var/data', readOnly: false },
      { type: 'bind', source: join(folder.path, 'conf'), target: '/etc/conf', readOnly: true },
      { type: 'volume', target: '/tmp/anon', readOnly: false },
    ],
    dependsOn: { db: { condition: 'service_started', required: true } },
    secrets: [{ source: 'key' }, { source: 'other', target: 'o', mode: 0o440 }],
    networks: ['back'],
    healthcheck: {
      test: ['CMD-SHELL', 'curl localhost'],
      intervalMs: 90_000,
      timeoutMs: 500,
      retries: 3,
      startPeriodMs: 5_000,
      disable: false,
    },
    deploy: {
      replicas: { min: 2, max: 2, isRange: false },
      memory: '64M',
      cpus: 0.5,
      constraints: ['node.role==worker'],
    },
    labels: { team: 'a' },
  });
  expect(project.secrets['key']?.file).toBe(join(folder.path, 'key.txt'));
});

describe('several files', () => {
  const base = `
services:
  api:
    image: a
    command: [one, two]
    environment: { A: base, B: base }
    ports: ["80:80", "81:81"]
    volumes: [a:/data, b:/more]
    labels: { x: base }
    cap_drop: [ALL]
    logging: { driver: json, options: { max: "1" } }
volumes: { a: , b: , c: }`;

  test('merge: mappings by key, lists by their own key or to the end, commands as a whole', async () => {
    const project = await load({
      'compose.yaml': base,
      'compose.override.yaml': `
services:
  api:
    command: [three]
    environment: [B=over, C=over]
    ports: ["80:80", "82:82"]
    volumes: [c:/data]
    labels: [y=over]
    cap_drop: [NET_RAW]
    logging: { driver: none }`,
    });
    const api = find(project, 'api');
    expect(api.command).toEqual(['three']);
    expect(api.env).toEqual({ A: 'base', B: 'over', C: 'over' });
    expect(api.ports.map(({ target }) => target)).toEqual([81, 80, 82]);
    expect(api.volumes.map(({ source, target }) => `${source}:${target}`)).toEqual(['b:/more', 'c:/data']);
    expect(api.labels).toEqual({ x: 'base', y: 'over' });
    expect(api.raw['cap_drop']).toEqual(['ALL', 'NET_RAW']);
    expect(api.raw['logging']).toEqual({ driver: 'none' });
  });

  test('take away with !reset and replace with !override', async () => {
    const project = await load(
      {
        'a.yaml': base,
        'b.yaml': `
services:
  api:
    environment: !override { Z: only }
    ports: !reset []
    volumes: !override ["c:/only"]
    labels: { x: !reset null, z: "1" }`,
      },
      { files: ['a.yaml', 'b.yaml'] },
    );
    const api = find(project, 'api');
    expect(api.env).toEqual({ Z: 'only' });
    expect(api.ports).toEqual([]);
    expect(api.volumes.map(({ target }) => target)).toEqual(['/only']);
    expect(api.labels).toEqual({ z: '1' });
  });

  test('are named by -f, COMPOSE_FILE, or found in a folder above', async () => {
    await load({ 'compose.yaml': base, 'other.yml': 'services: { x: { image: x } }', 'deep/er/file': '' });
    const from = (options: Partial<LoadOptions>): string[] =>
      loadProject({ cwd: join(folder.path, 'deep/er'), env: {}, ...options }).services.map(
        ({ name }) => name,
      );
    expect(from({})).toEqual(['api']);
    expect(from({ env: { COMPOSE_FILE: '../../other.yml' } })).toEqual(['x']);
    expect(from({ env: { COMPOSE_FILE: '../../other.yml:../../compose.yaml' } })).toEqual(['x', 'api']);
    expect(from({ files: ['../../other.yml'], env: { COMPOSE_FILE: 'never' } })).toEqual(['x']);
    expect(() => from({ files: ['none.yaml'] })).toThrow('none.yaml does not exist');
  });
});

describe('extends', () => {
  test('takes a service of this file or another, with paths of that file', async () => {
    const project = await load({
      'compose.yaml': `
services:
  a: { extends: { service: base, file: lib/common.yaml }, environment: { B: a } }
  b: { extends: a, image: own }
`,
      'lib/common.yaml': `
services:
  root: { image: root, environment: { A: root, B: root } }
  base: { extends: root, build: ., env_file: vars.env }
`,
      'lib/vars.env': 'V=1\n',
    });
    expect(find(project, 'a')).toMatchObject({
      image: 'root',
      env: { A: 'root', B: 'a', V: '1' },
      build: { context: join(folder.path, 'lib') },
    });
    expect(find(project, 'b').image).toBe('own');
  });

  test('ends with an error when services extend each other, or one that is not there', async () => {
    const cycle = 'services: { a: { extends: b }, b: { extends: a } }';
    await expect(load(cycle)).rejects.toThrow('compose.yaml#a -> compose.yaml#b -> compose.yaml#a');
    await expect(load('services: { a: { extends: nobody } }')).rejects.toThrow('services.nobody is extended');
  });
});

describe('include', () => {
  test('adds an application with its own folder and defaults', async () => {
    const project = await load(
      {
        'compose.yaml':
          'include: [db/compose.yaml]\nservices: { api: { image: "${TAG}", depends_on: [db] } }',
        'db/compose.yaml': 'services: { db: { build: ., image: "${TAG}-${OWN}" } }\nvolumes: { v: }',
        'db/.env': 'TAG=inner\nOWN=inner\n',
        '.env': 'TAG=outer\n',
      },
      {},
    );
    expect(find(project, 'db')).toMatchObject({
      image: 'outer-inner',
      build: { context: join(folder.path, 'db') },
    });
    expect(find(project, 'api').image).toBe('outer');
    expect(Object.keys(project.volumes)).toEqual(['v']);
  });

  test('refuses two definitions that differ, and files that include each other', async () => {
    const files = {
      'compose.yaml': 'include: [{ path: a.yaml }, { path: b.yaml }]\nservices: { x: { image: x } }',
      'a.yaml': 'services: { s: { image: a } }',
      'b.yaml': 'services: { s: { image: b } }',
    };
    await expect(load(files)).rejects.toThrow('services.s is defined in two included files');
    await expect(load({ ...files, 'a.yaml': 'include: [compose.yaml]' })).rejects.toThrow(
      'compose.yaml -> a.yaml -> compose.yaml',
    );
  });
});

describe('which services', () => {
  const text = `
services:
  api: { image: a, depends_on: { db: { condition: service_healthy }, cache: { condition: service_started, required: false } } }
  db: { image: d }
  cache: { image: c, profiles: [full] }
  debug: { image: x, profiles: [dev, full], depends_on: [api] }`;
  const names = async (options: Partial<LoadOptions>): Promise<string[]> =>
    (await load(text, options)).services.map(({ name }) => name);

  test('those without a profile, and those of active profiles, dependencies first', async () => {
    expect(await names({})).toEqual(['db', 'api']);
    expect(await names({ profiles: ['dev'] })).toEqual(['db', 'api', 'debug']);
    expect(await names({ profiles: ['full'] })).toEqual(['db', 'cache', 'api', 'debug']);
    expect(await names({ env: { COMPOSE_PROFILES: 'dev,none' } })).toEqual(['db', 'api', 'debug']);
    expect((await load(text)).inactive).toEqual(['cache', 'debug']);
  });

  test('those that are named, with what they need', async () => {
    expect(await names({ services: ['db'] })).toEqual(['db']);
    expect(await names({ services: ['debug'] })).toEqual(['db', 'cache', 'api', 'debug']);
    await expect(names({ services: ['nobody'] })).rejects.toThrow(
      'there is no service "nobody"; there are api, db',
    );
  });

  test.each([
    ['services: { a: { image: x, depends_on: [b] }, b: { image: x, depends_on: [a] } }', 'a -> b -> a'],
    ['services: { a: { image: x, depends_on: [gone] } }', 'names "gone", which does not exist'],
    [
      'services: { a: { image: x, depends_on: [b] }, b: { image: x, profiles: [p] } }',
      'profile (p) is not active',
    ],
    ['services: { a: { image: x, volumes: ["v:/v"] } }', 'names "v", which is not under volumes'],
    ['services: { a: { image: x, networks: [n] } }', 'names "n", which is not under networks'],
    ['services: { a: { image: x, secrets: [s] } }', 'names "s", which is not under secrets'],
    ['name: x', 'there are no services in it'],
    ['services: { a: }', 'services.a must be a mapping'],
    ['services: { a: !reset null }', 'there are no services'],
  ])('%s is an error', async (broken, message) => {
    await expect(load(broken)).rejects.toThrow(message);
  });
});

test.each([
  [
    'services: { a: { imge: x } }',
    'compose.yaml: services.a.imge is not a key of the Compose Specification; did you mean image?',
  ],
  ['services: { a: { imgae: x } }', 'did you mean image?'],
  ['servces: {}', 'servces is not a key of the Compose Specification; did you mean services?'],
  ['services: { a: { ports: [{ published: 80 }] } }', 'services.a.ports.0.target must be a whole number'],
  [
    'services: { a: { healthcheck: { interval: often } } }',
    'services.a.healthcheck.interval must be a duration such as 1m30s',
  ],
  ['services: { a: { depends_on: { b: { condition: ready } } } }', 'services.a.depends_on.b.condition'],
  ['services: { a: { environment: 3 } }', 'services.a.environment must be a mapping of names to values'],
  [
    'services: { a: { deploy: { replicas: many } } }',
    'services.a.deploy.replicas must be a number, or a range',
  ],
  ['services: { a: { image: x, ports: ["eighty"] } }', 'services.a.ports[0]: "eighty" is not a port'],
  ['services: { a: { image: x, ports: ["1-3:1-2"] } }', 'ranges of different lengths'],
  ['services: { a: { image: x, volumes: ["a:b:c:d"] } }', 'is not source:target:mode'],
  ['services: { a: { image: x, env_file: none.env } }', 'none.env does not exist'],
  ['services: { a: { image: x, x-skiff-function: 3 } }', 'x-skiff-function must be true or a mapping'],
  ['services: { "a b": { image: x } }', 'services.a b a name has letters'],
])('refuses %s with words for its author', async (text, message) => {
  await expect(load(text)).rejects.toThrow(message);
});

test('keeps extensions, accepts an optional env_file, and notes what is obsolete or unset', async () => {
  const project = await load(`
version: "3.8"
x-anything: { goes: 1 }
services:
  a: { image: "a:\${TAG}", x-own: 1, env_file: [{ path: none.env, required: false }] }`);
  expect(project.notes).toEqual([
    'the variable TAG is not set; it counts as empty',
    'compose.yaml: "version" has no meaning any more; remove it',
  ]);
});
