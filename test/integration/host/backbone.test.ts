import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { REGISTRY_USER, redisSpecs, registrySpec } from '../../../infra/host/backbone.ts';
import { loadHostConfig, type HostConfig } from '../../../infra/host/config.ts';
import {
  createDataFolder,
  hostPaths,
  lockDataFolder,
  type DataPaths,
} from '../../../infra/host/data-folder.ts';
import { tryReadProcess } from '../../../infra/host/process/process-record.ts';
import { Supervisor } from '../../../infra/host/supervisor.ts';
import { openBlockingRedis } from '../../../infra/lib/redis.ts';
import { freePorts } from '../../helpers/ports.ts';
import { waitFor } from '../../helpers/wait.ts';

let dataDir: string;
let config: HostConfig;
let paths: DataPaths;
let registryUrl: string;
let running: Supervisor | undefined;
let connections: Redis[];
let pids: Record<string, number>;

beforeEach(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'skiff-host-'));
  const [gateway, registry] = await freePorts(2);
  config = loadHostConfig({
    SKIFF_DATA_DIR: dataDir,
    SKIFF_GATEWAY_PORT: String(gateway),
    SKIFF_REGISTRY_PORT: String(registry),
    SKIFF_REDIS_MEMORY_BYTES_MAX: String(64 * 1024 ** 2),
  });
  paths = createDataFolder(dataDir);
  registryUrl = `http://127.0.0.1:${registry}`;
  running = undefined;
  connections = [];
  pids = {};
});
afterEach(async () => {
  for (const connection of connections) connection.disconnect();
  await running?.stop();
  rmSync(dataDir, { recursive: true });
});

async function startBackbone(): Promise<Supervisor> {
  const registry = registrySpec(config, paths, process.env);
  const backbone = [...redisSpecs(config, paths, process.env), ...(registry ? [registry] : [])];
  const state = { pid: process.pid, url: '', version: '0', startedMs: 0, registryUrl };
  running = new Supervisor({ backbone, roles: [], state }, paths, {
    onLine() {},
    onDeath() {},
    onStart: (name, pid) => void (pids[name] = pid),
  });
  await running.start();
  return running;
}

function connect(socketPath: string): Redis {
  const redis = openBlockingRedis(`unix:${socketPath}`);
  connections.push(redis);
  return redis;
}

async function setting(redis: Redis, name: string): Promise<string> {
  return ((await redis.config('GET', name)) as string[])[1] as string;
}

test('the durable store syncs every write to disk, evicts nothing, and has a ceiling and no port', async () => {
  await startBackbone();
  const redis = connect(paths.redisDurableSocket);
  const names = ['appendonly', 'appendfsync', 'maxmemory-policy', 'maxmemory', 'port', 'save'];
  const values = await Promise.all(names.map((name) => setting(redis, name)));
  expect(values).toEqual(['yes', 'always', 'noeviction', String(64 * 1024 ** 2), '0', '']);
  const fast = connect(paths.redisFastSocket);
  expect(await setting(fast, 'appendonly')).toBe('no');
  expect(await setting(fast, 'maxmemory-policy')).toBe('noeviction');
});

test('what the durable store acknowledged is there after kill -9; what the fast one held is not', async () => {
  await startBackbone();
  const [durable, fast] = [connect(paths.redisDurableSocket), connect(paths.redisFastSocket)];
  await Promise.all([durable.set('promise', 'kept'), fast.set('hint', 'gone')]);
  const before = { ...pids };
  process.kill(pids['redis'] as number, 'SIGKILL');
  process.kill(pids['redis-fast'] as number, 'SIGKILL');
  await waitFor(
    'new Redis processes',
    () => pids['redis'] !== before['redis'] && pids['redis-fast'] !== before['redis-fast'],
  );
  expect(await durable.get('promise')).toBe('kept');
  expect(await fast.get('hint')).toBeNull();
});

