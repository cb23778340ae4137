/** `import { defineFunction } from 'skiff'` resolves to the SDK of this platform, whatever is installed. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Plugin } from 'esbuild';

const SDK_FOLDER = fileURLToPath(new URL('../../sdk/', import.meta.url));
const NAMESPACE = 'skiff';

/** Files of the SDK travel to esbuild as text: its process cannot see this repository. */
export function resolveAuthoring(): Plugin {
  return {
    name: 'authoring',
    setup(build) {
      build.onResolve({ filter: /^skiff$/ }, () => ({
        path: 'authoring/index.ts',
        namespace: NAMESPACE,
        sideEffects: false,
      }));
      build.onResolve({ filter: /^\.{1,2}\//, namespace: NAMESPACE }, ({ path, importer }) => ({
        path: join(dirname(importer), path),
        namespace: NAMESPACE,
        sideEffects: false,
      }));
      build.onLoad({ filter: /.*/, namespace: NAMESPACE }, async ({ path }) => ({
        contents: await readFile(join(SDK_FOLDER, path), 'utf8'),
        loader: 'ts',
      }));
    },
  };
}
