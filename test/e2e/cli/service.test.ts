/** A service as a person runs it: created, read, replaced, put out and on again, and its log. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Replica } from '../../../sdk/client/index.ts';
import { createCli, type CliResult, type TestCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let cli: TestCli;
beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_TOKEN: server.token });
  const file = join(cli.home, 'bakery.ts');
  await writeFile(
    file,
    `console.log('the oven is hot');
export default () => { console.log('a loaf'); return new Response('bread'); };`,
  );
  await server.deploy('bakery', file);
});
afterAll(async () => {
  await server.client.services.remove('counter').catch(() => {});
  await cli?.close();
});

const run = (...args: string[]): Promise<CliResult> => cli.run(['service', ...args]);
const replicas = async (): Promise<Replica[]> => (await server.client.services.get('counter')).replicas;
const call = (): Promise<Response> => fetch(`${server.url}/f/counter`);

test('it is created, listed and reached by its name', async () => {
  const created = await run(
    'create',
    '--name',
    'counter',
    '--replicas',
    '2',
    '--update-monitor',
    '0s',
    'bakery',
  );
  expect(created).toMatchObject({ code: 0, stdout: `${server.url}/f/counter\n` });
  expect((await run('ls', '-q')).stdout.split('\n')).toContain('counter');
  expect((await run('ps', '-q', 'counter')).stdout.trim().split('\n').sort()).toEqual(
    (await replicas()).map(({ task }) => task).sort(),
  );
  expect(await (await call()).text()).toBe('bread');
  expect(await run('create', '--name', 'web', 'nginx')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('skiff deploy --image <reference> --name nginx'),
  });
  expect(await run('create', '--name', 'all', '--mode', 'global', '--replicas', '2', 'bakery')).toMatchObject(
    {
      code: 2,
      stderr: expect.stringContaining('one replica on each node'),
    },
  );
});

test('its log has what its replicas said from their first line on, and nothing of the function itself', async () => {
  await fetch(`${server.url}/f/bakery`);
  const lines = await waitFor('the lines', async () => {
    const { stdout } = await run('logs', '--json', 'counter');
    const messages = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { message: string }).message);
    return messages.length >= 3 && messages;
  });
  expect(lines.toSorted()).toEqual(['a loaf', 'the oven is hot', 'the oven is hot']);
  const own = await server.logs('bakery', { tail: 100 });
  expect(own.filter(({ message }) => message === 'the oven is hot')).toHaveLength(3);
  expect((await run('logs', '-n', '1', '-t', 'counter')).stdout).toMatch(/^counter\.\d \d{4}-.+a loaf\n$/);
});

test('a forced update replaces every replica by one of the same deployment, and no call fails meanwhile', async () => {
  const before = await replicas();
  let isOver = false;
  const statuses = new Set<number>();
  const load = (async () => {
    while (!isOver) statuses.add((await call()).status);
  })();
  expect(await run('update', '--force', 'counter')).toMatchObject({ code: 0 });
  isOver = true;
  await load;
  expect([...statuses]).toEqual([200]);
  const after = await replicas();
  expect(new Set(after.map(({ deployment }) => deployment))).toEqual(new Set([before[0]?.deployment]));
  const kept = after.filter(({ task }) => before.some((one) => one.task === task));
  expect(kept).toEqual([]);
});

test('constraints are added and taken away, policies changed, and one look shows them', async () => {
  const constraint = 'node.platform.os==linux';
  const policy = ['--update-parallelism', '0', '--rollback-failure-action', 'continue'];
  expect(await run('update', '--constraint-add', constraint, ...policy, 'counter')).toMatchObject({
    code: 0,
  });
  const { stdout } = await run('inspect', 'counter');
  expect(stdout).toContain(constraint);
  expect(stdout).toContain('all at once, start-first');
  const { service } = await server.client.services.get('counter');
  expect(service.spec.rollback?.failureAction).toBe('continue');
  expect(await run('update', '--constraint-rm', 'node.platform.os == linux', 'counter')).toMatchObject({
    code: 0,
  });
  expect((await run('inspect', 'counter')).stdout).not.toContain(constraint);
});

test('scaled to 0 it refuses calls at once and says so; scaled up it serves again', async () => {
  expect(await run('scale', 'counter=0')).toMatchObject({ code: 0 });
  const refused = await waitFor('the refusal', async () => {
    const response = await call();
    return response.status === 503 && ((await response.json()) as { code: string; detail: string });
  });
  expect(refused).toMatchObject({
    code: 'QUEUE_EXPIRED',
    detail: expect.stringContaining('skiff service scale counter=1'),
  });
  expect(await run('scale', 'counter=1')).toMatchObject({ code: 0 });
  await waitFor('bread', async () => (await call()).status === 200);
});
