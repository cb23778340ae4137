import { execFile as execFileCallback } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { connect, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

const execFile = promisify(execFileCallback);
let gateway: TestGateway;
beforeEach(async () => void (gateway = await startGateway()));
afterEach(() => gateway.close());

interface Readiness {
  checks: Record<string, { ok: boolean; reason?: string }>;
}
const check = async (name: string) => {
  const response = await gateway.request('/readyz', { token: null });
  return ((await response.json()) as Readiness).checks[name]?.ok;
};
const upload = () => gateway.request('/v1/uploads', { method: 'POST', body: 'source' });

async function expectUnavailable(response: Response): Promise<void> {
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toBe('1');
  expect(await response.json()).toMatchObject({ code: 'UNAVAILABLE', fault: 'platform' });
}

describe('without the durable store', () => {
  it('answers 503 within its time limit, stays alive, and recovers by itself', async () => {
    await gateway.request('/v1/functions');
    await gateway.durable.stop();
    for (const path of ['/v1/functions', '/v1/functions/hello', '/v1/builds/bld-1/events']) {
      const startMs = performance.now();
      await expectUnavailable(await gateway.request(path));
      expect(performance.now() - startMs).toBeLessThan(3_000);
    }
    expect((await gateway.request('/healthz')).status).toBe(200);
    expect(await check('redisDurable')).toBe(false);
    await gateway.durable.start();
    await expect
      .poll(async () => (await gateway.request('/v1/functions')).status, { timeout: 10_000 })
      .toBe(200);
    expect(await check('redisDurable')).toBe(true);
  });

  it('takes orders again after it is back, though the queue lost its connection too', async () => {
    const { digest, bytes } = (await (await upload()).json()) as { digest: string; bytes: number };
    const order = () =>
      gateway.request('/v1/functions/hello/deployments', {
        method: 'POST',
        body: JSON.stringify({ source: { digest, bytes } }),
      });
    expect((await order()).status).toBe(202);
    await gateway.durable.stop();
    await expectUnavailable(await order());
    await gateway.durable.start();
    await expect.poll(async () => (await order()).status, { timeout: 10_000 }).toBe(202);
  });

  it('lets the admin token in again when the store came back empty', async () => {
    await gateway.durableRedis.flushall();
    await gateway.durable.stop();
    await gateway.durable.start();
    await expect
      .poll(async () => (await gateway.request('/v1/tokens')).status, { timeout: 10_000 })
      .toBe(200);
    await expect
      .poll(() =>
        openCatalog(gateway.durableRedis)
          .listTokens()
          .catch(() => []),
      )
      .toMatchObject([{ id: 'tok-admin' }]);
  });
});

it('lists functions without the fast store, only not how many sandboxes they have', async () => {
  const catalog = openCatalog(gateway.durableRedis);
  const deployment = createDeployment('hello');
  await catalog.putDeployment(deployment);
  await catalog.setAlias('hello', 'live', [{ deployment: deployment.id, weight: 100 }]);
  await gateway.fast.stop();
  const { functions } = await gateway.json<{ functions: object[] }>('/v1/functions');
  expect(functions).toMatchObject([{ name: 'hello' }]);
  expect(functions[0]).not.toHaveProperty('sandboxes');
  await expectUnavailable(await gateway.request('/v1/nodes'));
});

it('answers uploads with 503 while the registry is away, and takes them when it is back', async () => {
  await gateway.registry.pause();
  await expectUnavailable(await upload());
  expect(await check('registry')).toBe(false);
  await gateway.registry.resume();
  await expect.poll(async () => (await upload()).status).toBe(201);
});

it('starts without any store, and becomes able to work when they appear', async () => {
  await gateway.stop();
  await Promise.all([gateway.durable.stop(), gateway.fast.stop()]);
  const again = await startGateway({
    env: { SKIFF_REDIS_URL: gateway.durable.url, SKIFF_REDIS_FAST_URL: gateway.fast.url },
  });
  try {
    await expectUnavailable(await again.request('/v1/functions'));
    await Promise.all([gateway.durable.start(), gateway.fast.start()]);
    await expect
      .poll(async () => (await again.request('/v1/functions')).status, { timeout: 10_000 })
      .toBe(200);
  } finally {
    await again.close();
  }
});

describe('H15: without file descriptors', () => {
  it('turns connections away, serves those it has, and recovers by itself', async () => {
    const { hostname, port } = new URL(gateway.url);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const health = () =>
      new Promise<number | undefined>((resolve, reject) =>
        get(`${gateway.url}/healthz`, { agent }, (response) => {
          response.resume().on('end', () => resolve(response.statusCode));
        }).on('error', reject),
      );
    expect(await health()).toBe(200);
    const held: Socket[] = [];
    const openFiles = async () => (await readdir(`/proc/${gateway.pid}/fd`)).length;
    const limit = (count: number | string) =>
      execFile('prlimit', ['--pid', String(gateway.pid), `--nofile=${count}:`]);
    const before = /Max open files\s+(\d+)/.exec(await readFile(`/proc/${gateway.pid}/limits`, 'utf8'))?.[1];
    try {
      const ceiling = (await openFiles()) + 8;
      await limit(ceiling);
      let turnedAway = 0;
      for (let i = 0; i < 40; i++) {
        const socket = connect(Number(port), hostname);
        socket.on('error', () => {}).on('close', () => turnedAway++);
        held.push(socket);
      }
      await expect.poll(() => turnedAway, { timeout: 10_000 }).toBeGreaterThan(10);
      // Nobody who is connected is dropped, and the process goes on.
      expect(await health()).toBe(200);
    } finally {
      await limit(before ?? 1024);
      for (const socket of held) socket.destroy();
      agent.destroy();
    }
    await expect
      .poll(async () => (await gateway.request('/v1/functions').catch(() => undefined))?.status, {
        timeout: 10_000,
      })
      .toBe(200);
    expect((await upload()).status).toBe(201);
  });
});
