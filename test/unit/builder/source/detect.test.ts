import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { detectSource } from '../../../../builder/source/detect.ts';
import { openSourceTree } from '../../../../builder/source/tree.ts';
import { createSourceFolder } from '../../../helpers/source-folder.ts';

async function detect(files: Record<string, string | object>, entry?: string, runtime?: string) {
  await using folder = await createSourceFolder(files);
  return await detectSource(await openSourceTree(folder.path), { entry, runtime });
}

test.each<[string, Record<string, string | object>, string]>([
  ['a single file', { 'hello.ts': '' }, 'hello.ts'],
  [
    'a single file beside tests, types and settings',
    { 'hello.ts': '', 'hello.test.ts': '', 'env.d.ts': '', 'vite.config.ts': '', 'README.md': '' },
    'hello.ts',
  ],
  ['index.ts before other modules', { 'index.ts': '', 'a.ts': '' }, 'index.ts'],
  ['src/index.tsx', { 'src/index.tsx': '', 'package.json': {} }, 'src/index.tsx'],
  ['index.cjs', { 'index.cjs': '' }, 'index.cjs'],
  ['"main"', { 'package.json': { main: './lib/app.js' }, 'lib/app.js': '' }, 'lib/app.js'],
  ['"main" that names a folder', { 'package.json': { main: 'lib' }, 'lib/index.js': '' }, 'lib/index.js'],
  [
    '"main" that names what TypeScript would write',
    { 'package.json': { main: 'app.js' }, 'app.ts': '' },
    'app.ts',
  ],
  [
    '"main" of a build that was not uploaded, and src/index.ts',
    { 'package.json': { main: 'dist/index.js' }, 'src/index.ts': '' },
    'src/index.ts',
  ],
  [
    '"module" before "main"',
    { 'package.json': { main: 'a.cjs', module: 'b.mjs' }, 'a.cjs': '', 'b.mjs': '' },
    'b.mjs',
  ],
  [
    '"exports" with conditions',
    {
      'package.json': { main: 'a.js', exports: { '.': { types: './t.d.ts', node: { import: './b.js' } } } },
      'a.js': '',
      'b.js': '',
    },
    'b.js',
  ],
  ['"exports" as a text', { 'package.json': { exports: './b.js' }, 'b.js': '', 'index.js': '' }, 'b.js'],
  ['a package.json beside Python', { 'package.json': {}, 'index.ts': '', 'main.py': '' }, 'index.ts'],
])('finds the entry of %s', async (_what, files, entry) => {
  await expect(detect(files)).resolves.toMatchObject({ language: 'javascript', entry });
});

test.each<[string, Record<string, string | object>, string]>([
  ['a single file', { 'hello.py': '' }, 'hello.py'],
  ['a single file beside tests', { 'hello.py': '', 'test_hello.py': '', 'conftest.py': '' }, 'hello.py'],
  ['main.py before app.py', { 'app.py': '', 'main.py': '', 'requirements.txt': 'x' }, 'main.py'],
  ['src/app.py', { 'src/app.py': '', 'pyproject.toml': '' }, 'src/app.py'],
])('finds the Python entry of %s', async (_what, files, entry) => {
  await expect(detect(files)).resolves.toMatchObject({ language: 'python', entry });
});

test('lets the runtime decide what a mixed folder is', async () => {
  const files = { 'index.ts': '', 'main.py': '' };
  await expect(detect(files, undefined, 'python:3.11')).resolves.toMatchObject({ entry: 'main.py' });
  await expect(detect(files, undefined, 'node:26')).resolves.toMatchObject({ entry: 'index.ts' });
});

test('takes the given entry, in any spelling', async () => {
  await expect(
    detect({ 'a.ts': '', 'b/c.ts': '', 'package.json': { main: 'a.ts' } }, './b//c.ts'),
  ).resolves.toMatchObject({ entry: 'b/c.ts' });
});

test.each([['/etc/passwd'], ['../x.ts'], ['a/../../x.ts'], ['.'], ['a\0.ts']])(
  'refuses the entry %j, which is no path inside',
  async (entry) => {
    await expect(detect({ 'a.ts': '' }, entry)).rejects.toMatchObject({
      code: 'INVALID_SOURCE',
      message: expect.stringContaining('not a path inside'),
    });
  },
);

test.each<
  [
    string,
    Record<string, string | object>,
    Parameters<typeof detect>[1],
    Parameters<typeof detect>[2],
    RegExp,
  ]
>([
  [
    'an entry that is not there',
    { 'a.ts': '' },
    'b.ts',
    undefined,
    /entry "b\.ts" is not in the upload; it has a\.ts/,
  ],
  [
    'several modules and no index',
    { 'a.ts': '', 'b.ts': '' },
    undefined,
    undefined,
    /which module is the function\?.*a\.ts, b\.ts.*--entry/,
  ],
  [
    'a package.json whose main is missing',
    { 'package.json': { main: 'x.js' }, 'readme.md': '' },
    undefined,
    undefined,
    /"main" names x\.js, which is not in the upload/,
  ],
  [
    'Python modules without one to begin with',
    { 'a.py': '', 'b.py': '' },
    undefined,
    undefined,
    /which Python module is the function\? The upload has a\.py, b\.py; name one main\.py or give --entry/,
  ],
  [
    'a Containerfile that is not there',
    { 'readme.md': '' },
    'Containerfile',
    undefined,
    /"Containerfile" is not in the upload; it has readme\.md/,
  ],
  [
    'a runtime of another language',
    { 'index.ts': '' },
    undefined,
    'python:3.11',
    /runtime "python:3\.11" cannot run index\.ts; leave --runtime away or give one for javascript/,
  ],
  [
    'something else',
    { 'a.rb': '' },
    undefined,
    undefined,
    /no entry module found; the upload has a\.rb; supported is/,
  ],
  ['nothing', {}, undefined, undefined, /the upload is empty/],
  [
    'a package.json that is no JSON',
    { 'package.json': '{' },
    undefined,
    undefined,
    /package\.json cannot be read/,
  ],
])('refuses %s and says what to do', async (_what, files, entry, runtime, message) => {
  await expect(detect(files, entry, runtime)).rejects.toMatchObject({
    code: 'INVALID_SOURCE',
    message: expect.stringMatching(message),
  });
});

test('does not follow a link out of the source', async () => {
  await using outside = await createSourceFolder({ 'index.ts': 'secret' });
  await using folder = await createSourceFolder({ 'readme.md': '' });
  await symlink(join(outside.path, 'index.ts'), join(folder.path, 'index.ts'));
  const tree = await openSourceTree(folder.path);
  await expect(detectSource(tree, { entry: 'index.ts', runtime: 'node:26' })).rejects.toMatchObject({
    code: 'INVALID_SOURCE',
  });
});
