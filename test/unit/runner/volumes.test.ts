import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../infra/lib/log.ts';
import { NodeVolumes } from '../../../runner/volume/volumes.ts';
import type { Volume } from '../../../sdk/protocol/swarm/resources.ts';
import { createDeployment } from '../../helpers/deployment.ts';

let folder: string;
let records: Map<string, Volume>;
let volumes: NodeVolumes;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'skiff-volumes-'));
  records = new Map();
  volumes = new NodeVolumes({
    node: 'node-a',
    dir: join(folder, 'volumes'),
    scratchDir: join(folder, 'scratch'),
    records: { get: async (name) => records.get(name), list: async () => [...records.values()] },
    log: createLog('runner', 'silent'),
  });
});
afterEach(() => rmSync(folder, { recursive: true }));

function record(name: string, changes: Partial<Volume> = {}): Volume {
  const volume = { id: `vol-${name}`, name, node: 'node-a', createdMs: 1, ...changes };
  records.set(name, volume);
  return volume;
}
const deployment = (functionName = 'db-code') =>
  createDeployment(functionName, { config: { volumes: [{ name: 'data', target: '/data' }] } });
const take = (sandbox: string, isReplica = true, functionName?: string) =>
  volumes.take(sandbox, deployment(functionName), folder, isReplica);

test('a volume has one user: the next one waits until it is given back', async () => {
  record('data');
  const first = await take('sbx-1');
  expect(first.mounts).toMatchObject([{ source: join(folder, 'volumes/vol-data.ext4'), target: '/data' }]);
  let isTaken = false;
  const second = take('sbx-2').then((taken) => ((isTaken = true), taken));
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(isTaken).toBe(false);
  await first.release();
  expect((await second).mounts).toEqual(first.mounts);
});

test('a function of a namespace has the volumes of that alone', async () => {
  record('data');
  const own = record('team.data');
  const { mounts } = await take('sbx-1', true, 'team.db-code');
  expect(mounts[0]?.source).toContain(own.id);
});

test('one that is on another node, or that does not exist, is refused at once', async () => {
  await expect(take('sbx-1')).rejects.toThrow('there is no volume "data"');
  record('data', { node: 'node-b' });
  await expect(take('sbx-1')).rejects.toThrow('is on the node node-b, and this is node-a');
});

test('what is no replica of a service is given an empty one, which goes with it', async () => {
  record('data');
  const taken = await take('sbx-1', false);
  expect(taken.mounts[0]?.source).toContain(join(folder, 'scratch/sbx-1'));
  writeFileSync(taken.mounts[0]?.source as string, '');
  await taken.release();
  expect(readdirSync(join(folder, 'scratch'))).toEqual([]);
});

test('a new one begins with what the image has there, but for what a link would lead to', async () => {
  record('data');
  mkdirSync(join(folder, 'data'));
  const { mounts, release } = await take('sbx-1');
  expect(mounts[0]?.volume?.seed).toBe(join(folder, 'data'));
  await release();
  rmSync(join(folder, 'data'), { recursive: true });
  symlinkSync('/etc', join(folder, 'data'));
  expect((await take('sbx-2')).mounts[0]?.volume?.seed).toBeUndefined();
});

test('only what is to be removed is, and not while it is used; files without a record stay', async () => {
  const file = (id: string): string => join(folder, 'volumes', `${id}.ext4`);
  for (const id of ['vol-data', 'vol-kept', 'vol-unknown']) writeFileSync(file(id), 'x');
  record('kept');
  record('data');
  const { release } = await take('sbx-1');
  record('data', { removedMs: 2 });
  await volumes.sweep();
  expect(existsSync(file('vol-data'))).toBe(true);
  await release();
  await volumes.sweep();
  expect(readdirSync(join(folder, 'volumes')).toSorted()).toEqual(['vol-kept.ext4', 'vol-unknown.ext4']);
  expect(Object.keys(volumes.usage()).toSorted()).toEqual(['vol-kept', 'vol-unknown']);
});
