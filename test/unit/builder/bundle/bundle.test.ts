import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { codeOf, openTestBundler, runBundle, type TestBundler } from '../../../helpers/bundler.ts';
import { ROOT } from '../../../helpers/source-tree.ts';

let bundler: TestBundler;
beforeAll(async () => {
  bundler = await openTestBundler({ confined: process.getuid?.() === 0 });
});
afterAll(() => bundler.close());

/** (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)) */
const ADD_WASM = Buffer.from(
  '0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b',
  'hex',
);

test('makes a CommonJS module whose default export is the handler', async () => {
  const bundle = await bundler.bundle(
    {
      'hello.ts':
        'enum Word { Hi = "hi" }\nexport default async (request: Request): Promise<Response> => new Response(Word.Hi + request.url);',
    },
    'hello.ts',
  );
  expect(bundle).toMatchObject({
    format: 'cjs',
    entry: '/var/task/index.cjs',
    externals: [],
    assets: [],
    warnings: [],
  });
  expect(bundle.outputs.map(({ path }) => path)).toEqual(['index.cjs', 'index.cjs.map']);
  await expect(
    runBundle(bundle, `loaded.default(new Request('http://x/')).then((response) => response.text())`),
  ).resolves.toBe('hihttp://x/');
});

test('keeps the shape of a CommonJS source', async () => {
  const bundle = await bundler.bundle(
    { 'index.js': `const { join } = require('path'); module.exports = () => join('a', 'b');` },
    'index.js',
  );
  await expect(runBundle(bundle, 'loaded()')).resolves.toBe('a/b');
});

test('gives "skiff" to every function without installing it', async () => {
  const bundle = await bundler.bundle(
    {
      'index.ts': `import { defineFunction, type FunctionContext } from 'skiff';\nexport default defineFunction({ fetch: (_: Request, context: FunctionContext) => new Response(context.invocationId) });`,
    },
    'index.ts',
  );
  await expect(
    runBundle(bundle, `loaded.default.fetch(null, { invocationId: 'inv-1' }).text()`),
  ).resolves.toBe('inv-1');
  expect(codeOf(bundle)).not.toContain(ROOT);
});

test('embeds JSON, text and WebAssembly', async () => {
  const source = `
    import config from './config.json'; import query from './q.sql'; import add from './add.wasm'; import pixel from './dot.png';
    export default async () => {
      const { instance } = await WebAssembly.instantiate(add);
      return [config.a, query, (instance.exports as any).add(2, 3), pixel.length];
    };`;
  const files = {
    'index.ts': source,
    'config.json': { a: 1 },
    'q.sql': 'select 1',
    'add.wasm': ADD_WASM,
    'dot.png': Buffer.from([1, 2, 3]),
  };
  const bundle = await bundler.bundle(files, 'index.ts');
  await expect(runBundle(bundle, 'loaded.default()')).resolves.toEqual([1, 'select 1', 5, 3]);
});

test('becomes an ES module when it awaits at the top level, with require for its packages', async () => {
  const files = {
    'index.ts': `import old from 'old'; const value = await Promise.resolve(20); export default () => value + old + __dirname.length * 0;`,
    'node_modules/old/package.json': { name: 'old', main: 'index.js' },
    'node_modules/old/index.js': `const path = require('path'); module.exports = path.sep.length;`,
  };
  const bundle = await bundler.bundle(files, 'index.ts');
  expect(bundle).toMatchObject({ format: 'esm', entry: '/var/task/index.mjs' });
  await expect(runBundle(bundle, 'loaded.default()')).resolves.toBe(21);
});

test('takes JSX without a tsconfig, for the JSX library of the project', async () => {
  const jsx = {
    'package.json': { name: 'preact', exports: { './jsx-runtime': './jsx.js' } },
    'jsx.js': 'export const jsx = (type, props) => ({ type, props }); export const jsxs = jsx;',
  };
  const files = {
    'package.json': { dependencies: { preact: '1' } },
    'index.tsx': 'export default () => <p id="a">{1}</p>;',
    'node_modules/preact/package.json': jsx['package.json'],
    'node_modules/preact/jsx.js': jsx['jsx.js'],
  };
  const bundle = await bundler.bundle(files, 'index.tsx');
  await expect(runBundle(bundle, 'loaded.default()')).resolves.toEqual({
    type: 'p',
    props: { id: 'a', children: 1 },
  });
});

test('follows path aliases, decorators and a tsconfig with comments', async () => {
  const files = {
    'tsconfig.json':
      '{ // comment\n "compilerOptions": { "paths": { "@lib/*": ["./lib/*"] }, "experimentalDecorators": true, }, }',
    'index.ts': `import { mark } from '@lib/mark';\n@mark class Thing { dir = import.meta.dirname }\nexport default () => (Thing as any).marked;`,
    'lib/mark.ts': 'export function mark(target: any) { target.marked = 7; }',
  };
  await expect(runBundle(await bundler.bundle(files, 'index.ts'), 'loaded.default()')).resolves.toBe(7);
});

