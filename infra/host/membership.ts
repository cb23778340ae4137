/**
 * This host becomes a member of a swarm, and ceases to be one.
 * Invariant: the secret of a token is said only to a manager whose CA the token names; this node's private key is made
 * here and stays here; a node that left holds nothing that the swarm would still accept.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { JoinAnswer, SwarmInfo } from '../../sdk/protocol/swarm/resources.ts';
import { SWARM_SPOKEN } from '../../sdk/protocol/versions.ts';
import { dataPaths, type ServerState } from '../contract/paths.ts';
import { openRedis, redisUrls } from '../lib/redis.ts';
import { createKeyPair } from '../swarm/certificates.ts';
import {
  removeIdentity,
  replaceFile,
  managerPortOf,
  tryReadNode,
  tryReadStores,
  writeIdentity,
  type NodeFile,
} from '../swarm/identity.ts';
import { parseJoinToken } from '../swarm/join-token.ts';
import { listManagers, openMembers } from '../swarm/members.ts';
import { callAsJoiner, callAsNode, fetchAuthority, parseManagerAddress } from '../swarm/manager-call.ts';
import type { HostConfig } from './config.ts';
import { createDataFolder, lockDataFolder, type DataPaths } from './data-folder.ts';
import { tryReadProcess } from './process/process-record.ts';
import { ROLES } from './roles.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface JoinOptions {
  readonly config: HostConfig;
  readonly version: string;
  readonly token: string;
  /** `host:port` of any manager. */
  readonly manager: string;
  /** Under which others reach this host; absent: as the manager sees us. */
  readonly advertiseAddr?: string | undefined;
}

/** @throws SkiffError CONFLICT when this host is in a swarm or runs a server, and what the manager refuses */
export async function joinSwarm(options: JoinOptions): Promise<NodeFile> {
  const { config } = options;
  const { caDigest, secret } = parseJoinToken(options.token);
  const address = parseManagerAddress(options.manager, config.SKIFF_SWARM_PORT);
  const paths = createDataFolder(config.SKIFF_DATA_DIR);
  // A server of this host's own has functions that no swarm knows of.
  const unlock = lockDataFolder(paths, ROLES);
  try {
    const known = tryReadNode(paths.swarm);
    if (known)
      throw new SkiffError(
        'CONFLICT',
        `this host is node ${known.nodeId} of a swarm already; leave it first`,
      );
    const ca = await fetchAuthority(address, caDigest);
    const keys = createKeyPair();
    const request = {
      ...SWARM_SPOKEN,
      version: options.version,
      secret,
      publicKey: keys.publicKey,
      hostname: hostname(),
      ...(options.advertiseAddr === undefined ? {} : { address: options.advertiseAddr }),
    };
    const answer = JoinAnswer.parse(await callAsJoiner(address, ca, '/swarm/join', request));
    if (!new X509Certificate(answer.certificate).verify(new X509Certificate(ca).publicKey))
      throw new SkiffError('FORBIDDEN', 'the manager gave a certificate that its own CA did not sign');
    const node: NodeFile = {
      nodeId: answer.nodeId,
      role: answer.role,
      swarm: answer.swarm,
      address: answer.address,
      port: config.SKIFF_SWARM_PORT,
      isBackbone: false,
      registry: answer.registry,
      managerPort: address.port,
    };
    writeIdentity(paths.swarm, {
      node,
      ca,
      certificate: answer.certificate,
      privateKey: keys.privateKey,
      caKey: answer.caKey,
      tokens: answer.tokens,
      redis: {
        durable: withIdentity(answer.redis.durable, paths.swarm),
        fast: withIdentity(answer.redis.fast, paths.swarm),
      },
    });
    if (answer.adminToken !== undefined) replaceFile(paths.adminToken, answer.adminToken);
    if (answer.secretKeys !== '') replaceFile(paths.secretKey, answer.secretKeys);
    return node;
  } finally {
    unlock();
  }
}

/** Stores that are reached with the swarm's certificates say so; where ours lie only we know. */
function withIdentity(url: string, dir: string): string {
  return url.replace(/([?&]identity=)[^&]*/, (_, name: string) => name + encodeURIComponent(dir));
}

const STOP_MS_MAX = 60_000;

/**
 * Stops this host's server, so that its calls end in their own time, tells a manager, and removes what it holds.
 * `isForced`: also when no manager can be told; and for the last manager, and the node that hosts the backbone, with which the
 * swarm ends.
 */
