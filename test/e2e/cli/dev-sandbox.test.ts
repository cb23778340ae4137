import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();

const source = (word: string): string => `
export default (): Response => {
  console.log('called ${word}');
  return new Response(['${word}', process.env.SECRET, String(process.getuid?.())].join(' '));
};`;

test('skiff dev --sandbox runs every save in a real sandbox, shows its logs, and removes it at the end', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-sandboxed-'));
  const cli = await createCli({ SKIFF_URL: server.url, SKIFF_TOKEN: server.token });
  try {
    await writeFile(join(folder, 'boxed.ts'), source('one'));
    await writeFile(join(folder, '.env'), 'SECRET=sesame');
    const running = cli.start(['dev', 'boxed.ts', '--sandbox'], { cwd: folder });
    const url = await waitFor('the URL', () => /http:\S+/.exec(running.stdout())?.[0], 60_000);
    expect(url).toBe(`${server.url}/f/dev-boxed`);
    const [word, secret, uid] = (await (await fetch(url)).text()).split(' ');
    expect([word, secret]).toEqual(['one', 'sesame']);
    expect(uid).not.toBe(String(process.getuid?.()));
    await waitFor('the log line', () => running.stdout().includes('called one'));
    await writeFile(join(folder, 'boxed.ts'), source('two'));
    await waitFor(
      'the save to be live',
      async () => (await (await fetch(url)).text()).startsWith('two'),
      60_000,
    );
    running.process.kill('SIGINT');
    expect((await running.ended).code).toBe(130);
    expect((await fetch(url)).status).toBe(404);
  } finally {
    await cli.close();
    await rm(folder, { recursive: true, force: true });
  }
});

test('skiff dev --sandbox refuses a server elsewhere', async () => {
  const cli = await createCli({ SKIFF_URL: 'http://skiff.example.org', SKIFF_TOKEN: 'x' });
  try {
    await writeFile(join(cli.home, 'fn.ts'), source('x'));
    const { code, stderr } = await cli.run(['dev', 'fn.ts', '--sandbox']);
    expect(code).toBe(2);
    expect(stderr).toContain('is elsewhere');
  } finally {
    await cli.close();
  }
});
