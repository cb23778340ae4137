import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scope } from '../../sdk/protocol/api.ts';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { functionFixture } from '../helpers/fixtures.ts';
import { openBench, type Bench } from './probe.ts';
import { defineHostileHeads } from './suite/hostile-heads.ts';
import { defineNamespaces, SMALL_NAMESPACE } from './suite/namespaces.ts';

let bench: Bench;
let client: Client;
let secret: string;
let open: string;

beforeAll(async () => {
  bench = await openBench('crun', { SKIFF_NAMESPACE_SANDBOXES_MAX: SMALL_NAMESPACE });
  client = createClient({ url: bench.server.url, token: bench.server.adminToken });
  const { files, entry } = findSource(functionFixture('mirror.ts'));
  const deploy = async (name: string, access: string) =>
    (await client.deploy(name, { source: () => packSource(files), entry, config: { access } })).url;
  [secret, open] = [await deploy('secret', 'private'), await deploy('open', 'public')];
});
afterAll(() => bench?.server.stop());

describe('F3: a private function', () => {
  const call = async (token?: string): Promise<number> => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${secret}?body=x`, { headers });
    await response.body?.cancel();
    return response.status;
  };
  const make = async (scope: Scope, expiresMs?: number) =>
    await client.tokens.create({ name: scope, scopes: [scope], expiresMs });

  it('answers nobody without a token or with one that is none', async () => {
    expect(await call()).toBe(401);
    expect(await call('skiff_nonsense')).toBe(401);
  });

  it.each([
    ['invoke', 200],
    ['admin', 200],
    ['deploy', 403],
    ['read', 403],
  ] as const)('with a token to %s: %d', async (scope, status) => {
    expect(await call((await make(scope)).token)).toBe(status);
  });

  it('F5: not with one that has expired, and not a second after it was revoked', async () => {
    const short = await make('invoke', Date.now() + 700);
    expect(await call(short.token)).toBe(200);
    await expect.poll(() => call(short.token), { timeout: 3_000 }).toBe(401);
    const revoked = await make('invoke');
    expect(await call(revoked.token)).toBe(200);
    await client.tokens.remove(revoked.record.id);
    await expect.poll(() => call(revoked.token), { timeout: 1_000 }).toBe(401);
  });

  it('F4: a token bound to functions is good for those and opens nothing else', async () => {
    const bound = await client.tokens.create({
      name: 'bound',
      scopes: ['invoke', 'read'],
      functions: ['secret'],
    });
    const other = await client.tokens.create({
      name: 'other',
      scopes: ['invoke', 'read'],
      functions: ['open'],
    });
    expect([await call(bound.token), await call(other.token)]).toEqual([200, 403]);
    const look = async (token: string, path: string): Promise<number> => {
      const response = await bench.server.fetch(path, { headers: { authorization: `Bearer ${token}` } });
      await response.body?.cancel();
      return response.status;
    };
    expect(await look(bound.token, '/v1/functions/secret')).toBe(200);
    for (const path of [
      '/v1/functions/open',
      '/v1/functions',
      '/v1/nodes',
      '/v1/df',
      '/metrics',
      '/v1/dlq',
      '/v1/schedules',
    ])
      expect(await look(bound.token, path), path).toBe(403);
    for (const scope of ['deploy', 'admin'] as const)
      await expect(
        client.tokens.create({ name: 'x', scopes: [scope], functions: ['secret'] }),
      ).rejects.toThrow(/only tokens/);
  });

  it('is not opened by another spelling of its name', async () => {
    const { hostname, port } = new URL(bench.server.url);
    for (const path of [
      '/f/open/../secret',
      '/f/open%2f..%2fsecret',
      '//f/secret',
      '/f//secret',
      '/f/secret%20',
      '/f/./secret',
      '/f/SECRET',
    ]) {
      const answer = await exchange(
        hostname,
        Number(port),
        `GET ${path}?body=INSIDE HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
      );
      // The first names the public function, which is asked for a path of its own; no other gets to a function.
      const isOpen = path.startsWith('/f/open/');
      expect(answer.endsWith('\r\n\r\nINSIDE'), path).toBe(isOpen);
    }
  });

  it('its public neighbour needs none', async () => {
    expect((await fetch(`${open}?body=x`)).status).toBe(200);
  });
});

function exchange(host: string, port: number, text: string): Promise<string> {
  const socket = connect(port, host);
  return new Promise((resolve) => {
    let answer = '';
    const timer = setTimeout(() => socket.destroy(), 3_000);
    socket.on('data', (chunk) => (answer += chunk.toString('latin1')));
    socket.on('error', () => {});
    socket.on('close', () => (clearTimeout(timer), resolve(answer)));
    socket.write(text);
  });
}

describe('E9: what a function answers stays one answer', () => {
  /** Two requests on one connection: the second answer must be whole and the platform's. */
  const twice = async (query: string): Promise<string> => {
    const { hostname, port } = new URL(bench.server.url);
    const first = `GET /f/open?${query} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const second = 'GET /f/open?body=second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
    return exchange(hostname, Number(port), first + second);
  };
  const statuses = (answer: string) =>
    [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => Number(match[1]));

  it.each([
    'content-length=1&body=longer',
    'content-length=9999&body=short',
    'transfer-encoding=chunked&body=x',
    'transfer-encoding=identity&body=x',
    'connection=close&body=x',
    'connection=upgrade&upgrade=h2c&body=x',
    'keep-alive=timeout%3D1&body=x',
    'trailer=x-late&body=x',
    'content-encoding=gzip&body=notgzip',
    'status=299&body=x',
  ])('%s', async (query) => {
    const answer = await twice(query);
    const [first, second] = statuses(answer);
    expect(first).toBeGreaterThanOrEqual(200);
    expect(second).toBe(200);
    expect(answer.endsWith('second')).toBe(true);
    expect(answer.toLowerCase()).not.toMatch(
      /upgrade: h2c|transfer-encoding: identity|trailer:|keep-alive: timeout=1\r/,
    );
  });

  it.each(['skiff-invocation-id', 'skiff-deployment', 'skiff-cause', 'skiff-outcome', 'skiff-request-id'])(
    'E8: it cannot set %s',
    async (name) => {
      const response = await fetch(`${open}?body=x&${name}=forged`);
      expect(response.headers.get(name) ?? '').not.toContain('forged');
    },
  );
});

describe('E8: what a client sends of the platform\u2019s own is replaced', () => {
  it('the function sees our word on who calls, and no hop-by-hop header', async () => {
    const { hostname, port } = new URL(bench.server.url);
    const answer = await exchange(
      hostname,
      Number(port),
      'GET /f/open HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nSkiff-Invocation-Id: forged\r\n' +
        'TE: trailers\r\nProxy-Authorization: Basic x\r\nX-Hop: secret\r\nConnection: close, X-Hop\r\n\r\n',
    );
    expect(answer).toContain('"x-forwarded-for","127.0.0.1"');
    expect(answer).not.toMatch(/6\.6\.6\.6|forged|proxy-authorization|x-hop|"te"|"connection"/);
  });
});

defineHostileHeads(() => ({ client, url: bench.server.url }));
defineNamespaces(() => ({ client, bench }));
