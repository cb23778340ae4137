/** The applications of sdk/examples on a real server: each brought up with one command, and checked from outside. */
import { execFileSync } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import { afterEach, beforeAll, afterAll, expect, test } from 'vitest';
import { createCli, type CliResult, type TestCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { ROOT } from '../../helpers/source-tree.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let cli: TestCli;
let name = '';
beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_DATA_DIR: server.dataDir });
});
afterEach(async () => {
  await succeed('down', '-v');
  expect((await server.client.list()).filter((fn) => fn.name.startsWith(`${name}-`))).toEqual([]);
  expect((await server.client.schedules.list()).filter((one) => one.name.startsWith(`${name}-`))).toEqual([]);
});
afterAll(() => cli?.close());

const folder = (): string => join(cli.home, name);
async function succeed(...args: string[]): Promise<CliResult> {
  const result = await cli.run(args, { cwd: folder(), env: { DIGEST_EVERY: '1s' } });
  expect(result).toMatchObject({ code: 0 });
  return result;
}
async function open(example: string): Promise<void> {
  name = example;
  await cp(join(ROOT, 'sdk/examples', example), folder(), { recursive: true });
}
const urlOf = (member: string): string => `${server.url}/f/${name}-${member}`;

/** Reads server-sent events into `seen` until it is stopped. */
function listen(url: string): { readonly seen: string[]; stop(): Promise<void> } {
  const seen: string[] = [];
  const leave = new AbortController();
  const done = (async () => {
    const response = await fetch(url, { signal: leave.signal });
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? [])
      seen.push(...[...chunk.matchAll(/data: (.*)\n/g)].map(([, data]) => data as string));
  })().catch(() => {});
  return { seen, stop: () => (leave.abort(), done) };
}

test('chat: everybody hears what is said, and who comes later what was said before', async () => {
  await open('chat');
  execFileSync('sh', ['prepare.sh'], { cwd: folder() });
  expect((await succeed('up', '-d')).stderr).toMatch(/✓ redis +created +1\/1 running/);
  expect(await (await fetch(urlOf('chat'))).text()).toContain('<h1>Chat</h1>');
  const say = async (text: string): Promise<number> => {
    const body = JSON.stringify({ name: 'Ada', text });
    const response = await fetch(`${urlOf('chat')}/messages`, { method: 'POST', body });
    expect(response.status).toBe(201);
    return ((await response.json()) as { listeners: number }).listeners;
  };
  const listeners = [listen(`${urlOf('chat')}/events`), listen(`${urlOf('chat')}/events`)];
  await waitFor('both to listen', async () => (await say('anyone?')) === 2);
  await say('hello');
  for (const { seen } of listeners)
    await waitFor('the message', () => seen.some((message) => message.includes('"text":"hello"')));
  const late = listen(`${urlOf('chat')}/events`);
  await waitFor('the history', () => late.seen.some((message) => message.includes('"text":"hello"')));
  for (const one of [...listeners, late]) await one.stop();
  const refused = await fetch(`${urlOf('chat')}/messages`, { method: 'POST', body: '{"name":"Ada"}' });
  expect(refused.status).toBe(422);
  const again = await succeed('up', '-d');
  expect(again.stderr.match(/unchanged/g)).toHaveLength(2);
});

/** A picture of `width` by `height` in the PNG format. */
function createPng(width: number, height: number): Buffer {
  const rows = Buffer.alloc((width * 3 + 1) * height, 120);
  for (let y = 0; y < height; y++) rows[y * (width * 3 + 1)] = 0;
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(data.length, 0);
    frame.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
  };
  const head = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  const parts = [chunk('IHDR', head), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))];
  return Buffer.concat([Buffer.from('\u0089PNG\r\n\u001a\n', 'latin1'), ...parts]);
}

test('thumbnails: a photo is accepted, made small, and handed on to the album', async () => {
  await open('thumbnails');
  await succeed('up', '-d');
  const photo = createPng(640, 480);
  const accepted = await fetch(urlOf('thumbnail'), {
    method: 'POST',
    headers: { prefer: 'respond-async', 'content-type': 'image/png' },
    body: new Uint8Array(photo),
  });
  expect(accepted.status).toBe(202);
  const { id } = (await accepted.json()) as { id: string };
  const response = await waitFor('the thumbnail', async () => {
    const found = await fetch(`${urlOf('album')}/${id}`);
    return found.status === 200 && found;
  });
  expect(response.headers.get('content-type')).toBe('image/webp');
  const webp = Buffer.from(await response.arrayBuffer());
  expect([webp.toString('latin1', 0, 4), webp.toString('latin1', 8, 12)]).toEqual(['RIFF', 'WEBP']);
  expect(webp.length).toBeLessThan(photo.length);
  expect(await (await fetch(urlOf('files'))).json()).toEqual([id]);
  const nonsense = await server.client.invokeAsync(`${name}-thumbnail`, { body: 'no photo' });
  expect(await server.client.waitFor(nonsense.id)).toMatchObject({ state: 'dead', reason: 'rejected' });
});

test('notes: an API over SQLite, and a digest of it by the clock', async () => {
  await open('notes');
  await succeed('up', '-d');
  const notes = `${urlOf('api')}/notes`;
  const post = (text: string): Promise<Response> =>
    fetch(notes, { method: 'POST', body: JSON.stringify({ text }) });
  expect((await post('one')).status).toBe(201);
  expect(await (await post(`it's "two"; DROP TABLE notes`)).json()).toMatchObject({ id: 2 });
  expect(await (await fetch(notes)).json()).toMatchObject([{ id: 1, text: 'one' }, { id: 2 }]);
  expect((await fetch(`${notes}/1`, { method: 'DELETE' })).status).toBe(204);
  expect((await fetch(`${notes}/1`)).status).toBe(404);
  const digest = await waitFor('a digest after the change', async () => {
    const digests = (await (await fetch(`${urlOf('api')}/digests`)).json()) as { notes: number }[];
    return digests.at(-1)?.notes === 1 && digests.at(-1);
  });
  expect(digest).toMatchObject({ notes: 1 });
  expect((await succeed('cron', 'ls')).stdout).toMatch(/notes-digest-cron +notes-digest +every 1 s/);
  expect((await succeed('up', '--dry-run')).stdout).toContain('= schedule notes-digest-cron');
  await succeed('down');
  await succeed('up', '-d');
  expect(await (await fetch(notes)).json()).toMatchObject([{ id: 2, text: `it's "two"; DROP TABLE notes` }]);
});
