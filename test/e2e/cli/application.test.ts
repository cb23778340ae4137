/** An application of a compose file on a real server: brought up by one command, reached from outside, and taken down. */
import { readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCli, type CliResult, type TestCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let cli: TestCli;
beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_DATA_DIR: server.dataDir });
});
afterAll(async () => {
  await skiff('down');
  await cli?.close();
});

const skiff = (...args: string[]): Promise<CliResult> => cli.run([...args, '-f', 'guestbook/compose.yaml']);
async function succeed(...args: string[]): Promise<CliResult> {
  const result = await skiff(...args);
  expect(result).toMatchObject({ code: 0 });
  return result;
}
async function write(files: Record<string, string>): Promise<void> {
  for (const [file, text] of Object.entries(files)) {
    const path = join(cli.home, 'guestbook', file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
}

const compose = (greeting: string, replicas: number): string => `
name: guestbook
services:
  page:
    build: ./page
    depends_on: [api]
    environment: { GREETING: ${greeting} }
    x-skiff-function: {}
  api:
    build: ./api
    depends_on: [store]
    secrets: [salt]
    x-skiff-function: { memory: 128MB }
  store:
    build: ./store
    x-skiff-service: { concurrency: 1 }
    deploy: { replicas: ${replicas} }
secrets:
  salt: { file: ./salt.txt }
`;
const FILES = {
  'salt.txt': 'pepper',
  'page/index.ts': `
    export default async (request: Request) => {
      const entries = await (await fetch('http://api.skiff/entries')).json();
      return new Response(process.env.GREETING + ' ' + JSON.stringify(entries));
    };`,
  'api/index.ts': `
    import { readFileSync } from 'node:fs';
    export default async () => {
      const from = await (await fetch('http://store.skiff/')).json();
      return Response.json({ from: from.kind, salted: readFileSync('/run/secrets/salt').length });
    };`,
  'store/index.ts': `
    const id = crypto.randomUUID();
    export default async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return Response.json({ kind: 'store', id });
    };`,
};

test('an image is started as the file says: entry point, command, port, files; built from a Containerfile', async () => {
  await write({
    'salt.txt': 'pepper',
    'image/Containerfile':
      'FROM skiff/node:26\nCOPY server.mjs /app/server.mjs\nENTRYPOINT ["/usr/bin/node", "/app/none.mjs"]\n',
    'image/server.mjs': `
      import { createServer } from 'node:http';
      import { readFileSync, writeFileSync } from 'node:fs';
      const text = readFileSync('/etc/app/motd', 'utf8');
      const secret = [readFileSync('/run/secrets/image-salt', 'utf8'), process.env.IMAGE_SALT];
      let change = 'none';
      try { writeFileSync('/etc/app/motd', 'mine'); } catch (error) { change = error.code; }
      createServer((request, response) => response.end(JSON.stringify({ text, change, secret, args: process.argv.slice(2), port: process.env.PORT }))).listen(3000);`,
    'prepare/index.ts':
      'export default () => new Response(process.env.FAULT || null, { status: process.env.FAULT ? 500 : 204 });',
    'compose.yaml': `
name: guestbook
services:
  prepare:
    build: ./prepare
    environment: { FAULT: "\${FAULT-}" }
    x-skiff-function: {}
  image:
    build: ./image
    depends_on: { prepare: { condition: service_completed_successfully } }
    entrypoint: ["/usr/bin/node", "/app/server.mjs"]
    command: --loud "two words"
    ports: ["8000:3000"]
    configs: [{ source: motd, target: /etc/app/motd }]
    secrets: [image-salt]
    deploy: { replicas: 1 }
configs:
  motd: { content: "hello from a file" }
secrets:
  image-salt: { file: ./salt.txt }
`,
  });
  const failed = await cli.run(['up', '-d', '-f', 'guestbook/compose.yaml'], { env: { FAULT: 'no schema' } });
  expect(failed.code).toBe(3);
  expect(failed.stderr).toMatch(/✗ prepare +it answered 500 and not 2xx: no schema/);
  expect(failed.stderr).toContain('needs prepare, which failed');
  const up = await succeed('up', '-d');
  expect(up.stderr).toMatch(/✓ prepare +updated +completed in/);
  expect(up.stderr).toContain('services.image.ports.published: it is reached through the gateway');
  const answer = (await (await fetch(`${server.url}/f/guestbook-image`)).json()) as object;
  expect(answer).toEqual({
    text: 'hello from a file',
    change: 'EROFS',
    secret: ['pepper', 'pepper'],
    args: ['--loud', 'two words'],
    port: '3000',
  });
  await succeed('down');
  await waitFor('the secret to be gone from the host', () => {
    try {
      return readdirSync('/dev/shm', { recursive: true }).every(
        (name) => !String(name).endsWith('/image-salt'),
      );
    } catch {
      // A sandbox of another test ended while its folder was read.
      return false;
    }
  });
});

test('comes up with one command, changes only what changed, and leaves nothing behind', async () => {
  await write({ ...FILES, 'compose.yaml': compose('Hello', 2) });
  const planned = await succeed('up', '--dry-run');
  expect(planned.stdout).toMatch(/\+ store .*new\n\+ api .*new\n\+ page .*new/);

  const up = await succeed('up', '-d');
  expect(up.stderr).toMatch(/✓ store +created +2\/2 running/);
  const url = `${server.url}/f/guestbook-page`;
  expect(await (await fetch(url)).text()).toBe('Hello {"from":"store","salted":6}');

  const ids = new Set<string>();
  await waitFor('both replicas answer', async () => {
    const calls = Array.from({ length: 8 }, async () =>
      (await fetch(`${server.url}/f/guestbook-store`)).json(),
    );
    for (const { id } of (await Promise.all(calls)) as { id: string }[]) ids.add(id);
    return ids.size === 2;
  });

  const again = await succeed('up', '-d');
  expect(again.stderr.match(/unchanged/g)).toHaveLength(3);

  await write({ 'compose.yaml': compose('Goodbye', 1) });
  const changed = await succeed('up', '-d');
  expect(changed.stderr).toMatch(/✓ page +updated/);
  expect(changed.stderr).toMatch(/✓ store +updated +1\/1 running/);
  expect(changed.stderr).toMatch(/✓ api +unchanged/);
  expect(await (await fetch(url)).text()).toMatch(/^Goodbye /);

  expect((await succeed('ps')).stdout).toMatch(/store +guestbook-store-code +live +1\/1/);
  await succeed('down');
  expect((await fetch(url)).status).toBe(404);
  expect((await fetch(`${server.url}/f/guestbook-store`)).status).toBe(404);
  expect((await server.client.list()).filter(({ name }) => name.startsWith('guestbook'))).toEqual([]);
});
