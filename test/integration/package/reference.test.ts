/** The reference is what docstrings and the route table say now. `vitest run -u` of this file writes it anew. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createOpenApi } from '../../../gateway/routes/openapi.ts';
import { writeDeclarations } from '../../../sdk/package/declarations.ts';
import { describeApi, type OpenApiDocument } from '../../../sdk/package/http-reference.ts';
import { describeEntry } from '../../../sdk/package/reference.ts';
import { ROOT } from '../../helpers/source-tree.ts';

const REFERENCE = join(ROOT, 'sdk/docs/reference');
const entries = [
  ['skiff', 'authoring/index', 'skiff.md'],
  ['skiff/client', 'client/index', 'client.md'],
  ['skiff/testing', 'testing/index', 'testing.md'],
] as const;

let outDir: string;
beforeAll(async () => {
  outDir = mkdtempSync(join(tmpdir(), 'skiff-reference-'));
  await writeDeclarations({ root: join(ROOT, 'sdk'), entries: entries.map(([, entry]) => entry), outDir });
});
afterAll(() => rmSync(outDir, { recursive: true, force: true }));

test.each(entries)('%s: its reference is what the docstrings say', async (title, entry, file) => {
  const text = describeEntry(title, join(outDir, `${entry}.d.ts`));
  await expect(text).toMatchFileSnapshot(join(REFERENCE, file));
});

test('every export of the package says what it is for', () => {
  const bare = entries.flatMap(([title, entry]) =>
    [
      ...describeEntry(title, join(outDir, `${entry}.d.ts`)).matchAll(
        /^## (\w+)\n\n```ts-signature\n(?:function|class|const)/gm,
      ),
    ].map(([, name]) => `${title}: ${name}`),
  );
  expect(bare).toEqual([]);
});

test('the HTTP API: its reference is what the server says of itself', async () => {
  const document = createOpenApi('http://127.0.0.1:8080', '0') as unknown as OpenApiDocument;
  await expect(describeApi(document)).toMatchFileSnapshot(join(REFERENCE, 'http-api.md'));
});