test('carries what the code reads beside itself, at the place it looks for it', async () => {
  const files = {
    'src/index.ts': `
      import { readFile, readdir } from 'node:fs/promises'; import { join, dirname } from 'node:path'; import { fileURLToPath } from 'node:url';
      const __filename = fileURLToPath(import.meta.url); const __dirname = dirname(__filename);
      export default async () => [
        await readFile(new URL('./data.txt', import.meta.url), 'utf8'),
        await readFile(join(__dirname, 'views', 'a.html'), 'utf8'),
        await readFile(\`\${import.meta.dirname}/../top.txt\`, 'utf8'),
        (await readdir(new URL('./views/', import.meta.url))).sort(),
      ];`,
    'src/data.txt': 'data',
    'src/views/a.html': 'A',
    'src/views/b.html': 'B',
    'top.txt': 'top',
    'src/unused.bin': 'x',
  };
  const bundle = await bundler.bundle(files, 'src/index.ts');
  expect(bundle.assets.map(({ path }) => path)).toEqual([
    'src/data.txt',
    'src/views/a.html',
    'src/views/b.html',
    'top.txt',
  ]);
  await expect(runBundle(bundle, 'loaded.default()')).resolves.toEqual([
    'data',
    'A',
    'top',
    ['a.html', 'b.html'],
  ]);
});

test('leaves packages with compiled addons out of the bundle and names them', async () => {
  const files = {
    'index.ts': `import picture from 'picture'; import plain from 'plain'; export default () => [picture, plain];`,
    'node_modules/picture/package.json': {
      name: 'picture',
      main: 'index.js',
      optionalDependencies: { '@picture/linux-x64': '1' },
    },
    'node_modules/picture/index.js': `module.exports = require('@picture/linux-x64/addon.node');`,
    'node_modules/@picture/linux-x64/package.json': { name: '@picture/linux-x64', os: ['linux'] },
    'node_modules/@picture/linux-x64/addon.node': 'ELF',
    'node_modules/plain/package.json': { name: 'plain', main: 'index.js' },
    'node_modules/plain/index.js': `module.exports = 'plain';`,
  };
  const bundle = await bundler.bundle(files, 'index.ts');
  expect(bundle.externals).toEqual(['picture']);
  expect(codeOf(bundle)).toContain('require("picture")');
  expect(codeOf(bundle)).toContain('"plain"');
});

test('leaves out modules that are only for development', async () => {
  const files = {
    'index.js': `module.exports = process.env.NODE_ENV === 'production' ? require('./production.js') : require('./development.js');`,
    'production.js': 'module.exports = () => 1;',
    'development.js': 'module.exports = () => "DEVELOPMENT ONLY";',
  };
  expect(codeOf(await bundler.bundle(files, 'index.js'))).not.toContain('DEVELOPMENT ONLY');
});

test('leaves NODE_ENV alone when the function sets it', async () => {
  const bundle = await bundler.bundle(
    { 'index.js': 'export default () => process.env.NODE_ENV;' },
    'index.js',
    { env: { NODE_ENV: 'test' } },
  );
  expect(codeOf(bundle)).toContain('process.env.NODE_ENV');
});

test('maps stack traces to the sources, also of files that were compiled apart', async () => {
  const files = {
    'index.ts': `import { fail } from './lib/fail.ts';\nexport default () => {\n  try { fail(); } catch (error) { return (error as Error).stack; }\n};`,
    'lib/fail.ts': `interface Unused { a: string }\n\nexport const here = import.meta.url;\nexport function fail(): never {\n  throw new Error('x');\n}`,
  };
  const bundle = await bundler.bundle(files, 'index.ts');
  const map = JSON.parse(
    bundle.outputs.find(({ path }) => path.endsWith('.map'))?.bytes.toString() ?? '',
  ) as { sources: string[]; sourcesContent: string[] };
  expect(map.sources).toEqual(['index.ts', 'lib/fail.ts']);
  expect(map.sourcesContent).toEqual([files['index.ts'], files['lib/fail.ts']]);
  const stack = (await runBundle(bundle, 'loaded.default()')) as string;
  expect(stack).toMatch(/lib\/fail\.ts:5:9/);
  expect(stack).toMatch(/index\.ts:3:9/);
});

