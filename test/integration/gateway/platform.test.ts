import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Catalog, openCatalog } from '../../../infra/catalog/catalog.ts';
import { fast } from '../../helpers/keys.ts';
import { NodeRecord, Usage } from '../../../sdk/protocol/api.ts';
import { API_BODY_BYTES_MAX, HEAD_BYTES_MAX, URL_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

let gateway: TestGateway;
let catalog: Catalog;
beforeAll(async () => {
  gateway = await startGateway();
  catalog = openCatalog(gateway.durableRedis);
});
afterAll(() => gateway.close());

const node: NodeRecord = {
  id: 'node-1',
  hostname: 'host',
  epoch: 'run-1',
  startedMs: 1,
  heartbeatMs: 2,
  availability: 'active',
  labels: {},
  version: '0.1.0',
  link: 'unix:/nowhere',
  capacity: { memoryBytes: 1_000, cpus: 2 },
  used: { memoryBytes: 10, sandboxes: 3, busySlots: 1, stems: 2 },
};

async function withNode(run: () => Promise<void>): Promise<void> {
  await gateway.fastRedis.zadd(fast.nodes, Date.now(), node.id, 1, 'node-dead');
  await gateway.fastRedis.set(fast.node(node.id), JSON.stringify(node), 'PX', 60_000);
  await gateway.fastRedis.set(fast.alive(node.id), node.epoch, 'PX', 60_000);
  try {
    await run();
  } finally {
    await gateway.fastRedis.del(fast.nodes, fast.node(node.id), fast.alive(node.id));
  }
}

/** What only a raw socket can send. */
function exchange(text: string): Promise<string> {
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
  return new Promise((resolve, reject) => {
    let answer = '';
    socket.on('data', (chunk) => (answer += chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(answer));
    socket.write(text);
  });
}

describe('health', () => {
  it('is alive without anything else', async () => {
    expect(await gateway.json('/healthz', { token: null })).toEqual({ ok: true });
  });

  it('is ready only with a live runner, and says so', async () => {
    const cold = await gateway.request('/readyz', { token: null });
    expect([cold.status, await cold.json()]).toMatchObject([
      503,
      {
        ready: false,
        checks: {
          redisDurable: { ok: true },
          registry: { ok: true },
          runner: { ok: false, reason: 'no runner is alive' },
        },
      },
    ]);
    await withNode(async () => {
      expect(await gateway.json('/readyz', { token: null })).toMatchObject({
        ready: true,
        checks: { runner: { ok: true } },
      });
      await gateway.fastRedis.del(fast.alive(node.id));
      expect((await gateway.request('/readyz', { token: null })).status).toBe(503);
    });
  });
});

describe('nodes and usage', () => {
  it('lists live nodes only', () =>
    withNode(async () => {
      expect(await gateway.json('/v1/nodes')).toEqual({ nodes: [{ ...node, status: 'ready' }] });
    }));

  it('shows every bounded store and the memory of each node', () =>
    withNode(async () => {
      const deployment = createDeployment('hello');
      await catalog.putDeployment(deployment);
      await catalog.setAlias('hello', 'live', [{ deployment: deployment.id, weight: 100 }]);
      await gateway.fastRedis.xadd(fast.logs('hello'), '*', 'l', '{}');
      const { stores } = await gateway.json<{ stores: Usage[] }>('/v1/df');
      const rows = Object.fromEntries(stores.map((row) => [row.store, Usage.parse(row)]));
      expect(rows['redis durable']?.bytes).toBeGreaterThan(100_000);
      expect(rows['redis fast']?.bytes).toBeGreaterThan(100_000);
      expect(rows).toMatchObject({
        functions: { count: 1 },
        deployments: { count: 1, countMax: 50 },
        'log lines': { count: 1, countMax: 5_000 },
        'builds waiting': { count: 0 },
        'sandboxes node-1': { bytes: 10, bytesMax: 1_000, count: 3 },
      });
    }));
});

it('counts requests by route, not by path', async () => {
  await gateway.request('/v1/functions/some-name');
  const response = await gateway.request('/metrics');
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  const text = await response.text();
  expect(text).toMatch(
    /skiff_api_requests_total\{method="GET",route="\/v1\/functions\/:name",status="404"\} \d/,
  );
  expect(text).not.toContain('some-name');
  for (const line of text.trimEnd().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{.+\})? [\d.e+-]+)$/);
});