test('the registry answers on loopback to its password alone, and deletes what it is told to', async () => {
  await startBackbone();
  const password = readFileSync(hostPaths(paths).registryPassword, 'utf8').trim();
  const authorization = `Basic ${Buffer.from(`${REGISTRY_USER}:${password}`).toString('base64')}`;
  expect((await fetch(`${registryUrl}/v2/`)).status).toBe(401);
  expect(
    (await fetch(`${registryUrl}/v2/`, { headers: { authorization: 'Basic c2tpZmY6c2tpZmY=' } })).status,
  ).toBe(401);
  expect((await fetch(`${registryUrl}/v2/`, { headers: { authorization } })).status).toBe(200);
  const digest = 'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824';
  const opened = await fetch(`${registryUrl}/v2/a/b/blobs/uploads/`, {
    method: 'POST',
    headers: { authorization },
  });
  const location = new URL(opened.headers.get('location') as string, registryUrl);
  location.searchParams.set('digest', digest);
  const put = await fetch(location, { method: 'PUT', headers: { authorization }, body: 'hello' });
  expect(put.status).toBe(201);
  const removed = await fetch(`${registryUrl}/v2/a/b/blobs/${digest}`, {
    method: 'DELETE',
    headers: { authorization },
  });
  expect(removed.status).toBe(202);
});

test('credentials and configuration are readable by root alone and survive a restart', async () => {
  const token = readFileSync(paths.adminToken, 'utf8');
  expect(token).toMatch(/^skiff_[\w-]{43}\n$/);
  const supervisor = await startBackbone();
  const files = [paths.adminToken, ...Object.values(hostPaths(paths)), join(paths.log, 'registry.log')];
  expect(files.map((file) => (statSync(file).mode & 0o777).toString(8))).toEqual(files.map(() => '600'));
  expect((statSync(paths.run).mode & 0o777).toString(8)).toBe('700');
  await supervisor.stop();
  createDataFolder(dataDir);
  expect(readFileSync(paths.adminToken, 'utf8')).toBe(token);
});

test('stores whose URL is given are not started', () => {
  const urls = { SKIFF_REDIS_URL: 'redis://elsewhere', SKIFF_REGISTRY_URL: 'http://elsewhere:5000' };
  const remote = loadHostConfig({ SKIFF_DATA_DIR: dataDir, ...urls });
  expect(redisSpecs(remote, paths, {})).toEqual([]);
  expect(registrySpec(remote, paths, {})).toBeUndefined();
  const half = loadHostConfig({ SKIFF_DATA_DIR: dataDir, SKIFF_REDIS_FAST_URL: 'redis://elsewhere' });
  expect(redisSpecs(half, paths, {}).map(({ name }) => name)).toEqual(['redis']);
});

test('a data folder serves one server at a time, and the error says what to do', () => {
  const unlock = lockDataFolder(paths, ['backbone', 'gateway']);
  expect(() => lockDataFolder(paths, ['gateway'])).toThrow(/already uses .*SKIFF_DATA_DIR/);
  const builderOnly = lockDataFolder(paths, ['builder']);
  unlock();
  lockDataFolder(paths, ['backbone', 'gateway'])();
  builderOnly();
});

test('ends with its supervisor, even when that is killed -9', async () => {
  const script = `
    import { mkdirSync } from 'node:fs';
    const { loadHostConfig } = await import('./infra/host/config.ts');
    const { createDataFolder } = await import('./infra/host/data-folder.ts');
    const { redisSpecs, registrySpec } = await import('./infra/host/backbone.ts');
    const { Supervisor } = await import('./infra/host/supervisor.ts');
    const config = loadHostConfig(process.env);
    const paths = createDataFolder(config.SKIFF_DATA_DIR);
    const backbone = [...redisSpecs(config, paths, process.env), registrySpec(config, paths, process.env)];
    const observer = { onLine() {}, onDeath() {}, onStart: (name, pid) => console.log(pid) };
    await new Supervisor({ backbone, roles: [], state: {} }, paths, observer).start();
    console.log('ready');`;
  const settings = Object.entries(config)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, String(value)]);
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: process.env['PATH'], ...Object.fromEntries(settings) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (text) => (output += text));
  await waitFor('the backbone of the child', () => output.includes('ready'), 20_000);
  const started = output.split('\n').map(Number).filter(Boolean);
  expect(started.length).toBe(3);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await waitFor('the end of Redis and registry', () =>
    started.every((pid) => tryReadProcess(pid) === undefined),
  );
});
