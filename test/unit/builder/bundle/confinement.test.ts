/** Nothing of this host gets into a bundle, a map or a message: canaries are planted outside and looked for everywhere. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SkiffError } from '../../../../sdk/protocol/errors.ts';
import { openTestBundler, type TestBundler } from '../../../helpers/bundler.ts';

const CANARY = 'canary-8f2e61';
let outside: string;

beforeAll(async () => {
  outside = await mkdtemp(join(tmpdir(), 'skiff-outside-'));
  await chmod(outside, 0o755);
  await writeFile(join(outside, 'secret.json'), JSON.stringify({ secret: CANARY }));
  await writeFile(join(outside, 'secret.txt'), CANARY);
  await writeFile(join(outside, 'secret.ts'), `export const secret = '${CANARY}';`);
  await writeFile(
    join(outside, 'tsconfig.json'),
    `{ "compilerOptions": { "jsxFactory": "${CANARY}", "jsx": "react" } }`,
  );
  await writeFile(join(outside, 'noise'), `${CANARY} is no tsconfig`);
  await writeFile(
    join(outside, 'x.js.map'),
    JSON.stringify({ version: 3, sources: ['x.ts'], sourcesContent: [CANARY], names: [], mappings: 'AAAA' }),
  );
});
afterAll(() => rm(outside, { recursive: true, force: true }));

type Files = Record<string, string | object>;
/** Each tries to read a file of the host. `at` is a path out of the source to the folder outside. */
const ATTEMPTS: [string, (at: string) => Files][] = [
  ['an absolute import', () => ({ 'index.ts': `import x from '${outside}/secret.json'; export default x;` })],
  ['a relative import', (at) => ({ 'index.ts': `export * from '${at}/secret.ts';` })],
  ['a text import', (at) => ({ 'index.ts': `import x from '${at}/secret.txt'; export default x;` })],
  ['require', () => ({ 'index.js': `module.exports = require('${outside}/secret.json');` })],
  [
    'a glob import',
    (at) => ({ 'index.ts': `export default (name: string) => import(\`${at}/\${name}.ts\`);` }),
  ],
  [
    'tsconfig paths',
    () => ({
      'tsconfig.json': { compilerOptions: { paths: { '@x/*': [`${outside}/*`] } } },
      'index.ts': `export * from '@x/secret.ts';`,
    }),
  ],
  [
    'tsconfig baseUrl',
    () => ({
      'tsconfig.json': { compilerOptions: { baseUrl: outside } },
      'index.ts': `export * from 'secret.ts';`,
    }),
  ],
  [
    'tsconfig extends',
    () => ({
      'tsconfig.json': { extends: `${outside}/tsconfig.json` },
      'index.tsx': 'export default () => <a/>;',
    }),
  ],
  [
    'extends under another spelling',
    () => ({
      'tsconfig.json': `{ "extends": "./fine", "\\u0065xtends": "${outside}/tsconfig.json" }`,
      'fine.json': {},
      'index.tsx': 'export default () => <a/>;',
    }),
  ],
  [
    'extends of what is no tsconfig',
    () => ({ 'tsconfig.json': { extends: `${outside}/noise` }, 'index.ts': 'export default 1;' }),
  ],
  [
    'extends in a folder below',
    () => ({
      'a/tsconfig.json': { extends: `${outside}/noise` },
      'a/b.ts': 'export default 1;',
      'index.ts': `export { default } from './a/b.ts';`,
    }),
  ],
  [
    'an input source map',
    (at) => ({ 'index.js': `export default () => 1;\n//# sourceMappingURL=${at}/x.js.map` }),
  ],
  [
    'package.json main',
    (at) => ({
      'node_modules/p/package.json': { main: `../../${at}/secret.json` },
      'index.ts': `import x from 'p'; export default x;`,
    }),
  ],
  [
    'package.json browser',
    (at) => ({
      'node_modules/p/package.json': { main: 'a.js', browser: { './a.js': `../../${at}/secret.json` } },
      'node_modules/p/a.js': '1',
      'index.ts': `import x from 'p'; export default x;`,
    }),
  ],
  [
    'package.json imports',
    () => ({
      'package.json': { imports: { '#x': `${outside}/secret.json` } },
      'index.ts': `import x from '#x'; export default x;`,
    }),
  ],
  [
    'an asset',
    () => ({
      'index.ts': `export default new URL('../../../../../../../..${outside}/secret.txt', import.meta.url);`,
    }),
  ],
];

// Only root can change a root folder.
const BUNDLERS = process.getuid?.() === 0 ? [{ confined: false }, { confined: true }] : [{ confined: false }];
// The plugin is never asked about these: only the changed root keeps esbuild itself from reading them.
const NEEDS_ROOT = new Set(['an input source map', 'extends in a folder below']);

describe.each(BUNDLERS)('with a bundler of its own root: $confined', ({ confined }) => {
  let bundler: TestBundler;
  beforeAll(async () => {
    bundler = await openTestBundler({ confined });
  });
  afterAll(() => bundler.close());

  const attempts = ATTEMPTS.filter(([what]) => confined || !NEEDS_ROOT.has(what));

  test.each(attempts)('reads nothing outside through %s', async (_what, createFiles) => {
    const at = `../../../../../../../..${outside}`;
    const files = createFiles(at);
    const entry = Object.keys(files).find((name) => name.startsWith('index.')) ?? '';
    const seen = await bundler.bundle(files, entry).then(
      (bundle) => [
        ...bundle.outputs.map(({ bytes }) => bytes.toString()),
        ...bundle.warnings,
        ...bundle.assets.map(({ path }) => path),
      ],
      (error: unknown) => {
        expect(error).toBeInstanceOf(SkiffError);
        expect(error).toMatchObject({ code: 'BUILD_FAILED' });
        return [(error as SkiffError).message];
      },
    );
    for (const text of seen) {
      expect(text).not.toContain(CANARY);
      if (bundler.root !== undefined) expect(text).not.toContain(bundler.root);
    }
  });

  test('names the import that leads outside', async () => {
    const failure = bundler.bundle(
      { 'index.ts': `import x from '../../../etc/hostname'; export default x;` },
      'index.ts',
    );
    await expect(failure).rejects.toMatchObject({
      code: 'BUILD_FAILED',
      message: expect.stringMatching(/outside the function's folder.*index\.ts:1:14/s),
    });
  });
});