it('serves the description of its own API', async () => {
  const document = await gateway.json('/openapi.json', { token: null });
  expect(document).toMatchObject({ openapi: '3.1.0', servers: [{ url: gateway.url }] });
});

describe('every answer', () => {
  it.each(['/healthz', '/v1/functions', '/v1/functions/nobody', '/nowhere'])(
    '%s has a request id and the security headers',
    async (path) => {
      const { headers } = await gateway.request(path);
      expect(headers.get('skiff-request-id')).toMatch(/^req-[0-9a-z]{26}$/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'");
      expect(headers.get('cache-control')).toBe('no-store');
    },
  );

  it('that failed is a problem document with the same request id', async () => {
    const response = await gateway.request('/nowhere');
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({
      status: 404,
      code: 'NOT_FOUND',
      fault: 'caller',
      requestId: response.headers.get('skiff-request-id'),
    });
  });
});

describe('requests that are wrong', () => {
  it('name the methods a path has', async () => {
    const response = await gateway.request('/v1/functions/hello/deployments', { method: 'PATCH' });
    expect(response.headers.get('allow')).toBe('POST, GET');
    expect([response.status, await response.json()]).toMatchObject([405, { code: 'METHOD_NOT_ALLOWED' }]);
  });

  it.each([
    ['nothing', '', 'empty'],
    ['not JSON', '{"name":', 'not JSON'],
    ['a list', '[]', 'body'],
    ['a bad scope', '{"name":"x","scopes":["root"]}', 'body.scopes.0'],
  ])('with %s as body are refused and told why', async (_what, body, text) => {
    const response = await gateway.request('/v1/tokens', { method: 'POST', body });
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { detail: expect.stringContaining(text) },
    ]);
  });

  it('with too large a body are refused, stated length or not', async () => {
    const large = Buffer.alloc(API_BODY_BYTES_MAX + 1, 32);
    for (const body of [large, new Blob([large]).stream()]) {
      const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
      const response = await gateway.request('/v1/tokens', init);
      expect([response.status, await response.json()]).toMatchObject([413, { code: 'BODY_TOO_LARGE' }]);
    }
  });

  it('with too long a URL are refused', async () => {
    const response = await gateway.request(`/v1/functions/${'x'.repeat(URL_BYTES_MAX)}`);
    expect([response.status, await response.json()]).toMatchObject([414, { code: 'URL_TOO_LONG' }]);
  });

  it('with too large headers are refused', async () => {
    const header = 'x'.repeat(HEAD_BYTES_MAX + URL_BYTES_MAX);
    const answer = await exchange(`GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: ${header}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(answer).toContain('"code":"HEAD_TOO_LARGE"');
  });

  it.each([
    ['no HTTP at all', 'hello\r\n\r\n'],
    ['two lengths', 'POST /v1/tokens HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n'],
    [
      'a length and chunks',
      'POST /v1/tokens HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
    ],
    ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ])('with %s are refused and the connection is closed', async (_what, text) => {
    expect(await exchange(text)).toMatch(/^HTTP\/1\.1 400 /);
  });

  it('keep the process alive', async () => {
    expect((await gateway.request('/healthz')).status).toBe(200);
  });
});

it('prints its configuration without secrets and ends', async () => {
  const { execFile } = await import('node:child_process');
  const main = new URL('../../../gateway/main.ts', import.meta.url).pathname;
  const env = { SKIFF_DATA_DIR: gateway.dataDir, SKIFF_REGISTRY_PASSWORD: 'hunter2' };
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [main, '--print-config'], { env }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
  expect(JSON.parse(output)).toMatchObject({ SKIFF_GATEWAY_PORT: 8080, SKIFF_REGISTRY_PASSWORD: '[secret]' });
});