test('gives the same bytes for the same source in another folder', async () => {
  const files = {
    'index.ts': `import './b.ts'; export default () => import.meta.url;`,
    'b.ts': 'export const a: number = 1; console.log(a);',
  };
  const [first, second] = [await bundler.bundle(files, 'index.ts'), await bundler.bundle(files, 'index.ts')];
  expect(first.outputs).toEqual(second.outputs);
});

test('bundles a Hono app from linked packages and serves it', async () => {
  const files = {
    'index.ts': `import { Hono } from 'hono'; const app = new Hono(); app.get('/a/:id', (c) => c.json({ id: c.req.param('id') })); export default app;`,
    'package.json': { dependencies: { hono: '4' } },
  };
  const bundle = await bundler.bundle(files, 'index.ts', {}, ['hono']);
  await expect(
    runBundle(
      bundle,
      `Promise.resolve(loaded.default.fetch(new Request('http://x/a/7'))).then((response) => response.json())`,
    ),
  ).resolves.toEqual({ id: '7' });
  const map = bundle.outputs.find(({ path }) => path.endsWith('.map'))?.bytes.toString() ?? '';
  expect((JSON.parse(map) as { sources: string[] }).sources).toContain('node_modules/hono/dist/hono.js');
});

test('says file, line, column and shows the code of a syntax error', async () => {
  const failure = bundler.bundle(
    { 'index.ts': `import './lib/a.ts';`, 'lib/a.ts': 'const fine = 1;\nlet a b = 3;\n' },
    'index.ts',
  );
  await expect(failure).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(
      /Expected ";" but found "b"\n+\s+lib\/a\.ts:2:6:\n\s+2 │ let a b = 3;\n\s+│\s+\^/,
    ),
  });
  await expect(failure).rejects.toMatchObject({
    message: expect.not.stringMatching(/\/tmp\/|esbuild|node_modules\/\.bin/),
  });
});

test.each<[string, Record<string, object>, RegExp]>([
  ['not in package.json', {}, /Add "zod" to "dependencies" in package\.json/],
  [
    'only for development',
    { devDependencies: { zod: '4' } },
    /"zod" is in "devDependencies", which are not installed; move it/,
  ],
  ['not installed', { dependencies: { zod: '4' } }, /"zod" is in package\.json but was not installed/],
])('tells what to do about a package that is %s', async (_what, packageJson, advice) => {
  const failure = bundler.bundle(
    { 'index.ts': `import { z } from 'zod/mini'; export default z;`, 'package.json': packageJson },
    'index.ts',
  );
  await expect(failure).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(advice),
  });
});

test('reports warnings with their place', async () => {
  const bundle = await bundler.bundle(
    { 'index.js': 'export default () => typeof x === "nulll";' },
    'index.js',
  );
  expect(bundle.warnings).toEqual([expect.stringMatching(/typeof.*\n+\s+index\.js:1:/s)]);
});

test('stops when it is cancelled', async () => {
  const controller = new AbortController();
  const reason = new Error('cancelled');
  controller.abort(reason);
  await expect(
    bundler.bundle({ 'index.ts': 'export default 1' }, 'index.ts', { signal: controller.signal }),
  ).rejects.toBe(reason);
});

test('goes on after its process was killed', async () => {
  const { execFileSync } = await import('node:child_process');
  const children = execFileSync('ps', ['--ppid', String(process.pid), '-o', 'pid=,args='], {
    encoding: 'utf8',
  }).split('\n');
  const pids = children
    .filter((line) => line.includes('--service=') && line.includes('esbuild'))
    .map((line) => Number(line.trim().split(' ')[0]));
  expect(pids.length).toBeGreaterThan(0);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await expect(bundler.bundle({ 'index.ts': 'export default 1' }, 'index.ts')).resolves.toMatchObject({
    format: 'cjs',
  });
});

test('a source that ends the bundler fails alone, and builds beside it do not', async () => {
  const poison = bundler.bundle(
    { 'index.ts': `export default ${'['.repeat(900_000)}${']'.repeat(900_000)}` },
    'index.ts',
  );
  const outcome = expect(poison).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/extremely large or deeply nested/),
  });
  const others = Array.from({ length: 6 }, (_, i) =>
    bundler.bundle({ 'index.ts': `export default ${i}` }, 'index.ts'),
  );
  await expect(Promise.all(others)).resolves.toHaveLength(6);
  await outcome;
  await expect(bundler.bundle({ 'index.ts': 'export default 1' }, 'index.ts')).resolves.toMatchObject({
    format: 'cjs',
  });
});

test('the fixture of the repository builds', async () => {
  const source = await readFile(join(ROOT, 'test/fixtures/functions/echo.ts'), 'utf8');
  await expect(bundler.bundle({ 'echo.ts': source }, 'echo.ts')).resolves.toMatchObject({ format: 'cjs' });
});
