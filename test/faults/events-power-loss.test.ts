/**
 * Power cuts: Redis's data on an ext4 file system of its own in a file, copied at random instants while events are
 * accepted. The copy is what a disk has when the power goes; mounted and started again it must have every event whose
 * 202 a client had seen by then.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { durable } from '../helpers/keys.ts';
import { EventStore } from '../../infra/events/store.ts';
import { openRedis } from '../../infra/lib/redis.ts';
import { acceptOne, createAcceptance, EPOCH } from '../helpers/event-store.ts';
import { startRedis } from '../helpers/redis.ts';

const CUTS = 8;
const DISK_MB = 64;
let folder: string;
const mounted: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'skiff-power-'));
});
afterEach(() => {
  for (const target of mounted.splice(0).reverse()) execFileSync('umount', [target]);
  rmSync(folder, { recursive: true, force: true });
});

function mount(image: string): string {
  const target = `${image}.mnt`;
  mkdirSync(target);
  execFileSync('mount', ['-o', 'loop', image, target]);
  mounted.push(target);
  return target;
}

function createDisk(name: string): string {
  const image = join(folder, name);
  execFileSync('truncate', ['-s', `${DISK_MB}M`, image]);
  execFileSync('mkfs.ext4', ['-q', '-F', image]);
  return image;
}

interface Cut {
  readonly image: string;
  /** Acknowledged before the copy began. */
  readonly seen: readonly string[];
}

/** Accepts events in several lanes while the power is cut `count` times. */
async function cutPower(count: number, fsync: 'always' | 'no'): Promise<Cut[]> {
  const disk = createDisk('disk');
  const server = await startRedis({ persistent: true, dataDir: mount(disk) });
  const redis = openRedis(server.url);
  await redis.connect();
  await redis.config('SET', 'appendfsync', fsync);
  await redis.set(durable.epoch, EPOCH);
  const store = new EventStore(redis);
  const acknowledged: string[] = [];
  let isDone = false;
  const client = async (): Promise<void> => {
    while (!isDone) {
      const acceptance = createAcceptance({ delayMs: 3_600_000 });
      const reply = await acceptOne(store, acceptance);
      if (reply.kind === 'accepted') acknowledged.push(acceptance.id);
    }
  };
  const lanes = Array.from({ length: 8 }, client);
  const cuts: Cut[] = [];
  for (let i = 0; i < count; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 250));
    const seen = [...acknowledged];
    const image = join(folder, `cut-${i}`);
    execFileSync('cp', ['--sparse=always', disk, image]);
    cuts.push({ image, seen });
  }
  isDone = true;
  await Promise.all(lanes);
  redis.disconnect();
  await server.close();
  return cuts;
}

/** How many of the acknowledged events are not there when the server is started on what the disk had. */
async function countMissing({ image, seen }: Cut): Promise<number> {
  const copy = await startRedis({ persistent: true, dataDir: mount(image) });
  const redis = openRedis(copy.url);
  await redis.connect();
  const store = new EventStore(redis);
  const states = await Promise.all(seen.map((id) => store.getState(id)));
  redis.disconnect();
  await copy.close();
  return states.filter((state) => state !== 'delayed').length;
}

test(`every event whose 202 was seen is there after each of ${CUTS} power cuts`, async () => {
  const cuts = await cutPower(CUTS, 'always');
  for (const cut of cuts) expect(await countMissing(cut)).toBe(0);
  expect(cuts.at(-1)?.seen.length).toBeGreaterThan(100);
});

test('a store that does not fsync loses events in the same cuts, and the gateway would refuse it', async () => {
  const cuts = await cutPower(3, 'no');
  let missing = 0;
  for (const cut of cuts) missing += await countMissing(cut);
  expect(missing).toBeGreaterThan(0);
});
