import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLog } from '../../../infra/lib/log.ts';
import type { Deployment } from '../../../sdk/protocol/api.ts';
import { Networks } from '../../../infra/network/networks.ts';

let dir: string;
let hash: string;
let networks: Networks<Deployment>;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'skiff-networks-'));
  hash = createHash('sha256').update(randomUUID()).digest('hex').slice(0, 8);
  networks = new Networks({
    hash,
    stateDir: join(dir, 'state'),
    runDir: join(dir, 'run'),
    dns: '192.0.2.1',
    devices: [],
    opened: [],
    log: createLog('test', 'fatal'),
    onDenied: () => {},
  });
});
afterEach(async () => {
  await networks.close();
  await networks.reap();
  rmSync(dir, { recursive: true });
});

const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' });

/** What of this runner's is on the host. */
function things(): string[] {
  const namespaces = readdirSync('/run/netns').filter((name) => name.includes(hash));
  const found = [
    run('ip', '-o', 'link'),
    run('ip', '-o', 'addr', 'show', 'dev', 'lo'),
    run('nft', 'list', 'tables'),
  ]
    .flatMap((text) => text.split('\n'))
    .filter((line) => line.includes(hash));
  return [...namespaces, ...found];
}

it('a namespace that is being made when the runner stops is removed, also by the caller that then gives it up', async () => {
  await networks.acquire('first');
  expect(things()).not.toEqual([]);
  // As a launch does whose sandbox host has closed meanwhile.
  const late = ['a', 'b', 'c'].map((id) => networks.acquire(id).then(() => networks.release(id)));
  await networks.close();
  expect(things()).toEqual([]);
  await Promise.all(late);
  expect(things()).toEqual([]);
});

it('a namespace that is being removed when the runner stops is removed when it has stopped', async () => {
  for (const id of ['a', 'b', 'c', 'd']) await networks.acquire(id);
  const leaving = [networks.release('a'), networks.release('b')];
  await networks.close();
  expect(things()).toEqual([]);
  await Promise.all(leaving);
});

it('the first namespace of all, asked for a moment before the runner stops', async () => {
  const first = networks.acquire('first');
  await networks.close();
  expect(things()).toEqual([]);
  await first;
});

it('none is made after the runner has stopped', async () => {
  await networks.acquire('first');
  await networks.close();
  await expect(networks.acquire('late')).rejects.toMatchObject({ code: 'COLD_START_FAILED' });
  await expect(networks.bind('late', {} as never)).rejects.toMatchObject({ code: 'COLD_START_FAILED' });
  expect(things()).toEqual([]);
});

it('after somebody removed the rules and before the next start, stopping leaves nothing as well', async () => {
  let isEnded = false;
  await networks.acquire('first');
  networks.attach('first', () => (isEnded = true));
  run('nft', 'delete', 'table', 'inet', networks.table);
  await expect.poll(() => isEnded, { timeout: 30_000 }).toBe(true);
  await networks.close();
  expect(things()).toEqual([]);
});
