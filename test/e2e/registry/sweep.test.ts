/** The disk of the embedded registry shrinks when what is on it is not needed any more. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

let server: TestServer | undefined;
afterAll(() => server?.stop());

const MB = 1024 ** 2;
const diskBytes = (one: TestServer): number =>
  Number(
    execFileSync('du', ['-s', '-B1', join(one.dataDir, 'registry')], { encoding: 'utf8' }).split('\t')[0],
  );

it('a restart frees what a removed function took, and what stays still runs and can be built again', async () => {
  const first = await startServer();
  server = first;
  const noise = randomBytes(4 * MB).toString('base64');
  await using large = await createSourceFolder({
    'index.ts': `import text from './data.txt'; export default () => new Response(String(text.length));`,
    'data.txt': noise,
  });
  await using small = await createSourceFolder({ 'index.ts': `export default () => new Response('small');` });
  await first.deploy(small.path, ['--name', 'small']);
  const before = diskBytes(first);
  await first.deploy(large.path, ['--name', 'large']);
  expect(diskBytes(first) - before).toBeGreaterThan(4 * MB);
  expect((await first.cli(['rm', 'large'])).code).toBe(0);
  await first.stop({ keepData: true });
  server = await startServer({ dataDir: first.dataDir });
  // The source of the removed function is an hour younger than what is collected; its image is gone.
  expect(diskBytes(server) - before).toBeLessThan(9 * MB);
  expect(await (await fetch(`${server.url}/f/small`)).text()).toBe('small');
  await server.deploy(small.path, ['--name', 'small-again']);
  expect(await (await fetch(`${server.url}/f/small-again`)).text()).toBe('small');
});
