/**
 * Dependencies of deployed functions: real npm in a real sandbox, against a registry of the test's own on loopback,
 * which the sandbox can reach only through the builder.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient, type Client } from '../../../sdk/client/index.ts';
import type { FunctionConfigInput } from '../../../sdk/protocol/manifest.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { startNpmRegistry, type TestNpmRegistry } from '../../helpers/npm-registry.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

let npm: TestNpmRegistry;
let server: TestServer;
let client: Client;

beforeAll(async () => {
  npm = await startNpmRegistry([
    {
      name: 'greet',
      version: '1.2.0',
      manifest: {
        main: 'index.js',
        dependencies: { '@words/hello': '^2.0.0' },
        scripts: {
          postinstall: "node -e \"require('fs').writeFileSync('index.js', 'module.exports = () => 1')\"",
        },
      },
      files: {
        'index.js': `const hello = require('@words/hello'); module.exports = (name) => hello + ' ' + name;`,
      },
    },
    {
      name: '@words/hello',
      version: '2.0.1',
      manifest: { main: 'index.js' },
      files: { 'index.js': `module.exports = 'hello';` },
    },
    {
      name: '@words/hello',
      version: '2.0.0',
      manifest: { main: 'index.js' },
      files: { 'index.js': `module.exports = 'older hello';` },
    },
    {
      name: 'writes',
      version: '1.0.0',
      manifest: {
        main: 'index.js',
        scripts: { postinstall: 'node make.js && echo "exports.shell = true;" >> made.js' },
      },
      files: {
        'index.js': `try { module.exports = require('./made.js'); } catch { module.exports = {}; }`,
        'make.js': `require('fs').writeFileSync('made.js', 'exports.node = true;\\n');`,
      },
    },
    {
      name: 'compiled',
      version: '1.0.0',
      manifest: { main: 'index.js', gypfile: true, scripts: { install: 'node-gyp rebuild' } },
      files: {
        'index.js': `module.exports = require('./build/Release/answer.node');`,
        'binding.gyp': `{ 'targets': [{ 'target_name': 'answer', 'sources': ['answer.c'] }] }`,
        'answer.c': `#include <node_api.h>
static napi_value init(napi_env env, napi_value exports) {
  napi_value value;
  napi_create_int32(env, 42, &value);
  napi_set_named_property(env, exports, "answer", value);
  return exports;
}
NAPI_MODULE(NODE_GYP_MODULE_NAME, init)`,
      },
    },
    { name: 'broken', version: '1.0.0', files: { 'index.js': '' } },
    { name: 'late', version: '1.0.0', files: { 'index.js': 'module.exports = 1;' } },
  ]);
  server = await startServer({ env: { SKIFF_NPM_REGISTRY: npm.url } });
  client = createClient({ url: server.url, token: server.adminToken });
});
afterAll(async () => {
  await server?.stop();
  await npm?.close();
});

async function deploy(
  name: string,
  files: Record<string, string | object>,
  config: FunctionConfigInput = {},
): Promise<{ text: string; log: string[] }> {
  await using folder = await createSourceFolder(files);
  const found = findSource(folder.path);
  const log: string[] = [];
  const { url } = await client.deploy(name, {
    source: () => packSource(found.files),
    ...(found.entry === undefined ? {} : { entry: found.entry }),
    config,
    onEvent: (event) => {
      if (event.type === 'log') log.push(event.message);
    },
  });
  const response = await fetch(url);
  return { text: await response.text(), log };
}

const GREET = `import greet from 'greet'; export default () => new Response(greet('you'));`;
const lockOf = (names: readonly string[], dependencies: object): object => ({
  name: 'x',
  lockfileVersion: 3,
  requires: true,
  packages: {
    '': { dependencies },
    ...Object.fromEntries(names.map((name) => [`node_modules/${name}`, npm.lockEntry(name)])),
  },
});

/** Deploys a package of a monorepo as the command line does, and calls it. `names`: the files that went up. */
async function deployMember(name: string, path: string): Promise<{ names: string[]; text: string }> {
  const { files, entry } = findSource(path);
  const { url } = await client.deploy(name, { source: () => packSource(files), entry });
  return { names: files.map((file) => file.name), text: await (await fetch(url)).text() };
}

