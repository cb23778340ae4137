/** Versions of a function side by side: previews, canaries, promotion, rollback by hand and by itself. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClient, type Client } from '../../../sdk/client/index.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

let server: TestServer;
let client: Client;

beforeAll(async () => {
  server = await startServer();
  client = createClient({ url: server.url, token: server.adminToken });
});
afterAll(() => server?.stop());

const answering = (text: string): string => `export default () => new Response(${JSON.stringify(text)});`;

/** By the command line, as a person would. */
async function deploy(name: string, source: string, args: readonly string[] = []): Promise<string> {
  await using folder = await createSourceFolder({ 'index.ts': source });
  return (await server.deploy(folder.path, ['--name', name, ...args])).deployment;
}

async function call(path: string, init?: RequestInit): Promise<string> {
  return (await fetch(`${server.url}/f/${path}`, init)).text();
}

async function count(name: string, calls: number, init?: (i: number) => RequestInit) {
  const texts = await Promise.all(Array.from({ length: calls }, (_, i) => call(name, init?.(i))));
  return Object.fromEntries(
    [...new Set(texts)].map((text) => [text, texts.filter((one) => one === text).length]),
  );
}

describe('previews', () => {
  it('every deployment and alias has a URL of its own', async () => {
    const one = await deploy('preview', answering('one'));
    const two = await deploy('preview', answering('two'));
    expect(await call('preview')).toBe('two');
    expect(await call(`preview@${one}/a?b`)).toBe('one');
    expect(await call(`preview@${two}`)).toBe('two');
    expect(await call('preview@live/')).toBe('two');
    await client.setAlias('preview', 'staging', [{ deployment: one, weight: 100 }]);
    expect(await call('preview@staging')).toBe('one');
    const head = await fetch(`${server.url}/f/preview@${one}`);
    expect(head.headers.get('skiff-deployment')).toBe(one);
  });

  it('a version that is not there, or is of another function, is a 404', async () => {
    const other = await deploy('preview-other', answering('other'));
    for (const version of [other, 'dep-01zzzzzzzzzzzzzzzzzzzzzzzz', 'no-such-alias', 'Bad']) {
      expect((await fetch(`${server.url}/f/preview@${version}`)).status).toBe(404);
    }
  });

  it('a private deployment is private behind its own URL and behind a canary', async () => {
    const open = await deploy('half-open', answering('open'));
    const closed = await deploy('half-open', answering('closed'), ['--access', 'private', '--canary', '50']);
    expect((await fetch(`${server.url}/f/half-open@${closed}`)).status).toBe(401);
    expect(await call(`half-open@${open}`)).toBe('open');
    const statuses = await Promise.all(
      Array.from({ length: 40 }, async () => (await fetch(`${server.url}/f/half-open`)).status),
    );
    expect(new Set(statuses)).toEqual(new Set([200, 401]));
  });
});

describe('a canary', () => {
  it('gets its share, grows, and ends by promotion or rollback', async () => {
    await deploy('canary', answering('old'));
    const fresh = await deploy('canary', answering('new'), ['--canary', '20']);
    const share = await count('canary', 300);
    expect(share['new']).toBeGreaterThan(20);
    expect(share['new']).toBeLessThan(130);
    expect((await server.cli(['promote', 'canary', '--percent', '60'])).stdout).toContain('60%');
    expect((await count('canary', 300))['new']).toBeGreaterThan(120);
    expect((await server.cli(['promote', 'canary'])).stdout).toContain(fresh);
    await expect.poll(() => count('canary', 20)).toEqual({ new: 20 });
    expect((await server.cli(['rollback', 'canary'])).code).toBe(0);
    await expect.poll(() => count('canary', 20)).toEqual({ old: 20 });
  });

  it('keeps a caller with a key where he is, by header or cookie', async () => {
    await deploy('sticky', answering('old'));
    await deploy('sticky', answering('new'), ['--canary', '50']);
    for (const headers of [{ 'skiff-sticky-key': 'ada' }, { cookie: 'a=1; skiff-sticky-key=bob; c=2' }]) {
      expect(Object.keys(await count('sticky', 30, () => ({ headers })))).toHaveLength(1);
    }
    const many = await count('sticky', 200, (i) => ({ headers: { 'skiff-sticky-key': `user-${i}` } }));
    expect(many['new']).toBeGreaterThan(60);
    expect(many['old']).toBeGreaterThan(60);
  });

  it('is refused with a share that is none', async () => {
    const { code } = await server.cli(['deploy', 'infra/deploy/examples/hello.ts', '--canary', '0']);
    expect(code).not.toBe(0);
  });
});

describe('a release whose errors jump', () => {
  const FAILING = `export default () => { throw new Error('broken'); };`;
  const live = async (name: string) => (await client.get(name)).live?.targets;

  it('as a canary is ended, and the deployment before gets all traffic back', async () => {
    const good = await deploy('jump', answering('good'));
    await deploy('jump', FAILING, ['--canary', '50']);
    await count('jump', 120);
    await expect.poll(() => live('jump'), { timeout: 5_000 }).toEqual([{ deployment: good, weight: 100 }]);
    await expect.poll(() => count('jump', 20)).toEqual({ good: 20 });
    expect(server.log('gateway')).toContain('a release was taken back');
  });

  it('that was live at once is taken back as well', async () => {
    const good = await deploy('jump-all', answering('good'));
    await count('jump-all', 10);
    await deploy('jump-all', FAILING);
    await count('jump-all', 60);
    await expect
      .poll(() => live('jump-all'), { timeout: 5_000 })
      .toEqual([{ deployment: good, weight: 100 }]);
  });

  it('stays when its author said so, and when it is the only one', async () => {
    await deploy('stubborn', answering('good'));
    await count('stubborn', 10);
    const bad = await deploy('stubborn', FAILING, ['--rollback-at', '0']);
    const only = await deploy('only', FAILING);
    await Promise.all([count('stubborn', 60), count('only', 60)]);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await live('stubborn')).toEqual([{ deployment: bad, weight: 100 }]);
    expect(await live('only')).toEqual([{ deployment: only, weight: 100 }]);
  });
});
