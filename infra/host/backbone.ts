/**
 * The embedded backbone: two Redis servers and a registry, for a host that is given no URLs. What was promised is
 * on disk before it is acknowledged (durable store); what was not is in memory only (fast store). Invariant: all
 * of it is reachable from this host alone: unix sockets in a private folder, the registry on loopback with a password.
 * In a swarm that stands on this host the stores listen on its address too: by TLS, to holders of a certificate of
 * the swarm, each with a user and rights of its own.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import bcrypt from 'bcryptjs';
import { redisTlsSettings } from '../swarm/backbone-tls.ts';
import { swarmPorts, tryReadNode } from '../swarm/identity.ts';
import { hostPaths, type DataPaths } from './data-folder.ts';
import { registryPort, type HostConfig } from './config.ts';
import type { ProcessSpec } from './process/managed-process.ts';

export const REGISTRY_USER = 'skiff';
/** The durable store writes what it still holds; a large append-only file takes seconds. */
const REDIS_STOP_MS_MAX = 30_000;
const REGISTRY_STOP_MS_MAX = 10_000;

/** Only what a process needs of ours: REGISTRY_* of the caller's environment would override the registry's file. */
function plainEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return { PATH: env['PATH'], HOME: env['HOME'], LANG: 'C.UTF-8', TZ: env['TZ'] };
}

const SHARED_REDIS_LINES = [
  'port 0',
  'unixsocketperm 700',
  'daemonize no',
  'supervised no',
  'logfile ""',
  'save ""',
  // A store that evicts would forget functions and queued work without a word; a full one says so.
  'maxmemory-policy noeviction',
  'maxclients 10000',
];

/** Empty unless a swarm stands on this host. */
function swarmLines(paths: DataPaths, store: 'durable' | 'fast'): string[] {
  const node = tryReadNode(paths.swarm);
  if (!node?.isBackbone) return [];
  const settings = redisTlsSettings(paths.swarm, node.address, swarmPorts(node.port)[store]);
  return Object.entries(settings).map(([name, value]) => `${name} "${value}"`);
}

/**
 * The file of users: those of nodes stay as Redis saved them, and the default user, which is this host's own roles,
 * gets the password that lies beside the sockets.
 */