test('installs what package.json names, with what that needs, and runs no script of it', async () => {
  const { text, log } = await deploy('greeter', {
    'package.json': { dependencies: { greet: '^1.0.0' } },
    'index.ts': GREET,
  });
  expect(text).toBe('hello you');
  expect(log).toContainEqual(expect.stringContaining('there is no package-lock.json'));
  expect(npm.requests).toEqual(
    expect.arrayContaining([
      'GET /greet',
      'GET /@words/hello',
      'GET /greet/-/greet-1.2.0.tgz',
      'GET /@words/hello/-/hello-2.0.1.tgz',
    ]),
  );
});

test('asks the registry nothing when only the code changed', async () => {
  const packageJson = { dependencies: { greet: '^1.0.0' } };
  await deploy('changed', { 'package.json': packageJson, 'index.ts': GREET });
  npm.requests.length = 0;
  const { text } = await deploy('changed', {
    'package.json': packageJson,
    'index.ts': GREET.replace('you', 'again'),
  });
  expect(text).toBe('hello again');
  expect(npm.requests).toEqual([]);
});

test('follows the lock file, wherever it says the packages were', async () => {
  const dependencies = { greet: '*' };
  const { text, log } = await deploy('locked', {
    'package.json': { dependencies },
    'package-lock.json': lockOf(['greet', '@words/hello'], dependencies),
    'index.ts': GREET,
  });
  expect(text).toBe('hello you');
  expect(log).not.toContainEqual(expect.stringContaining('package-lock.json'));
});

test('refuses a package whose bytes are not those of the lock file', async () => {
  const dependencies = { broken: '1.0.0' };
  const lock = lockOf(['broken'], dependencies);
  npm.damage('broken');
  const failure = deploy('damaged', {
    'package.json': { dependencies },
    'package-lock.json': lock,
    'index.ts': `import 'broken'; export default () => new Response('');`,
  });
  await expect(failure).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/npm ci failed:[^]*EINTEGRITY|integrity/),
  });
});

test('says which package is not there', async () => {
  const failure = deploy('missing', {
    'package.json': { dependencies: { 'left-padd': '1' } },
    'index.ts': `import 'left-padd'; export default 1;`,
  });
  await expect(failure).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/npm install failed: .*404.*left-padd/),
  });
});

test('says that the lock file does not fit package.json', async () => {
  const failure = deploy('unfit', {
    'package.json': { dependencies: { greet: '1', late: '1' } },
    'package-lock.json': lockOf(['greet', '@words/hello'], { greet: '1' }),
    'index.ts': GREET,
  });
  await expect(failure).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/npm ci failed:[^]*in sync/),
  });
});

test('blames the registry when that is away, and succeeds when it is back', async () => {
  const files = {
    'package.json': { dependencies: { late: '1' } },
    'index.ts': `import late from 'late'; export default () => new Response(String(late));`,
  };
  npm.failWith(503);
  await expect(deploy('late', files)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringMatching(/the npm registry did not answer/),
  });
  npm.failWith(undefined);
  await expect(deploy('late', files)).resolves.toMatchObject({ text: '1' });
});

test('takes nothing from an .npmrc of the upload', async () => {
  const other = await startNpmRegistry([
    { name: 'greet', version: '9.0.0', files: { 'index.js': 'module.exports = () => "evil";' } },
  ]);
  try {
    const { text } = await deploy('npmrc', {
      '.npmrc': `registry=${other.url}\nignore-scripts=false\n`,
      'package.json': { dependencies: { greet: '1.2.0' } },
      'index.ts': GREET,
    });
    expect(text).toBe('hello you');
    expect(other.requests).toEqual([]);
  } finally {
    await other.close();
  }
});

