/** Images of other registries that listen on $PORT, on real sandboxes. */
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hashSync } from 'bcryptjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listPackages, unpackPackages } from '../../../builder/base/debian-packages.ts';
import type { LayerEntry } from '../../../infra/oci/layer-pack.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import {
  type Authority,
  createAuthority,
  createKeyPair,
  issueLeaf,
} from '../../../infra/swarm/certificates.ts';
import { createClient, type Client } from '../../../sdk/client/index.ts';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { findBusybox } from '../../helpers/busybox.ts';
import { noise, pushTestImage } from '../../helpers/container-image.ts';
import { startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { waitFor } from '../../helpers/wait.ts';

const MB = 1024 ** 2;
let remote: TestRegistry;
let registry: Registry;
let server: TestServer;
let client: Client;
let cli: TestCli;
let tls: { certificate: string; privateKey: string };
let base: readonly LayerEntry[];

function issueServerCertificate(authority: Authority): typeof tls {
  const { publicKey, privateKey } = createKeyPair();
  const request = { publicKey, nodeId: 'registry', role: 'worker' as const, addresses: ['127.0.0.1'] };
  return { certificate: issueLeaf(authority, { ...request, lifeMs: 3_600_000 }), privateKey };
}

/** Node and its libraries, as this host has them. */
function nodeFiles(): LayerEntry[] {
  const libraries = [
    'libc.so.6',
    'libm.so.6',
    'libdl.so.2',
    'libpthread.so.0',
    'libatomic.so.1',
    'libgcc_s.so.1',
    'libstdc++.so.6',
  ];
  const find = (name: string): string => {
    const found = ['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu'].map((folder) => `${folder}/${name}`);
    return found.find((path) => tryRead(path)) as string;
  };
  return [
    { path: 'usr/bin/node', file: process.execPath, isExecutable: true },
    { path: 'lib64/ld-linux-x86-64.so.2', file: '/lib64/ld-linux-x86-64.so.2', isExecutable: true },
    ...libraries.map((name) => ({ path: `lib/x86_64-linux-gnu/${name}`, file: find(name) })),
  ];
}

function tryRead(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

const SERVER = `
const http = require('node:http');
let aborted = 0;
console.log('opens');
const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  if (url.pathname === '/facts') {
    const { PORT, K_SERVICE, GREETING, FROM_IMAGE } = process.env;
    return response.setHeader('set-cookie', ['a=1', 'b=2']).end(JSON.stringify({
      PORT, K_SERVICE, GREETING, FROM_IMAGE, cwd: process.cwd(), uid: process.getuid(), method: request.method,
      url: request.url, headers: request.headers,
    }));
  }
  if (url.pathname === '/upload') {
    let bytes = 0;
    request.on('data', (chunk) => (bytes += chunk.length)).on('end', () => response.end(String(bytes)));
  } else if (url.pathname === '/download') {
    let left = Number(url.searchParams.get('bytes'));
    const more = () => {
      while (left > 0) {
        const piece = Buffer.alloc(Math.min(left, 65536), 120);
        left -= piece.length;
        if (!response.write(piece)) return response.once('drain', more);
      }
      response.end();
    };
    more();
  } else if (url.pathname === '/echo') request.pipe(response);
  else if (url.pathname === '/sse') {
    let n = 0;
    const timer = setInterval(() => { response.write('data: ' + ++n + '\\n\\n'); if (n === 3) { clearInterval(timer); response.end(); } }, 200);
  } else if (url.pathname === '/hang') response.on('close', () => aborted++);
  else if (url.pathname === '/aborted') response.end(String(aborted));
  else if (url.pathname === '/break') { response.write('x'); setTimeout(() => request.socket.destroy(), 20); }
  else if (url.pathname === '/exit') process.exit(3);
  else if (url.pathname === '/close') { response.end(); server.close(); setInterval(() => {}, 1e6); }
  else { console.log('said ' + url.pathname); response.statusCode = 404; response.end('nothing at ' + url.pathname); }
}).listen(process.env.PORT);
`;

beforeAll(async () => {
  const authority = createAuthority('registry');
  tls = issueServerCertificate(authority);
  remote = await startTestRegistry({ htpasswd: `ci:${hashSync('geheim', 4)}\n`, tls });
  registry = openRegistry({
    url: remote.url,
    user: 'ci',
    password: 'geheim',
    tls: { ca: authority.certificate },
  });
  base = nodeFiles();
  server = await startServer({ env: { SKIFF_REGISTRY_CA: authority.certificate } });
  client = createClient({ url: server.url, token: server.adminToken });
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_TOKEN: server.adminToken });
  await client.registries.login(`127.0.0.1:${remote.port}`, 'ci', 'geheim');
});
afterAll(async () => {
  await cli?.close();
  await server?.stop();
  await registry?.close();
  await remote?.stop();
});

