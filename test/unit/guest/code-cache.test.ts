/** What V8 does with a code cache: taken by the runtime that made it for this very source, refused by any other. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const GUEST = join(import.meta.dirname, '../../../sdk/guest');
const SOURCE = `exports.default = function handler() { return new Response('x'); };\n`;
let folder: string;
let entry: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'skiff-code-cache-'));
  entry = join(folder, 'index.cjs');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function node(flags: readonly string[], script: string): string {
  const args = [...flags, '--input-type=module', '-e', script];
  return execFileSync(process.execPath, args, { encoding: 'utf8', env: {} }).trim();
}

/** Makes the cache with some flags, and says whether it is taken with others. */
function isTaken(made: readonly string[], used: readonly string[], source = SOURCE): boolean {
  writeFileSync(entry, SOURCE);
  node(
    made,
    `import { writeCodeCache } from '${GUEST}/code-cache.ts'; writeCodeCache('${entry}', '${entry}.cache');`,
  );
  const rejected = node(
    used,
    `import { readFileSync } from 'node:fs'; import { compileModule } from '${GUEST}/loader.ts';
     console.log(compileModule('${entry}', ${JSON.stringify(source)}, readFileSync('${entry}.cache')).cachedDataRejected);`,
  );
  return rejected === 'false';
}

test('is taken by the same runtime for the same source', () => {
  expect(isTaken([], [])).toBe(true);
});

test('is refused by a runtime with other flags, and for a source that changed', () => {
  expect(isTaken(['--no-opt'], [])).toBe(false);
  expect(isTaken([], [], `${SOURCE}// longer`)).toBe(false);
});