test('links the packages of a monorepo to their sources in the upload', async () => {
  const files = {
    'package.json': { workspaces: ['packages/*'], main: 'app/index.ts', dependencies: { '@mine/lib': '*' } },
    'app/index.ts': `import { shout } from '@mine/lib'; export default () => new Response(shout('hey'));`,
    'packages/lib/package.json': {
      name: '@mine/lib',
      version: '1.0.0',
      main: 'lib.ts',
      dependencies: { greet: '1' },
    },
    'packages/lib/lib.ts': `import greet from 'greet'; export const shout = (text: string): string => greet(text).toUpperCase();`,
  };
  await expect(deploy('monorepo', files)).resolves.toMatchObject({ text: 'HELLO HEY' });
});

test('leaves no install, channel or source behind', () => {
  const list = (...path: string[]): string[] => readdirSync(join(server.dataDir, ...path));
  expect(list('builder', 'installs')).toEqual([]);
  expect(list('builder', 'bundler', 'work')).toEqual([]);
  expect(list('run', 'install')).toEqual([]);
  expect(list('builder', 'sandboxes', 'bundles')).toEqual([]);
});

test('takes the versions of a yarn.lock of the first generation', async () => {
  const { text, log } = await deploy('yarn', {
    'package.json': { dependencies: { greet: '^1.0.0' } },
    'yarn.lock': `# yarn lockfile v1


"@words/hello@^2.0.0":
  version "2.0.0"
  resolved "${npm.url}@words/hello/-/hello-2.0.0.tgz"

greet@^1.0.0:
  version "1.2.0"
  resolved "${npm.url}greet/-/greet-1.2.0.tgz"
  dependencies:
    "@words/hello" "^2.0.0"
`,
    'index.ts': GREET,
  });
  expect(text).toBe('older hello you');
  expect(log.join()).not.toContain('is not read');
});

test('runs install scripts of packages only for a function that allows them', async () => {
  const source = {
    'package.json': { dependencies: { writes: '1.0.0' } },
    'index.ts': `import made from 'writes'; export default () => Response.json(made);`,
  };
  expect((await deploy('scripts-off', source)).text).toBe('{}');
  const allowed = await deploy('scripts-on', source, { build: { installScripts: true } });
  expect(JSON.parse(allowed.text)).toEqual({ node: true, shell: true });
});

test.runIf(process.env['TEST_COMPILE_ADDON'])(
  'compiles a native addon in its install script, and runs it',
  { timeout: 400_000 },
  async () => {
    const { text, log } = await deploy(
      'compiles',
      {
        'package.json': { dependencies: { compiled: '1.0.0' } },
        'index.ts': `import compiled from 'compiled'; export default () => Response.json(compiled);`,
      },
      { build: { installScripts: true } },
    );
    expect(text).toBe('{"answer":42}');
    expect(log.join()).toContain('an install script looks for a compiler');
  },
);

test('installs by pnpm what a pnpm-lock.yaml names, and refuses one that does not fit', async () => {
  const lock = (specifier: string): string => `lockfileVersion: '9.0'
settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false
importers:
  .:
    dependencies:
      greet:
        specifier: ${specifier}
        version: 1.2.0
packages:
  '@words/hello@2.0.0':
    resolution: {integrity: ${npm.integrity('@words/hello', '2.0.0')}}
  greet@1.2.0:
    resolution: {integrity: ${npm.integrity('greet')}}
snapshots:
  '@words/hello@2.0.0': {}
  greet@1.2.0:
    dependencies:
      '@words/hello': 2.0.0
`;
  const source = (specifier: string) => ({
    'package.json': { dependencies: { greet: '^1.0.0' } },
    'pnpm-lock.yaml': lock(specifier),
    'index.ts': GREET,
  });
  const { text, log } = await deploy('with-pnpm', source('^1.0.0'));
  expect(text).toBe('older hello you');
  expect(log.join()).not.toContain('is not read');
  await expect(deploy('with-old-pnpm', source('^1.1.0'))).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/^pnpm install failed: ERR_PNPM_OUTDATED_LOCKFILE/),
  });
});