const nameOf = (repository: string, tag = 'latest'): string =>
  `127.0.0.1:${remote.port}/${repository}:${tag}`;

async function deploy(
  name: string,
  repository: string,
  config: Record<string, unknown> = {},
): Promise<string> {
  return (await client.deploy(name, { image: nameOf(repository), config })).url;
}

describe('a plain node:http server in an image', () => {
  let url: string;

  beforeAll(async () => {
    await pushTestImage(registry, 'team/shop', 'latest', {
      layers: [base, [{ path: 'srv/app/server.js', data: SERVER }]],
      config: {
        Entrypoint: ['node'],
        Cmd: ['server.js'],
        Env: ['FROM_IMAGE=yes'],
        WorkingDir: '/srv/app',
        User: '0',
      },
      types: 'docker',
      isIndexed: true,
    });
    url = await deploy('shop', 'team/shop', {
      env: { GREETING: 'hi' },
      concurrency: 4,
      max: 1,
      timeout: '20s',
    });
  });

  it('runs with its own command, variables and folder, but as the uid of the platform', async () => {
    const response = await fetch(`${url}/facts?a=1`, { headers: { 'x-custom': 'kept' } });
    expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
    const facts = (await response.json()) as Record<string, unknown>;
    expect(facts).toMatchObject({
      PORT: '8080',
      K_SERVICE: 'shop',
      GREETING: 'hi',
      FROM_IMAGE: 'yes',
      cwd: '/srv/app',
      uid: 1000,
      method: 'GET',
      url: '/facts?a=1',
    });
    expect(facts['headers']).toMatchObject({
      'x-custom': 'kept',
      'x-forwarded-for': '127.0.0.1',
      forwarded: expect.stringContaining('for=127.0.0.1'),
      host: expect.stringContaining('127.0.0.1'),
    });
  });

  it('bodies pass in each direction, large ones too', async () => {
    const up = await fetch(`${url}/upload`, { method: 'POST', body: Buffer.alloc(32 * MB) });
    expect(await up.text()).toBe(String(32 * MB));
    const down = await fetch(`${url}/download?bytes=${32 * MB}`);
    expect((await down.arrayBuffer()).byteLength).toBe(32 * MB);
    const echoed = await fetch(`${url}/echo`, { method: 'PUT', body: 'abc' });
    expect(await echoed.text()).toBe('abc');
  });

  it('a response streams, and requests are handled at the same time', async () => {
    const response = await fetch(`${url}/sse`);
    const atMs: number[] = [];
    for await (const _ of response.body as ReadableStream<Uint8Array>) atMs.push(performance.now());
    expect((atMs.at(-1) as number) - (atMs[0] as number)).toBeGreaterThan(150);
    const all = await Promise.all(
      Array.from({ length: 4 }, () => fetch(`${url}/sse`).then((one) => one.text())),
    );
    expect(new Set(all)).toEqual(new Set(['data: 1\n\ndata: 2\n\ndata: 3\n\n']));
  });

  it('a client that leaves closes the connection of its request', async () => {
    const controller = new AbortController();
    const hanging = fetch(`${url}/hang`, { signal: controller.signal }).catch(() => 'gone');
    await sleep(300);
    controller.abort();
    expect(await hanging).toBe('gone');
    const count = async () => Number(await (await fetch(`${url}/aborted`)).text());
    await expect.poll(count, { timeout: 5_000 }).toBeGreaterThan(0);
  });

  it('what it answers is passed on, what it prints is logged, and a broken answer breaks', async () => {
    const missing = await fetch(`${url}/nowhere`);
    expect([missing.status, await missing.text()]).toEqual([404, 'nothing at /nowhere']);
    const logged = async () => {
      let text = '';
      for await (const line of client.logs('shop', {})) text += line.message;
      return text;
    };
    await expect.poll(logged, { timeout: 5_000 }).toContain('said /nowhere');
    await expect(fetch(`${url}/break`).then((one) => one.text())).rejects.toThrow();
  });

  it('is frozen when idle and answers again, and is replaced when it ends', async () => {
    await sleep(1_500);
    expect((await fetch(`${url}/facts`)).status).toBe(200);
    const crash = await fetch(`${url}/exit`);
    expect(((await crash.json()) as { cause: string }).cause).toMatch(/crash|handler_error/);
    await expect.poll(async () => (await fetch(`${url}/facts`)).status, { timeout: 10_000 }).toBe(200);
  });

  it('is replaced when it answers no more though it runs, and what it said first is in its log', async () => {
    await client.services.create({ name: 'shop-window', functionName: 'shop', replicas: 1 });
    const shown = `${server.url}/f/shop-window`;
    await waitFor('its replica', async () => (await fetch(`${shown}/facts`)).status === 200, 30_000);
    expect((await fetch(`${shown}/close`)).status).toBe(200);
    const failed = await waitFor('its end', async () => {
      await fetch(`${shown}/facts`);
      const { replicas } = await client.services.get('shop-window');
      return replicas.find(({ state }) => state === 'failed');
    });
    expect(failed.message).toMatch(/failed its health check 3 times in a row: GET \/: /);
    await waitFor('its successor', async () => (await fetch(`${shown}/facts`)).status === 200, 30_000);
    const log = async () => {
      const lines = [];
      for await (const { message } of client.logs('shop', { service: 'shop-window' })) lines.push(message);
      return lines;
    };
    await waitFor(
      'the first line of both',
      async () => (await log()).filter((text) => text === 'opens').length === 2,
    );
    await client.services.remove('shop-window');
  });

  it('its deployment says by digest what runs, and how it is started', async () => {
    const [deployment] = await client.deployments('shop');
    expect(deployment?.config.runtime).toBe('image');
    expect(deployment?.container).toMatchObject({ args: ['node', 'server.js'], port: 8080 });
    expect(deployment?.image.reference).toMatch(/^functions\/shop@sha256:/);
  });
});

