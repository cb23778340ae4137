/** Named volumes of a compose file on a real server: what is in one outlives deployments and `down`, and is nobody else's. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dataPaths } from '../../../infra/contract/paths.ts';
import { createClient } from '../../../sdk/client/index.ts';
import { createCli, type CliResult, type TestCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let cli: TestCli;
beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_DATA_DIR: server.dataDir });
});
afterAll(async () => {
  for (const name of ['diary', 'other']) await cli?.run(['down', '-v', '-p', name]);
  await cli?.close();
});

async function succeed(...args: string[]): Promise<CliResult> {
  const result = await cli.run(args);
  expect(result).toMatchObject({ code: 0 });
  return result;
}

/** A database as people run one: SQLite on a volume, over HTTP, that writes when it is asked to end. */
const STORE = `
import { createServer } from 'node:http';
import { DatabaseSync } from 'node:sqlite';
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
const db = new DatabaseSync('/data/diary.db');
db.exec('create table if not exists entries (text text)');
const tryTo = (run) => { try { return run() ?? 'done'; } catch (error) { return error.code; } };
const routes = {
  '/add': (text) => { db.prepare('insert into entries values (?)').run(text); return 'added'; },
  '/all': () => db.prepare('select text from entries').all().map(({ text }) => text),
  '/fill': () => {
    const code = tryTo(() => writeFileSync('/data/large', Buffer.alloc(64 * 1024 * 1024, 1)));
    rmSync('/data/large', { force: true });
    return code;
  },
  '/about': () => ({
    files: readdirSync('/data').filter((name) => !name.startsWith('diary')).sort(),
    ended: existsSync('/data/ended') ? readFileSync('/data/ended', 'utf8') : null,
    owner: statSync('/data').uid === process.getuid(),
    options: readFileSync('/proc/self/mounts', 'utf8').split('\\n').find((line) => line.includes(' /data '))?.split(' ').slice(2, 4),
    device: spawnSync('/bin/sh', ['-c', 'mknod /data/null c 1 3']).status === 0,
    run: (copyFileSync('/usr/bin/node', '/data/node'), chmodSync('/data/node', 0o755), tryTo(() => { const { error } = spawnSync('/data/node', ['--version']); rmSync('/data/node'); if (error) throw error; })),
  }),
};
process.on('SIGTERM', () => { writeFileSync('/data/ended', 'by SIGTERM'); db.close(); process.exit(0); });
createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://store');
  response.end(JSON.stringify(routes[pathname]?.(searchParams.get('text')) ?? null));
}).listen(process.env.PORT);
`;
const compose = (name: string, { mood = 'calm', size = '256MB' }): string => `
name: ${name}
services:
  store:
    build: ./store
    environment: { MOOD: ${mood} }
    volumes: ["data:/data"]
volumes:
  data: { driver_opts: { size: ${size} } }
`;

async function write(folder: string, files: Record<string, string>): Promise<void> {
  for (const [file, text] of Object.entries(files)) {
    const path = join(cli.home, folder, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
}
async function writeApplication(
  name: string,
  options: { mood?: string; size?: string } = {},
): Promise<string> {
  await write(name, {
    'store/Containerfile':
      'FROM skiff/node:26\nCOPY server.mjs /app/server.mjs\nCOPY seed /data/seed\nENTRYPOINT ["/usr/bin/node", "/app/server.mjs"]\n',
    'store/server.mjs': STORE,
    'store/seed': 'of the image',
    'compose.yaml': compose(name, options),
  });
  return `${name}/compose.yaml`;
}
const ask = async (service: string, path: string): Promise<unknown> =>
  (await fetch(`${server.url}/f/${service}${path}`)).json();
/** Other tests have volumes on the same server. */
const ownVolumes = async (): Promise<string[]> =>
  (await server.client.volumes.list())
    .map(({ name }) => name)
    .filter((name) => /^(?:diary|other)-/.test(name));
const loopFiles = (): string[] =>
  readdirSync('/sys/block')
    .map((device) => `/sys/block/${device}/loop/backing_file`)
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, 'utf8'));

test('a database keeps its data over a new deployment and over down and up; down -v removes it', async () => {
  const file = await writeApplication('diary');
  const up = await succeed('up', '-d', '-f', file);
  expect(up.stderr).toMatch(/✓ store +created +1\/1 running/);
  expect(await ask('diary-store', '/add?text=monday')).toBe('added');
  expect(await ask('diary-store', '/about')).toEqual({
    files: ['seed'],
    ended: null,
    owner: true,
    options: ['ext4', expect.stringMatching(/^rw,(?=.*nosuid)(?=.*nodev)(?=.*noexec)/)],
    device: false,
    run: 'EACCES',
  });

  await writeApplication('diary', { mood: 'bright' });
  await succeed('up', '-d', '-f', file);
  expect(await ask('diary-store', '/all')).toEqual(['monday']);
  expect(await ask('diary-store', '/about')).toMatchObject({ ended: 'by SIGTERM', files: ['ended', 'seed'] });
  expect(await ask('diary-store', '/add?text=tuesday')).toBe('added');

  const inspected = await succeed('volume', 'inspect', 'diary-data');
  expect(inspected.stdout).toMatch(/used by +diary-store/);
  expect(inspected.stdout).toMatch(/of 256 MB/);
  const refused = await cli.run(['volume', 'rm', 'diary-data']);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('skiff service rm diary-store') });

  const down = await succeed('down', '-f', file);
  expect(down.stderr).toContain('diary-data (skiff down -v removes volumes)');
  await succeed('up', '-d', '-f', file);
  expect(await ask('diary-store', '/all')).toEqual(['monday', 'tuesday']);

  const { id } = await server.client.volumes.get('diary-data');
  expect(loopFiles().some((path) => path.includes(id))).toBe(true);
  await succeed('down', '-v', '-f', file);
  await waitFor('the volume to be gone', async () => (await ownVolumes()).length === 0);
  const files = readdirSync(dataPaths(server.dataDir).volumes);
  expect(files.filter((name) => name.includes(id))).toEqual([]);
  await waitFor('its loop device to be gone', () => !loopFiles().some((path) => path.includes(id)));
});

test('a volume has a limit of its own, and is neither of another application nor of another namespace', async () => {
  for (const name of ['diary', 'other'])
    await succeed('up', '-d', '-f', await writeApplication(name, { size: '32MB' }));
  expect(await ask('diary-store', '/fill')).toBe('ENOSPC');
  expect(await ask('diary-store', '/add?text=mine')).toBe('added');
  expect(await ask('other-store', '/all')).toEqual([]);

  const { token } = await server.client.tokens.create({
    name: 'volumes-team',
    scopes: ['deploy'],
    namespace: 'team',
  });
  const team = createClient({ url: server.url, token });
  expect(await team.volumes.list()).toEqual([]);
  await expect(team.volumes.get('other-data')).rejects.toThrow('nothing else');
  await expect(team.volumes.remove('other-data')).rejects.toThrow('nothing else');
  await expect(team.services.create({ name: 'team.a', functionName: 'other-store-code' })).rejects.toThrow(
    'not of the namespace',
  );
  await expect(
    server.client.services.create({ name: 'second', functionName: 'other-store-code' }),
  ).rejects.toThrow('"other-data" is used by the service "other-store"');
  await expect(server.client.services.update('other-store', { replicas: 2 })).rejects.toThrow('one replica');

  expect(await ownVolumes()).toEqual(['diary-data', 'other-data']);
  for (const name of ['diary', 'other']) await succeed('down', '-v', '-p', name);
  await waitFor('the volumes to be gone', async () => (await ownVolumes()).length === 0);
});
