/** A function gets a V8 code cache on its host, and its next sandboxes load with it. */
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

/** A bundle of so many functions, all of which run when it is loaded; of 6,000 it has more than a MB. */
function sourceOf(functions: number): string {
  const numbers = [...Array(functions).keys()];
  return `import { readdirSync } from 'node:fs';
${numbers.map((i) => `function part${i}(values) { let sum = ${i}; for (const value of values) { if (value % 2 === ${i % 2}) sum += value * ${i}; else sum -= 'text of part ${i}'.length; } return sum; }`).join('\n')}
const parts = [${numbers.map((i) => `part${i}`).join(',')}];
const total = parts.reduce((sum, part) => sum + part([1, 2, 3]), 0);
export default () => Response.json({ total, hasCache: readdirSync('/var/task').some((name) => name.endsWith('.cache')) });
`;
}

test('the next sandbox of a function that loads slowly has a code cache, and V8 takes it', async () => {
  const server = useServer();
  const folder = mkdtempSync(join(tmpdir(), 'skiff-heavy-'));
  try {
    const file = join(folder, 'heavy.js');
    writeFileSync(file, sourceOf(6_000));
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

test('a small one that keeps no sandbox has a code cache from its second start on', async () => {
  const server = useServer();
  const folder = mkdtempSync(join(tmpdir(), 'skiff-once-'));
  try {
    const file = join(folder, 'once.js');
    writeFileSync(file, sourceOf(400));
    const url = await server.deploy('code-cache-once', file, { keepAlive: 0 });
    const call = async () => (await (await fetch(url)).json()) as { total: number; hasCache: boolean };
    const first = await call();
    expect(first.hasCache).toBe(false);
    const second = await waitFor('an answer with the cache', async () => {
      const answer = await call();
      return answer.hasCache ? answer : undefined;
    });
    expect(second.total).toBe(first.total);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