it('busybox httpd in a zstd layer serves its files', async () => {
  await pushTestImage(registry, 'busybox', 'latest', {
    layers: [
      [{ path: 'bin/busybox', file: await findBusybox(), isExecutable: true }],
      [
        { path: 'www/index.html', data: '<h1>static</h1>' },
        { path: 'bin/sh', target: 'busybox' },
      ],
    ],
    config: { Entrypoint: ['/bin/sh', '-c', 'exec /bin/busybox httpd -f -p "$PORT" -h /www'] },
    compression: 'zstd',
  });
  const url = await deploy('static', 'busybox', { memory: '64MB', readyPath: '/' });
  expect(await (await fetch(`${url}/index.html`)).text()).toBe('<h1>static</h1>');
});

/** As its own image has it: what a stranger's configuration cannot have here is a port below 1024 and root. */
const NGINX_CONF = `
worker_processes 2;
error_log stderr notice;
pid /tmp/nginx.pid;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  client_max_body_size 2m;
  server {
    listen 8080;
    root /usr/share/nginx/html;
    location /status { return 200 "nginx $server_protocol"; }
    location /upload { return 201; }
  }
}
`;

it('nginx of Debian runs as a service: pages, ranges, many callers, and a worker that ends', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-nginx-'));
  try {
    const names = ['nginx', 'nginx-common', 'libc6', 'libcrypt1', 'libpcre2-8-0', 'libssl3', 'zlib1g'];
    const packages = await listPackages(names, folder, () => {});
    const files = await unpackPackages(
      packages,
      { packages: names, keep: /^usr\/share\/nginx\// },
      folder,
      join(folder, 'root'),
      () => {},
    );
    await pushTestImage(registry, 'nginx', 'latest', {
      layers: [files, [{ path: 'usr/share/nginx/html/page.html', data: '<h1>page</h1>' }]],
      config: { Entrypoint: ['/usr/sbin/nginx'], Cmd: ['-g', 'daemon off;'], ExposedPorts: { '80/tcp': {} } },
      compression: 'zstd',
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const url = await deploy('web', 'nginx', {
    memory: '64MB',
    readyPath: '/status',
    port: 8080,
    max: 1,
    concurrency: 50,
    files: { '/etc/nginx/nginx.conf': NGINX_CONF },
  });
  expect(await (await fetch(`${url}/status`)).text()).toBe('nginx HTTP/1.1');
  const page = await fetch(`${url}/page.html`, { headers: { range: 'bytes=4-7' } });
  expect([page.status, await page.text()]).toEqual([206, 'page']);
  expect((await fetch(`${url}/none.html`)).status).toBe(404);
  const statuses = await Promise.all(
    Array.from({ length: 40 }, async () => (await fetch(`${url}/page.html`)).status),
  );
  expect(new Set(statuses)).toEqual(new Set([200]));
  const body = new Uint8Array(3 * MB);
  expect((await fetch(`${url}/upload`, { method: 'POST', body })).status).toBe(413);
  await client.services.create({ name: 'front', functionName: 'web', replicas: 1 });
  const front = `${server.url}/f/front/page.html`;
  await waitFor('its replica', async () => (await fetch(front)).status === 200, 30_000);
  await client.services.remove('front');
}, 120_000);

/** With the 130 MB of Node: 300 MB when this is 180. */
const LARGE_LAYER_MB = Number(process.env['TEST_LARGE_IMAGE_MB'] ?? 24);

it('a large image is deployed, and its layers are not fetched again', async () => {
  const image = {
    layers: [
      base,
      [{ path: 'big', data: noise(LARGE_LAYER_MB * MB, 'big') }],
      [{ path: 's.js', data: SERVER }],
    ],
    config: { Cmd: ['/usr/bin/node', '/s.js'] },
    compression: 'none' as const,
  };
  await pushTestImage(registry, 'large', 'latest', image);
  const url = await deploy('large', 'large', { memory: '256MB' });
  expect((await fetch(`${url}/facts`)).status).toBe(200);
  const steps: string[] = [];
  await client.deploy('large', {
    image: nameOf('large'),
    onEvent: (event) =>
      void (event.type === 'step' && event.step === 'push' && steps.push(event.detail ?? '')),
  });
  expect(steps.join()).toContain('0 of 3 layers new');
}, 180_000);

describe('what cannot be deployed says why', () => {
  it.each([
    ['an image that is not there', 'no/such', /there is no image/],
    ['something that is no reference', 'A b', /is not an image reference/],
  ])('%s', async (_what, repository, message) => {
    await expect(deploy('refused', repository)).rejects.toMatchObject({
      code: 'INVALID_SOURCE',
      message: expect.stringMatching(message),
    });
  });

  it('an image without a command', async () => {
    await pushTestImage(registry, 'nothing', 'latest', { layers: [[{ path: 'x', data: '' }]], config: {} });
    await expect(deploy('nothing', 'nothing')).rejects.toMatchObject({
      code: 'INVALID_SOURCE',
      message: expect.stringContaining('neither ENTRYPOINT nor CMD'),
    });
  });

  it('a program that ends, with its last words', async () => {
    await pushTestImage(registry, 'dying', 'latest', {
      layers: [base],
      config: { Cmd: ['/usr/bin/node', '-e', 'console.error("no database"); process.exit(4)'] },
    });
    await expect(deploy('dying', 'dying')).rejects.toMatchObject({
      code: 'COLD_START_FAILED',
      message: expect.stringMatching(/exit code 4[^]*no database/),
    });
  });

  it('an image that only the operator’s login may pull, for a function of a namespace', async () => {
    await pushTestImage(registry, 'secret', 'latest', { layers: [base], config: { Cmd: ['/usr/bin/node'] } });
    await expect(client.deploy('team.secret', { image: nameOf('secret') })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/refused access/),
    });
  });

  it('a registry that wants another login, or one whose certificate is not trusted', async () => {
    const other = await startTestRegistry({ htpasswd: `x:${hashSync('y', 4)}\n`, tls });
    const stranger = await startTestRegistry({ tls: issueServerCertificate(createAuthority('stranger')) });
    await using _stop = {
      [Symbol.asyncDispose]: async () => void (await Promise.all([other.stop(), stranger.stop()])),
    };
    for (const [port, words] of [
      [other.port, /refused access/],
      [stranger.port, /cannot be reached/],
    ] as const) {
      await expect(client.deploy('locked', { image: `127.0.0.1:${port}/team/shop` })).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringMatching(words),
      });
    }
  });
});