export async function leaveSwarm(config: HostConfig, isForced: boolean): Promise<NodeFile> {
  const paths = dataPaths(config.SKIFF_DATA_DIR);
  const node = tryReadNode(paths.swarm);
  if (!node) throw new SkiffError('NOT_FOUND', 'this host is in no swarm');
  if (node.isBackbone) {
    if (!isForced) {
      throw new SkiffError(
        'CONFLICT',
        'stores and registry of the swarm are on this host: if it leaves, the swarm ends for all nodes (their functions stay here). Say --force to do so',
      );
    }
    await dissolve(paths);
    return node;
  }
  const isGuest = tryReadStores(paths.swarm) !== undefined;
  const managers = await findManagers(config, paths, node);
  if (node.role === 'manager' && managers?.length === 0) {
    if (!isForced) {
      throw new SkiffError(
        'CONFLICT',
        'this is the last manager of its swarm: if it leaves, the swarm ends for all nodes (functions stay in the stores). Make another host a manager first (skiff swarm join-token manager), or say --force to end the swarm',
      );
    }
    await dissolve(paths);
    // Who joined was given users of the stores, which are revoked now; the founder goes on with its own settings.
    if (isGuest) await stopServer(paths);
    return node;
  }
  if (!managers && !isForced) {
    throw new SkiffError(
      'UNAVAILABLE',
      'neither the server of this host nor its stores can be asked which managers stay; start the server, or say --force to leave without telling anybody',
    );
  }
  await stopServer(paths);
  try {
    await callAsNode(paths.swarm, managers ?? [], '/swarm/leave', {});
  } catch (error) {
    // Removed meanwhile: there is nothing more to revoke.
    const wasRemoved = error instanceof SkiffError && error.code === 'FORBIDDEN';
    if (!isForced && !wasRemoved) throw error;
  }
  removeIdentity(paths.swarm);
  return node;
}

/**
 * Whoever stays, as this host's own server says, or the stores. A node that was removed can ask no store any more: then the
 * manager that it joined by its registry. Undefined: nobody can say.
 */
async function findManagers(
  config: HostConfig,
  paths: DataPaths,
  node: NodeFile,
): Promise<string[] | undefined> {
  const { address } = node;
  const isOther = (manager: string) =>
    !manager.startsWith(`${address}:`) && !manager.startsWith(`[${address}]:`);
  const own = node.role === 'manager' ? await askServer(paths, 'GET').catch(() => undefined) : undefined;
  if (own?.ok) return SwarmInfo.parse(await own.json()).managers.filter(isOther);
  const redis = openRedis(
    redisUrls({ ...config, SKIFF_REDIS_URL: tryReadStores(paths.swarm)?.durable ?? config.SKIFF_REDIS_URL })
      .durable,
  );
  try {
    await redis.connect();
    return (await listManagers(openMembers(redis), managerPortOf(node))).filter(isOther);
  } catch {
    return node.registry === undefined ? undefined : [new URL(node.registry).host];
  } finally {
    redis.disconnect();
  }
}

function tryReadState(paths: DataPaths): ServerState | undefined {
  try {
    return JSON.parse(readFileSync(paths.serverState, 'utf8')) as ServerState;
  } catch {
    return undefined;
  }
}

async function stopServer(paths: DataPaths): Promise<void> {
  const state = tryReadState(paths);
  const isRunning = () => state !== undefined && tryReadProcess(state.pid) !== undefined;
  if (!state || !isRunning()) return;
  process.kill(state.pid, 'SIGTERM');
  const deadline = performance.now() + STOP_MS_MAX;
  while (isRunning()) {
    if (performance.now() > deadline)
      throw new SkiffError('UNAVAILABLE', `the server (pid ${state.pid}) did not stop in ${STOP_MS_MAX} ms`);
    await sleep(50);
  }
}

async function dissolve(paths: DataPaths): Promise<void> {
  const response = await askServer(paths, 'DELETE');
  if (!response) throw new SkiffError('UNAVAILABLE', 'the server of this host must run to end its swarm');
  if (response.ok) return;
  throw new SkiffError('UNAVAILABLE', `the server did not end its swarm: ${await response.text()}`);
}

/** Undefined when it does not run. */
async function askServer(paths: DataPaths, method: 'GET' | 'DELETE'): Promise<Response | undefined> {
  const state = tryReadState(paths);
  if (!state || tryReadProcess(state.pid) === undefined) return undefined;
  const token = readFileSync(paths.adminToken, 'utf8').trim();
  return await fetch(`${state.url}/v1/swarm`, { method, headers: { authorization: `Bearer ${token}` } });
}

export function assertToken(token: string | undefined, env: Env): string {
  const file = env['SKIFF_JOIN_TOKEN_FILE'];
  const found = token ?? env['SKIFF_JOIN_TOKEN'] ?? (file ? readFileSync(file, 'utf8').trim() : undefined);
  if (found) return found;
  throw new SkiffError(
    'INVALID_CONFIG',
    'a join token is needed: --token, SKIFF_JOIN_TOKEN or SKIFF_JOIN_TOKEN_FILE',
  );
}
