/** A real redis-server on a unix socket in a folder of its own: no port, nothing shared, gone after the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

export interface TestRedis {
  /** `unix:/…`, as in SKIFF_REDIS_URL. */
  readonly url: string;
  readonly socket: string;
  /** Kills the server; its data stays if it was started with `persistent`. */
  stop(): Promise<void>;
  /** Starts it again on the same socket and data. */
  start(): Promise<void>;
  /** Stops for good and removes the folder. */
  close(): Promise<void>;
}

export interface TestRedisOptions {
  /** With an append-only file, fsynced on every write as the durable store is. */
  readonly persistent?: boolean;
  /** Where its files are to be; default a new folder in the temp folder. */
  readonly dataDir?: string;
  /** Where the socket is to be; default a new folder in the temp folder. */
  readonly socket?: string;
}

export async function startRedis(options: TestRedisOptions = {}): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-redis-'));
  const socket = options.socket ?? join(folder, 'redis.sock');
  const persistence = options.persistent ? '--appendonly yes --appendfsync always' : '--appendonly no';
  const args = [
    '--unixsocket',
    socket,
    '--dir',
    options.dataDir ?? folder,
    ...`--port 0 --unixsocketperm 700 --maxmemory-policy noeviction --save  ${persistence}`.split(' '),
  ];
  let server: ChildProcess | undefined;

  async function start(): Promise<void> {
    const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    const failed = new Promise<never>((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code) =>
        reject(new Error(`redis-server ended with ${code}: ${output.slice(-2_000)}`)),
      );
    });
    failed.catch(() => {});
    server = child;
    await Promise.race([untilPong(socket), failed]);
  }

  async function stop(): Promise<void> {
    const child = server;
    server = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  await start();
  return {
    url: `unix:${socket}`,
    socket,
    start,
    stop,
    async close() {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function untilPong(socket: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const redis = new Redis({ path: socket, lazyConnect: true, retryStrategy: () => null });
    redis.on('error', () => {});
    try {
      await redis.connect();
      await redis.ping();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    } finally {
      redis.disconnect();
    }
  }
}