describe('logins to registries', () => {
  const host = (): string => `127.0.0.1:${remote.port}`;

  it('are kept only when the registry takes them, listed without passwords, and used until they are gone', async () => {
    await pushTestImage(registry, 'login/app', 'latest', {
      layers: [base, [{ path: 's.js', data: SERVER }]],
      config: { Cmd: ['/usr/bin/node', '/s.js'] },
    });
    const image = nameOf('login/app');
    expect((await cli.run(['logout', host()])).code).toBe(0);
    await expect(client.deploy('login', { image })).rejects.toMatchObject({ code: 'UNAVAILABLE' });

    const wrong = await cli.run(['registry', 'login', host(), '-u', 'ci', '--password-stdin'], {
      input: 'falsch\n',
    });
    expect(wrong.code).not.toBe(0);
    expect(wrong.stderr).toContain('does not take the login of user "ci"');
    expect((await cli.run(['registry', 'ls', '--json'])).stdout.trim()).toBe('[]');

    const right = await cli.run(['login', `https://${host()}`, '-u', 'ci', '--password-stdin'], {
      input: 'geheim\n',
    });
    expect([right.code, right.stdout]).toEqual([0, `the server is logged in to ${host()} as ci\n`]);
    const listed = JSON.parse((await cli.run(['registry', 'ls', '--json'])).stdout) as object[];
    expect(listed).toEqual([{ host: host(), user: 'ci', updatedMs: expect.any(Number) }]);
    expect((await client.deploy('login', { image })).url).toContain('/f/login');

    // The key may change under them.
    expect(await client.secrets.rotateKey()).toBe(1);
    expect((await client.deploy('login', { image })).url).toContain('/f/login');
  });

  it('stand in the store only encrypted', async () => {
    const found = await searchFiles(server.dataDir, ['geheim', Buffer.from('ci:geheim').toString('base64')]);
    expect(found).toEqual([]);
  });
});

/** Files below `folder` with one of the words in them. */
async function searchFiles(folder: string, words: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    // Unpacked images are large and hold nothing of ours.
    if (!entry.isFile() || /\/(?:store|registry|base|tarballs)\//.test(path)) continue;
    const bytes = await readFile(path).catch(() => Buffer.alloc(0));
    if (words.some((word) => bytes.includes(word))) found.push(path);
  }
  return found;
}
