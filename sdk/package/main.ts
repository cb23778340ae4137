/**
 * Builds the npm package `skiff` into sdk/dist: `node sdk/package/main.ts`, which `npm pack ./sdk` runs by itself.
 * Each entry becomes one ES module without imports but the runtime's own, and its types.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { writeDeclarations } from './declarations.ts';

const ROOT = join(import.meta.dirname, '..');
const ENTRIES = { skiff: 'authoring/index', client: 'client/index', testing: 'testing/index' } as const;

const outDir = join(ROOT, 'dist');
rmSync(outDir, { recursive: true, force: true });
mkdirSync(outDir);
await Promise.all([
  ...Object.entries(ENTRIES).map(([out, path]) =>
    build({
      absWorkingDir: ROOT,
      entryPoints: [`${path}.ts`],
      outfile: join(outDir, `${out}.js`),
      bundle: true,
      format: 'esm',
      // Node 20, Bun, Deno and browsers of the same years.
      target: 'es2023',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      external: ['node:*'],
      legalComments: 'inline',
      logLevel: 'warning',
      // The guest takes it as a global, which Deno does not have in every module.
      ...(out === 'testing' && { banner: { js: "import { Buffer } from 'node:buffer';" } }),
    }),
  ),
  writeDeclarations({ root: ROOT, entries: Object.values(ENTRIES), outDir }),
]);
