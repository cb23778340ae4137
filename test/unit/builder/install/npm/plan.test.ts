import { expect, test } from 'vitest';
import { planNpm } from '../../../../../builder/install/npm/plan.ts';
import { openSourceTree } from '../../../../../builder/source/tree.ts';
import { createSourceFolder } from '../../../../helpers/source-folder.ts';

async function plan(files: Record<string, string | object>, runtime = 'node:26') {
  await using folder = await createSourceFolder(files);
  return await planNpm(await openSourceTree(folder.path), runtime);
}

const DEPENDENCIES = { dependencies: { zod: '^4' } };

test.each([
  ['there is no package.json', { 'index.ts': '' }],
  ['it names no packages', { 'package.json': { name: 'x' } }],
  ['it names packages for development only', { 'package.json': { devDependencies: { vitest: '5' } } }],
  ['the upload brings node_modules', { 'package.json': DEPENDENCIES, 'node_modules/zod/package.json': {} }],
])('installs nothing when %s', async (_what, files) => {
  await expect(plan(files)).resolves.toBeUndefined();
});

test('gives npm the manifest without scripts, and the lock file as it is', async () => {
  const lock = '{ "lockfileVersion": 3 }';
  const found = await plan({
    'package.json': { ...DEPENDENCIES, scripts: { preinstall: 'touch /x' }, license: 'MIT' },
    'package-lock.json': lock,
    '.npmrc': 'registry=http://evil',
    'index.ts': '',
  });
  expect(found).toMatchObject({ title: 'npm ci', args: ['ci'], hasLocalPackages: false, warnings: [] });
  expect(found?.files.map(({ path }) => path)).toEqual(['package.json', 'package-lock.json']);
  expect(JSON.parse(found?.files[0]?.text ?? '')).toEqual(DEPENDENCIES);
  expect(found?.files[1]?.text).toBe(lock);
});

test('has the same key while only code and scripts change', async () => {
  const before = await plan({ 'package.json': { ...DEPENDENCIES, scripts: { test: 'a' } }, 'index.ts': '1' });
  const after = await plan({
    'package.json': { scripts: { test: 'b' }, ...DEPENDENCIES, description: 'new' },
    'index.ts': '2',
  });
  expect(after?.key).toBe(before?.key);
});

test('has another key for other packages, another lock file or another runtime', async () => {
  const keys = await Promise.all([
    plan({ 'package.json': DEPENDENCIES }),
    plan({ 'package.json': { dependencies: { zod: '^3' } } }),
    plan({ 'package.json': DEPENDENCIES, 'package-lock.json': '{}' }),
    plan({ 'package.json': DEPENDENCIES }, 'node:24'),
  ]);
  expect(new Set(keys.map((each) => each?.key)).size).toBe(4);
});

test('brings the manifests of a monorepo', async () => {
  const found = await plan({
    'package.json': { workspaces: ['packages/*'], dependencies: { a: '*' } },
    'packages/a/package.json': { name: 'a' },
    'packages/a/node_modules/x/package.json': {},
    'packages/a/index.js': '',
  });
  expect(found?.files.map(({ path }) => path)).toEqual(['package.json', 'packages/a/package.json']);
  expect(found?.hasLocalPackages).toBe(true);
});

test.each([
  ['github:a/b'],
  ['a/b'],
  ['git+ssh://git@host/a.git'],
  ['https://host/a.tgz'],
  ['http://host/a.tgz'],
  ['file:./a.tgz'],
])('refuses a dependency on %s, which the sandbox cannot reach', async (spec) => {
  await expect(plan({ 'package.json': { dependencies: { a: spec } } })).rejects.toMatchObject({
    code: 'INVALID_SOURCE',
    message: expect.stringContaining(`dependency "a" is "${spec}"; only packages of the npm registry`),
  });
});

test.each([
  '^1.2.3',
  '1.x || 2',
  'latest',
  '*',
  '',
  'npm:other@^2',
  'npm:@scope/other@2',
  '>=1 <2',
  'file:./packages/a',
  'file:packages/a',
  'workspace:*',
])('takes the version %j', async (spec) => {
  await expect(
    plan({ 'package.json': { dependencies: { a: spec } }, 'packages/a/package.json': {} }),
  ).resolves.toMatchObject({ args: ['install'] });
});

test('runs the manager whose lock file there is, with those of its settings that choose versions', async () => {
  const pnpm = await plan({
    'package.json': { ...DEPENDENCIES, pnpm: { overrides: { a: '1.0.0' } } },
    'pnpm-lock.yaml': "lockfileVersion: '9.0'\n",
    'pnpm-workspace.yaml':
      '# ours\ncatalog:\n  a: ^1.0.0\nregistry: http://elsewhere.test/\noverrides:\n  b: 2.0.0\n',
  });
  expect(pnpm).toMatchObject({ manager: 'pnpm', args: ['install'], hasLocalPackages: false, warnings: [] });
  expect(pnpm?.files).toContainEqual({
    path: 'pnpm-workspace.yaml',
    text: 'catalog:\n  a: ^1.0.0\noverrides:\n  b: 2.0.0\n',
  });
  expect(pnpm?.files[0]?.text).toContain('"overrides"');
  const yarn = await plan({
    'package.json': DEPENDENCIES,
    'yarn.lock': '__metadata:\n  version: 8\n',
    '.yarnrc.yml': 'yarnPath: .yarn/releases/yarn.cjs\nnpmRegistryServer: http://elsewhere.test\n',
  });
  expect(yarn).toMatchObject({ manager: 'yarn', args: ['install', '--immutable'], warnings: [] });
  expect(yarn?.files.map(({ path }) => path)).toEqual(['package.json', 'yarn.lock']);
  const older = await plan({ 'package.json': DEPENDENCIES, 'yarn.lock': '__metadata:\n  version: 6\n' });
  expect(older).toMatchObject({ manager: 'yarn', args: ['install', '--no-immutable'] });
});

test('has another key when packages may run their scripts', async () => {
  await using folder = await createSourceFolder({ 'package.json': DEPENDENCIES });
  const tree = await openSourceTree(folder.path);
  const [without, withScripts] = [await planNpm(tree, 'node:26'), await planNpm(tree, 'node:26', true)];
  expect(without?.key).not.toBe(withScripts?.key);
});

test.each([['bun.lock'], ['deno.lock']])('says that %s is not read', async (name) => {
  const found = await plan({ 'package.json': DEPENDENCIES, [name]: '' });
  expect(found?.warnings).toEqual([
    expect.stringMatching(new RegExp(`^${name} is not read.*package-lock\\.json`)),
  ]);
});

test('gives npm a yarn.lock of the first generation, when it has none of its own', async () => {
  const yarn = '# THIS IS AN AUTOGENERATED FILE.\n# yarn lockfile v1\n';
  const found = await plan({ 'package.json': DEPENDENCIES, 'yarn.lock': yarn });
  expect(found).toMatchObject({ args: ['install'], warnings: [] });
  expect(found?.files).toContainEqual({ path: 'yarn.lock', text: yarn });
  const both = await plan({ 'package.json': DEPENDENCIES, 'yarn.lock': yarn, 'package-lock.json': '{}' });
  expect(both?.files.map(({ path }) => path)).not.toContain('yarn.lock');
});
