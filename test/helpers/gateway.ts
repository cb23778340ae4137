/** A real gateway process with its own two Redis servers and, unless told otherwise, a registry. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { openRedis } from '../../infra/lib/redis.ts';
import { freePorts } from './ports.ts';
import { type TestRedis, startRedis } from './redis.ts';
import { type TestRegistry, startTestRegistry } from './registry.ts';

export interface TestGateway {
  readonly url: string;
  readonly dataDir: string;
  readonly adminToken: string;
  readonly pid: number;
  readonly durable: TestRedis;
  readonly fast: TestRedis;
  readonly registry: TestRegistry;
  /** Connections of the test's own. */
  readonly durableRedis: Redis;
  readonly fastRedis: Redis;
  /** With the admin token unless `token` says otherwise (null: none). */
  request(path: string, init?: RequestInit & { token?: string | null }): Promise<Response>;
  json<T>(path: string, init?: RequestInit & { token?: string | null }): Promise<T>;
  /** What the process has written so far. */
  output(): string;
  /** SIGTERM; resolves to the exit code. */
  stop(): Promise<number | null>;
  /** Ends everything and removes the data. */
  close(): Promise<void>;
}

export interface TestGatewayOptions {
  readonly env?: Readonly<Record<string, string>>;
}

const ROOT = new URL('../../', import.meta.url).pathname;
const START_MS_MAX = 20_000;

export async function startGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const dataDir = await mkdtemp(join(tmpdir(), 'skiff-gateway-'));
  const [durable, fast, registry, [port, dashboardPort]] = await Promise.all([
    startRedis({ persistent: true }),
    startRedis(),
    startTestRegistry(),
    freePorts(2),
  ]);
  const durableRedis = openRedis(durable.url);
  const fastRedis = openRedis(fast.url);
  await Promise.all([durableRedis.connect(), fastRedis.connect()]);
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(process.execPath, [join(ROOT, 'gateway/main.ts')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      SKIFF_DATA_DIR: dataDir,
      SKIFF_GATEWAY_PORT: String(port),
      SKIFF_DASHBOARD_PORT: String(dashboardPort),
      SKIFF_REDIS_URL: durable.url,
      SKIFF_REDIS_FAST_URL: fast.url,
      SKIFF_REGISTRY_URL: registry.url,
      ...options.env,
    },
  });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const stop = () => end(child, 'SIGTERM');
  const close = async () => {
    await end(child, 'SIGKILL');
    durableRedis.disconnect();
    fastRedis.disconnect();
    await Promise.all([durable.close(), fast.close(), registry.stop()]);
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    await untilHealthy(url, child);
  } catch (error) {
    await close();
    throw new Error(`the gateway did not start: ${output.slice(-4_000)}`, { cause: error });
  }
  const adminToken = (await readFile(join(dataDir, 'admin.token'), 'utf8')).trim();

  const request: TestGateway['request'] = (path, { token = adminToken, ...init } = {}) => {
    const headers = new Headers(init.headers);
    if (token !== null) headers.set('authorization', `Bearer ${token}`);
    return fetch(`${url}${path}`, { ...init, headers });
  };
  return {
    url,
    dataDir,
    adminToken,
    durable,
    fast,
    registry,
    durableRedis,
    fastRedis,
    request,
    stop,
    close,
    pid: child.pid as number,
    output: () => output,
    async json<T>(path: string, init?: RequestInit & { token?: string | null }) {
      const response = await request(path, init);
      if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
      return (await response.json()) as T;
    },
  };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exited = once(child, 'exit');
  child.kill(signal);
  const [code] = (await exited) as [number | null];
  return code;
}

async function untilHealthy(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + START_MS_MAX;
  for (;;) {
    const isUp = await fetch(`${url}/healthz`).then(
      (response) => response.ok,
      () => false,
    );
    if (isUp) return;
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`exit code ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
