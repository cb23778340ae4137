import { expect, test } from 'vitest';
import { createFunctionWish } from '../../../sdk/compose/function-wish.ts';
import { loadProject } from '../../../sdk/compose/project.ts';
import { judge } from '../../../sdk/compose/support.ts';
import { ownVolumes } from '../../../sdk/compose/volumes.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

async function load(text: string, namespace?: string) {
  await using folder = await createSourceFolder({ 'compose.yaml': text });
  return loadProject({ cwd: folder.path, env: {}, projectName: 'shop', namespace });
}

test('a named volume is kept, by the name of its application or its own, with its size', async () => {
  const project = await load(`
services:
  db: { image: d, volumes: ["data:/var/lib/db", { type: volume, source: wal, target: /wal }, "theirs:/theirs"] }
volumes:
  data:
  wal: { name: db-log, driver_opts: { size: 5GB } }
  theirs: { external: true }`);
  const [db] = project.services.map((service) => createFunctionWish(project, service));
  expect(db?.config['volumes']).toEqual([
    { name: 'shop-data', target: '/var/lib/db' },
    { name: 'db-log', target: '/wal', size: '5GB' },
    { name: 'theirs', target: '/theirs' },
  ]);
  expect(judge(project)).toEqual({ refused: [], moot: [] });
  expect(ownVolumes(project)).toEqual(['shop-data', 'db-log']);
});

test('what a volume cannot be is refused, each with its place and what to do', async () => {
  const project = await load(`
services:
  fn: { build: ., x-skiff-function: , volumes: ["data:/data"] }
  two: { image: d, volumes: ["data:/data"], deploy: { replicas: 2 } }
  all: { image: d, volumes: ["logs:/logs"], deploy: { mode: global } }
  again: { image: d, volumes: ["logs:/logs", "own:/own:ro", "/nameless"] }
volumes:
  data: { driver: nfs }
  logs: { driver_opts: { size: 1KB } }
  own: { driver_opts: { type: tmpfs } }`);
  const refused = judge(project).refused.map(({ path, reason }) => `${path} ${reason}`);
  expect(refused).toEqual([
    expect.stringContaining('services.fn.volumes put the files into the source'),
    expect.stringContaining('services.two.volumes /data: the volume "data" is of fn already'),
    expect.stringContaining('services.all.volumes /logs: the volume "logs" is of again already'),
    expect.stringContaining('services.again.volumes /logs: the volume "logs" is of all already'),
    expect.stringContaining('services.again.volumes /own: a volume has one user'),
    expect.stringContaining('services.again.volumes /nameless: give the volume a name: data:/nameless'),
    expect.stringContaining('volumes.data.driver there is no driver but'),
    expect.stringContaining('volumes.logs.driver_opts.size a size is from 16MB'),
    expect.stringContaining('volumes.own.driver_opts.type only size can be said'),
  ]);
  const scaled = await load('services: { a: { image: d, scale: 2, volumes: ["x:/x"] } }\nvolumes: { x: }');
  expect(judge(scaled).refused).toMatchObject([{ reason: expect.stringContaining('has one replica') }]);
});

test('two mounts in one place, and places of the platform, are refused', async () => {
  const check = async (...volumes: string[]) => {
    const project = await load(
      `services: { a: { image: d, volumes: ${JSON.stringify(volumes)} } }\nvolumes: { x: , y: }`,
    );
    return () => project.services.map((service) => createFunctionWish(project, service));
  };
  expect(await check('x:/data', 'y:/data/inner')).toThrow(/mounted once, and not inside of another/);
  expect(await check('x:/proc/x')).toThrow(/are the platform/);
  expect(await check('x:/data', 'y:/database')).not.toThrow();
});

test('with a namespace, members are its own, and call each other by the names of their services', async () => {
  const project = await load(
    `
services:
  api: { build: ., x-skiff-function: { async: { onSuccess: { function: store } } }, depends_on: [store] }
  store: { build: ., x-skiff-function: }`,
    'team',
  );
  const wishes = project.services.map((service) => createFunctionWish(project, service));
  expect(wishes.map(({ name }) => name)).toEqual(['team.shop-store', 'team.shop-api']);
  expect(wishes[1]?.config).toMatchObject({
    calls: ['store=team.shop-store'],
    async: { onSuccess: { function: 'team.shop-store' } },
  });
});

test('what others wait for to its end is a function; a service never ends', async () => {
  const file = (kind: string) => `
services:
  api: { image: a, depends_on: { migrate: { condition: service_completed_successfully } } }
  migrate: { build: .${kind} }`;
  expect(judge(await load(file(', x-skiff-function: '))).refused).toEqual([]);
  expect(judge(await load(file(''))).refused).toMatchObject([
    {
      path: 'services.api.depends_on.migrate.condition',
      reason: expect.stringContaining('x-skiff-function'),
    },
  ]);
});
