import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { Client } from 'undici';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { MirrorSession } from '../../../builder/install/mirror.ts';
import { NpmMirror } from '../../../builder/install/npm/mirror.ts';
import { TarballCache } from '../../../builder/install/tarball-cache.ts';
import { waitFor } from '../../helpers/wait.ts';

interface Upstream {
  readonly url: string;
  readonly seen: { method: string; url: string; authorization: string | undefined }[];
  answer: (incoming: IncomingMessage, outgoing: ServerResponse) => void;
  close(): Promise<void>;
}

let folder: string;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skiff-mirror-'));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await rm(folder, { recursive: true, force: true });
});

async function startUpstream(): Promise<Upstream> {
  const seen: Upstream['seen'] = [];
  const upstream: Upstream = {
    url: '',
    seen,
    answer: (_, outgoing) => outgoing.end('ok'),
    close: async () => {},
  };
  const server = createServer((incoming, outgoing) => {
    seen.push({
      method: incoming.method ?? '',
      url: incoming.url ?? '',
      authorization: incoming.headers.authorization,
    });
    upstream.answer(incoming, outgoing);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return Object.assign(upstream, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

async function openMirror(
  registry: string,
  cacheBytes = 1_000_000,
): Promise<{
  session: MirrorSession;
  get: (path: string, method?: string) => Promise<{ status: number; body: string }>;
}> {
  const mirror = new NpmMirror({
    registry,
    cache: new TarballCache(join(folder, 'cache'), cacheBytes),
    log: pino({ level: 'silent' }),
  });
  const socketPath = join(folder, `${closing.length}.sock`);
  const session = await mirror.open(socketPath);
  const client = new Client('http://registry', { socketPath });
  closing.push(
    () => client.destroy(),
    () => session.close(),
    () => mirror.close(),
  );
  return {
    session,
    async get(path, method = 'GET') {
      const reply = await client.request({ path, method });
      return { status: reply.statusCode, body: await reply.body.text() };
    },
  };
}

test.each([
  '/zod',
  '/@scope%2fname',
  '/@scope/name',
  '/zod/-/zod-4.0.0.tgz',
  '/@scope/name/-/name-1.0.0-rc.1.tgz',
  '/zod/latest',
  '/zod/4.0.0',
])('passes %s on', async (path) => {
  const upstream = await startUpstream();
  const { get } = await openMirror(upstream.url);
  await expect(get(path)).resolves.toEqual({ status: 200, body: 'ok' });
  expect(upstream.seen.map(({ url }) => url)).toEqual([path]);
});

test.each([
  ['GET', '/'],
  ['GET', '/-/whoami'],
  ['GET', '/-/npm/v1/tokens'],
  ['GET', '/../-/whoami'],
  ['GET', '/%2e%2e/-/whoami'],
  ['GET', '/zod/../../-/whoami'],
  ['GET', '/-/v1/search?text=x'],
  ['GET', '/zod?write=true'],
  ['GET', 'http://elsewhere/zod'],
  ['PUT', '/zod'],
  ['POST', '/-/npm/v1/security/advisories/bulk'],
  ['DELETE', '/zod/-/zod-1.0.0.tgz/-rev/1'],
])('refuses %s %s', async (method, path) => {
  const upstream = await startUpstream();
  const { get, session } = await openMirror(upstream.url);
  await expect(get(path, method)).resolves.toMatchObject({ status: 403 });
  expect(upstream.seen).toEqual([]);
  expect(session.problems).toEqual([expect.stringContaining('refused')]);
});

test('sends the registry’s credentials to the registry and to nobody it redirects to', async () => {
  const elsewhere = await startUpstream();
  const upstream = await startUpstream();
  upstream.answer = (_, outgoing) => outgoing.writeHead(302, { location: `${elsewhere.url}/blob` }).end();
  const { get, session } = await openMirror(upstream.url.replace('//', '//user:p%40ss@'));
  // Elsewhere is not encrypted, so it is not followed at all.
  await expect(get('/zod/-/zod-1.0.0.tgz')).resolves.toMatchObject({ status: 502 });
  expect(upstream.seen[0]?.authorization).toBe(`Basic ${Buffer.from('user:p@ss').toString('base64')}`);
  expect(elsewhere.seen).toEqual([]);
  expect(session.problems).toEqual(['no answer /zod/-/zod-1.0.0.tgz']);
});

test('follows redirects within the registry', async () => {
  const upstream = await startUpstream();
  upstream.answer = (incoming, outgoing) =>
    incoming.url === '/zod'
      ? outgoing.writeHead(301, { location: '/moved/zod' }).end()
      : outgoing.end('here');
  const { get } = await openMirror(upstream.url);
  await expect(get('/zod')).resolves.toEqual({ status: 200, body: 'here' });
});

test('serves a registry below a path, whether or not the tarball names the path', async () => {
  const upstream = await startUpstream();
  const { get } = await openMirror(`${upstream.url}/npm/all/`);
  await get('/zod');
  await get('/npm/all/zod/-/zod-1.0.0.tgz');
  expect(upstream.seen.map(({ url }) => url)).toEqual(['/npm/all/zod', '/npm/all/zod/-/zod-1.0.0.tgz']);
});

test('asks for a tarball once and for a package document each time', async () => {
  const upstream = await startUpstream();
  const { get, session } = await openMirror(upstream.url);
  for (let i = 0; i < 3; i++) {
    await expect(get('/zod/-/zod-1.0.0.tgz')).resolves.toEqual({ status: 200, body: 'ok' });
    await waitFor('it is kept', async () =>
      (await readdir(join(folder, 'cache'))).some((name) => !name.startsWith('new-')),
    );
    await get('/zod');
  }
  expect(upstream.seen.filter(({ url }) => url.endsWith('.tgz')).length).toBe(1);
  expect(upstream.seen.filter(({ url }) => url === '/zod').length).toBe(3);
  expect(session.bytes).toBe(12);
});

test('keeps no tarball that came incomplete or as an error', async () => {
  const upstream = await startUpstream();
  const { get } = await openMirror(upstream.url);
  upstream.answer = (_, outgoing) => {
    outgoing.writeHead(200, { 'content-length': 100 }).write('half');
    outgoing.destroy();
  };
  expect(await get('/zod/-/zod-1.0.0.tgz').catch(() => ({ status: 0 }))).not.toMatchObject({ status: 200 });
  upstream.answer = (_, outgoing) => outgoing.writeHead(404).end('no');
  await expect(get('/zod/-/zod-1.0.0.tgz')).resolves.toMatchObject({ status: 404 });
  await waitFor(
    'an empty cache',
    async () => (await readdir(join(folder, 'cache')).catch(() => [])).length === 0,
  );
  upstream.answer = (_, outgoing) => outgoing.end('whole');
  await expect(get('/zod/-/zod-1.0.0.tgz')).resolves.toEqual({ status: 200, body: 'whole' });
});

test('forgets what a session took from the cache when its digest was wrong', async () => {
  const upstream = await startUpstream();
  const { get, session } = await openMirror(upstream.url);
  await get('/zod/-/zod-1.0.0.tgz');
  await session.forget();
  await get('/zod/-/zod-1.0.0.tgz');
  expect(upstream.seen.length).toBe(2);
});

test('keeps the cache within its budget, oldest first', async () => {
  const upstream = await startUpstream();
  upstream.answer = (_, outgoing) => outgoing.end('x'.repeat(400));
  const { get } = await openMirror(upstream.url, 1_000);
  for (const version of [1, 2, 3]) {
    await get(`/zod/-/zod-${version}.0.0.tgz`);
    await waitFor(
      'it is kept',
      async () => (await readdir(join(folder, 'cache'))).length >= Math.min(version, 2),
    );
  }
  const listCached = async (): Promise<string[]> =>
    (await readdir(join(folder, 'cache'))).filter((name) => !name.startsWith('new-'));
  await waitFor('two tarballs', async () => (await listCached()).length === 2);
  await get('/zod/-/zod-3.0.0.tgz');
  expect(upstream.seen.length).toBe(3);
  await get('/zod/-/zod-1.0.0.tgz');
  expect(upstream.seen.length).toBe(4);
});

test('says 502 when the registry is away', async () => {
  const { get, session } = await openMirror('http://127.0.0.1:1');
  await expect(get('/zod')).resolves.toMatchObject({ status: 502 });
  expect(session.problems).toEqual(['no answer /zod: ECONNREFUSED']);
});