test('deploys one package of a pnpm workspace', async () => {
  await using folder = await createSourceFolder({
    'package.json': { name: 'root' },
    'pnpm-workspace.yaml': 'packages:\n  - packages/*\n  - "!packages/old"\n',
    'pnpm-lock.yaml': `lockfileVersion: '9.0'
settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false
importers:
  .: {}
  packages/api:
    dependencies:
      '@mine/lib':
        specifier: workspace:*
        version: link:../lib
  packages/lib:
    dependencies:
      greet:
        specifier: ^1.0.0
        version: 1.2.0
packages:
  '@words/hello@2.0.0':
    resolution: {integrity: ${npm.integrity('@words/hello', '2.0.0')}}
  greet@1.2.0:
    resolution: {integrity: ${npm.integrity('greet')}}
snapshots:
  '@words/hello@2.0.0': {}
  greet@1.2.0:
    dependencies:
      '@words/hello': 2.0.0
`,
    'packages/api/package.json': { name: '@mine/api', dependencies: { '@mine/lib': 'workspace:*' } },
    'packages/api/index.ts': `import { shout } from '@mine/lib'; export default () => new Response(shout('pnpm'));`,
    'packages/lib/package.json': { name: '@mine/lib', main: 'index.ts', dependencies: { greet: '^1.0.0' } },
    'packages/lib/index.ts': `import greet from 'greet'; export const shout = (text: string) => greet(text).toUpperCase();`,
    'packages/old/package.json': { name: '@mine/old' },
  });
  const { names, text } = await deployMember('pnpm-api', join(folder.path, 'packages/api'));
  expect(names).toEqual([
    'package.json',
    'packages/api/index.ts',
    'packages/api/package.json',
    'packages/lib/index.ts',
    'packages/lib/package.json',
    'pnpm-lock.yaml',
    'pnpm-workspace.yaml',
  ]);
  expect(text).toBe('OLDER HELLO PNPM');
});

test('installs by Yarn what a yarn.lock of its newer generations names, and refuses one that does not fit', async () => {
  const lock = (version: number, range: string): string => `__metadata:
  version: ${version}

"@words/hello@npm:^2.0.0":
  version: 2.0.0
  resolution: "@words/hello@npm:2.0.0"
  languageName: node
  linkType: hard

"greet@npm:${range}":
  version: 1.2.0
  resolution: "greet@npm:1.2.0"
  dependencies:
    "@words/hello": ^2.0.0
  languageName: node
  linkType: hard

"mine@workspace:.":
  version: 0.0.0-use.local
  resolution: "mine@workspace:."
  dependencies:
    greet: ^1.0.0
  languageName: unknown
  linkType: soft
`;
  const source = (version: number, range: string) => ({
    'package.json': { name: 'mine', dependencies: { greet: '^1.0.0' } },
    'yarn.lock': lock(version, range),
    '.yarnrc.yml': 'yarnPath: .yarn/releases/none.cjs\n',
    'index.ts': GREET,
  });
  expect((await deploy('with-berry', source(6, '^1.0.0'))).text).toBe('older hello you');
  await expect(deploy('with-old-berry', source(8, '^1.1.0'))).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/^yarn install --immutable failed: The lockfile would have been modified/),
  });
});

test('deploys one package of a monorepo by its folder, with the packages it needs', async () => {
  await using folder = await createSourceFolder({
    'package.json': { workspaces: ['packages/*'] },
    'packages/api/package.json': {
      name: '@mine/api',
      main: 'src/main.ts',
      dependencies: { '@mine/lib': '*' },
    },
    'packages/api/src/main.ts': `import { shout } from '@mine/lib'; export default () => new Response(shout('hey'));`,
    'packages/lib/package.json': { name: '@mine/lib', main: 'index.ts', dependencies: { greet: '^1.0.0' } },
    'packages/lib/index.ts': `import greet from 'greet'; export const shout = (text: string) => greet(text).toUpperCase();`,
    'packages/web/package.json': { name: '@mine/web' },
    'packages/web/large.txt': 'not needed',
  });
  const { names, text } = await deployMember('workspace-api', join(folder.path, 'packages/api'));
  expect(names).toEqual([
    'package.json',
    'packages/api/package.json',
    'packages/api/src/main.ts',
    'packages/lib/index.ts',
    'packages/lib/package.json',
    'packages/web/package.json',
  ]);
  expect(text).toBe('HELLO HEY');
});
