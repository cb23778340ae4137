/** A function that loads slowly gets a V8 code cache on its host, and its next sandboxes load with it. */
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const FUNCTIONS = 6_000;
/** A bundle of more than a MB, all of which runs when it is loaded. */
const SOURCE = `import { existsSync } from 'node:fs';
${Array.from({ length: FUNCTIONS }, (_, i) => `function part${i}(values) { let sum = ${i}; for (const value of values) { if (value % 2 === ${i % 2}) sum += value * ${i}; else sum -= 'text of part ${i}'.length; } return sum; }`).join('\n')}
const parts = [${Array.from({ length: FUNCTIONS }, (_, i) => `part${i}`).join(',')}];
const total = parts.reduce((sum, part) => sum + part([1, 2, 3]), 0);
export default () => Response.json({ total, hasCache: existsSync(__filename + '.cache') });
`;

test('the next sandbox of a function that loads slowly has a code cache, and V8 takes it', async () => {
  const server = useServer();
  const folder = mkdtempSync(join(tmpdir(), 'skiff-heavy-'));
  try {
    const file = join(folder, 'heavy.js');
    writeFileSync(file, SOURCE);
    const url = await server.deploy('code-cache-heavy', file);
    const call = async () => (await (await fetch(url)).json()) as { total: number; hasCache: boolean };
    const first = await call();
    const { deployments } = await server.client.get('code-cache-heavy').then(async () => ({
      deployments: await server.client.deployments('code-cache-heavy'),
    }));
    const id = deployments[0]?.id as string;
    const state = (): { isTrained?: boolean; cachedMs?: number[]; sha256?: string } => {
      const [found] = globSync(join(server.dataDir, `runner/store/layers/*/annex/${id}.json`));
      return found === undefined ? {} : (JSON.parse(readFileSync(found, 'utf8')) as object);
    };
    await waitFor('a cache with what the call compiled', () => state().isTrained === true, 30_000);
    await server.client.restart('code-cache-heavy');
    const second = await waitFor('an answer with the cache', async () => {
      const answer = await call();
      return answer.hasCache ? answer : undefined;
    });
    expect(second).toEqual({ total: first.total, hasCache: true });
    await waitFor('what V8 said of it', () => (state().cachedMs ?? []).length > 0);
    expect(state()).toMatchObject({ isTrained: true, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