function writeUsers(file: string, passwordFile: string): void {
  const hash = createHash('sha256').update(readFileSync(passwordFile, 'utf8').trim()).digest('hex');
  const nodes = readLines(file).filter(
    (line) => line.startsWith('user ') && !line.startsWith('user default '),
  );
  writeFileSync(file, [`user default on #${hash} ~* &* +@all`, ...nodes, ''].join('\n'), { mode: 0o600 });
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function durableRedisFile(paths: DataPaths, bytesMax: number): string {
  const lines = [
    ...SHARED_REDIS_LINES,
    ...swarmLines(paths, 'durable'),
    `aclfile "${hostPaths(paths).redisUsers}"`,
    `unixsocket "${paths.redisDurableSocket}"`,
    `dir "${paths.redisDurable}"`,
    'appendonly yes',
    // An accepted event is acknowledged only when it is on the disk.
    'appendfsync always',
    'no-appendfsync-on-rewrite no',
    // A write that a crash cut short was never acknowledged, so dropping it loses nothing that was promised.
    'aof-load-truncated yes',
    `maxmemory ${bytesMax}`,
  ];
  return `${lines.join('\n')}\n`;
}

function fastRedisFile(paths: DataPaths, bytesMax: number): string {
  const lines = [
    ...SHARED_REDIS_LINES,
    ...swarmLines(paths, 'fast'),
    `aclfile "${hostPaths(paths).fastUsers}"`,
    `unixsocket "${paths.redisFastSocket}"`,
    `dir "${paths.run}"`,
    'appendonly no',
    `maxmemory ${bytesMax}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** PING over the socket; a server that still loads its file answers -LOADING. */
function isRedisReady(socketPath: string, password: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath, () => socket.write(`AUTH ${password}\r\nPING\r\n`));
    const settle = (isReady: boolean) => {
      socket.destroy();
      resolve(isReady);
    };
    let answer = '';
    socket.setTimeout(1_000, () => settle(false));
    socket.on('data', (reply) => {
      answer += reply.toString('latin1');
      if (answer.includes('+PONG')) settle(true);
      else if (answer.includes('-')) settle(false);
    });
    socket.on('error', () => settle(false));
    socket.on('close', () => settle(false));
  });
}

export function redisSpecs(
  config: HostConfig,
  paths: DataPaths,
  env: Readonly<Record<string, string | undefined>>,
): ProcessSpec[] {
  if (config.SKIFF_REDIS_URL !== undefined) return [];
  const files = hostPaths(paths);
  const password = readFileSync(files.redisPassword, 'utf8').trim();
  writeUsers(files.redisUsers, files.redisPassword);
  const specs: ProcessSpec[] = [];
  const add = (name: string, file: string, text: string, socketPath: string) => {
    writeFileSync(file, text, { mode: 0o600 });
    specs.push({
      name,
      command: 'redis-server',
      args: [file],
      env: plainEnv(env),
      cwd: paths.run,
      isReady: () => isRedisReady(socketPath, password),
      stopMsMax: REDIS_STOP_MS_MAX,
    });
  };
  add(
    'redis',
    files.redisConfig,
    durableRedisFile(paths, config.SKIFF_REDIS_MEMORY_BYTES_MAX),
    paths.redisDurableSocket,
  );
  if (config.SKIFF_REDIS_FAST_URL === undefined) {
    writeUsers(files.fastUsers, files.redisPassword);
    add(
      'redis-fast',
      files.fastConfig,
      fastRedisFile(paths, config.SKIFF_REDIS_FAST_MEMORY_BYTES_MAX),
      paths.redisFastSocket,
    );
  }
  return specs;
}

function registryFile(config: HostConfig, paths: DataPaths): string {
  // JSON is YAML: no quoting rules to get wrong.
  return JSON.stringify({
    version: 0.1,
    log: { level: 'warn', formatter: 'text', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: paths.registryData },
      delete: { enabled: true },
      cache: { blobdescriptor: 'inmemory' },
      maintenance: { uploadpurging: { enabled: true, age: '24h', interval: '6h', dryrun: false } },
    },
    http: { addr: `127.0.0.1:${registryPort(config)}` },
    auth: { htpasswd: { realm: 'skiff', path: hostPaths(paths).registryUsers } },
  });
}

export function registrySpec(
  config: HostConfig,
  paths: DataPaths,
  env: Readonly<Record<string, string | undefined>>,
): ProcessSpec | undefined {
  if (config.SKIFF_REGISTRY_URL !== undefined) return undefined;
  const files = hostPaths(paths);
  const password = readFileSync(files.registryPassword, 'utf8').trim();
  // The registry checks the hash on every request. The password is 192 random bits, which no hash has to slow
  // down guessing of, so the cheapest cost saves 60 ms a request and gives nothing away.
  writeFileSync(files.registryUsers, `${REGISTRY_USER}:${bcrypt.hashSync(password, 4)}\n`, { mode: 0o600 });
  writeFileSync(files.registryConfig, registryFile(config, paths), { mode: 0o600 });
  const authorization = `Basic ${Buffer.from(`${REGISTRY_USER}:${password}`).toString('base64')}`;
  return {
    name: 'registry',
    command: 'docker-registry',
    args: ['serve', files.registryConfig],
    env: plainEnv(env),
    cwd: paths.run,
    isReady: () => answersOk(`http://127.0.0.1:${registryPort(config)}/v2/`, { authorization }),
    stopMsMax: REGISTRY_STOP_MS_MAX,
  };
}

/** Whether a GET answers 200 within two seconds. */
export async function answersOk(url: string, headers: Record<string, string> = {}): Promise<boolean> {
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(2_000) });
    await response.body?.cancel();
    return response.status === 200;
  } catch {
    return false;
  }
}
