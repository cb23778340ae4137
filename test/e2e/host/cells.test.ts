/** A server that outgrew its store: all it has is moved from its own Redis to six cells of a Redis Cluster, and goes on there. */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cells } from '../../../infra/contract/cells.ts';
import { createClient, type Client } from '../../../sdk/client/index.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { startRedisCluster, type TestCluster } from '../../helpers/redis-cluster.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { ROOT } from '../../helpers/source-tree.ts';
import { waitFor } from '../../helpers/wait.ts';

const cells = new Cells(6);
/** Each in a cell of its own. */
const names = [0, 1, 2].map((index) => {
  for (let i = 0; ; i++) if (cells.ofFunction(`moved-${i}`).index === index) return `moved-${i}`;
});
const [first = '', second = '', third = ''] = names;

let cluster: TestCluster;
let server: TestServer;
let client: Client;

beforeAll(async () => {
  [cluster, server] = await Promise.all([startRedisCluster(), startServer()]);
  client = createClient({ url: server.url, token: server.adminToken });
});
afterAll(async () => {
  if (server && !server.hasEnded) await server.stop();
  if (server) rmSync(server.dataDir, { recursive: true, force: true });
  await cluster?.close();
});

async function move(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const command = [join(ROOT, 'infra/host/main.ts'), 'server', 'cells', ...args];
  return promisify(execFile)(process.execPath, command, { env: { ...server.env } }).then(
    (output) => ({ code: 0, ...output }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

test('functions, releases, secrets, tokens, schedules, services and events that wait are there afterwards', async () => {
  for (const name of names) {
    const { files, entry } = findSource(functionFixture(name === third ? 'steps.ts' : 'events.ts'));
    await client.deploy(name, { source: () => packSource(files), entry });
  }
  await client.secrets.set('api-key', 'hunter2');
  const { token } = await client.tokens.create({ name: 'ci', scopes: ['read'] });
  await client.services.create({ name: 'kept', functionName: first });
  const schedule = { function: second, every: '1s', path: '/number?n=3', overlap: 'allow' };
  const headers = { 'content-type': 'application/json' };
  const put = { method: 'PUT', headers, body: JSON.stringify(schedule) };
  expect((await server.fetch('/v1/schedules/every', put)).status).toBeLessThan(300);
  const send = (name: string, path: string, options = {}) =>
    client.invokeAsync(name, { path, method: 'POST', ...options });
  const done = await send(first, '/number?n=1', { idempotencyKey: 'once' });
  const dead = await send(second, '/reject');
  await client.waitFor(done.id, { waitMs: 20_000 });
  await client.waitFor(dead.id, { waitMs: 20_000 });
  const delayed = await Promise.all(
    names.slice(0, 2).map((name) => send(name, '/number?n=2', { delay: '8s' })),
  );
  const lined = await Promise.all(
    [1, 2].map((n) => send(first, `/number?n=${n}`, { delay: '8s', orderingKey: 'o' })),
  );
  const asleep = await send(third, '/sleep?for=8s');
  await waitFor('sleep', async () => (await client.invocation(asleep.id)).state === 'waiting');

  const busy = await move('--to', cluster.url, '--cells', '6');
  expect(busy).toMatchObject({ code: 1, stderr: expect.stringContaining('another server') });
  await server.stop({ keepData: true });
  expect(await move('--to', cluster.url)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--cells'),
  });
  const moved = await move('--to', cluster.url, '--cells', '6');
  expect(moved).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`SKIFF_REDIS_URL='${cluster.url}' SKIFF_CELLS=6`),
  });
  // Once more it says the same and does nothing.
  expect(await move('--to', cluster.url, '--cells', '6')).toMatchObject({ code: 0, stdout: moved.stdout });
  expect(await move('--to', cluster.url, '--cells', '6', '--abort')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('the move is complete'),
  });
  expect(cluster.sizes().every((size) => size > 0)).toBe(true);

  server = await startServer({
    dataDir: server.dataDir,
    env: { SKIFF_REDIS_URL: cluster.url, SKIFF_CELLS: '6' },
  });
  client = createClient({ url: server.url, token: server.adminToken });
  expect((await client.list()).map(({ name }) => name)).toEqual(expect.arrayContaining(names));
  for (const name of names.slice(0, 2))
    expect(await (await fetch(`${server.url}/f/${name}/number?n=5`)).json()).toMatchObject({ n: 5 });
  expect((await client.secrets.list()).map(({ name }) => name)).toContain('api-key');
  expect(await createClient({ url: server.url, token }).list()).toHaveLength(names.length);
  for (const { id } of [...delayed, ...lined, asleep])
    expect(await client.waitFor(id, { waitMs: 30_000 })).toMatchObject({ state: 'succeeded' });
  expect(await (await client.result(done.id)).json()).toMatchObject({ n: 1 });
  expect(await send(first, '/number?n=1', { idempotencyKey: 'once' })).toMatchObject({ id: done.id });
  expect(await client.invocation(dead.id)).toMatchObject({ state: 'dead' });
  const fired = async () =>
    ((await (await server.fetch('/v1/schedules/every')).json()) as { fired: number }).fired;
  const before = await fired();
  await waitFor('the next tick', async () => (await fired()) > before);
  await server.fetch('/v1/schedules/every', { method: 'DELETE' });
  await waitFor('the service', async () => (await client.services.get('kept')).running === 1, 30_000);
  await waitFor('nothing unfinished', async () => (await client.eventStats()).unfinished === 0, 30_000);
  expect((await client.eventStats()).problem).toBeUndefined();
  await server.stop({ keepData: true });
}, 180_000);
