/** A swarm on a Redis Cluster: two hosts join by its URL alone, have rights in each of its primaries, and lose them when it ends. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cells } from '../../../infra/contract/cells.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { HostNetwork, type Host } from '../../helpers/hosts.ts';
import { startRedisCluster, type TestCluster } from '../../helpers/redis-cluster.ts';
import { waitFor } from '../../helpers/wait.ts';

const cells = new Cells(6);
/** One in each of three cells. */
const names = [0, 2, 4].map((index) => {
  for (let i = 0; ; i++) if (cells.ofFunction(`spread-${i}`).index === index) return `spread-${i}`;
});

let network: HostNetwork;
let cluster: TestCluster;
let first: Host;
let second: Host;

beforeAll(async () => {
  network = new HostNetwork();
  cluster = await startRedisCluster({ address: network.address });
  const env = { SKIFF_REDIS_URL: cluster.url, SKIFF_CELLS: '6' };
  first = await network.startManager('first', { env });
  second = await network.join(first, 'second');
});
afterAll(async () => {
  await network?.close();
  await cluster?.close();
});

const users = () =>
  cluster.primaries.map((port) => cluster.cli(port, 'acl', 'users').includes(second.nodeId));

test('calls and events of functions in all cells run on the node that joined, which has a user on each primary', async () => {
  expect(users()).toEqual([true, true, true]);
  for (const name of names) await first.deploy(name, functionFixture('echo.ts'));
  await first.client.node.update(first.nodeId, { availability: 'drain' });
  const tasks = async (host: Host) =>
    (await first.client.node.tasks(host.nodeId)).map((task) => task.functionName);
  await waitFor('the first host has nothing left', async () => (await tasks(first)).length === 0, 30_000);
  for (const name of names) {
    const url = `${first.url}/f/${name}/`;
    for (let i = 0; i < 5; i++) expect((await fetch(url)).status).toBe(200);
    const { id } = await first.client.invokeAsync(name, { method: 'POST' });
    await first.client.waitFor(id, { waitMs: 30_000 });
    expect((await first.client.invocation(id)).state).toBe('succeeded');
  }
  expect(await tasks(second)).toEqual(expect.arrayContaining(names));
});

test('its last manager ends it, when told that this is meant; functions stay in the stores', async () => {
  const refused = await first.hostCli(['swarm', 'leave']);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/last manager.*--force/) });
  expect(await first.client.nodes()).toHaveLength(2);

  expect(await first.hostCli(['swarm', 'leave', '--force'])).toMatchObject({ code: 0 });
  await waitFor('no user is left', () => users().every((has) => !has));
  expect(existsSync(join(first.dataDir, 'swarm'))).toBe(false);
  await first.client.node.update(first.nodeId, { availability: 'active' });
  for (const name of names) {
    const answers = async () => (await fetch(`${first.url}/f/${name}/`)).status === 200;
    await waitFor(`${name} runs on the first host`, answers, 30_000);
  }
  expect(await second.hostCli(['swarm', 'leave', '--force'])).toMatchObject({ code: 0 });
  // It can be made anew.
  expect(await first.hostCli(['swarm', 'info'])).toMatchObject({ code: 1 });
  await first.client.swarm.init({ advertiseAddr: first.address });
  expect(await first.client.swarm.get()).toMatchObject({ managers: [`${first.address}:7377`] });
});
