/** What a call costs that passes three processes which do nothing, with and without Redis between: see apps/chain.mjs. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startRedis } from '../helpers/redis.ts';
import { waitFor } from '../helpers/wait.ts';
import { stop } from './bare.ts';
import { untilFirstByte } from './first-byte.ts';

const APP = join(import.meta.dirname, 'apps', 'chain.mjs');

/** Answer on `port`, and through Redis on `port + 1`. */
export async function startChains(port: number): Promise<{ close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-chain-'));
  const redis = await startRedis();
  const children: ChildProcess[] = [];
  async function close(): Promise<void> {
    await Promise.all(children.map(stop));
    await redis.close();
    await rm(folder, { recursive: true, force: true });
  }
  const run = (...args: string[]): number =>
    children.push(spawn(process.execPath, [APP, ...args], { stdio: 'ignore' }));
  async function listener(role: string, name: string, ...args: string[]): Promise<string> {
    const path = join(folder, name);
    run(role, path, ...args);
    await waitFor(`${name} to listen`, () => existsSync(path));
    return path;
  }
  try {
    const runner = await listener('runner', 'r', await listener('sandbox', 's'));
    const queued = await listener('queue-runner', 'qr', await listener('sandbox', 'qs'), redis.socket);
    run('gateway', String(port), runner);
    run('queue-gateway', String(port + 1), queued, redis.socket);
    for (const each of [port, port + 1]) await untilFirstByte(performance.now(), each);
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}
