/**
 * Letting nodes in and taking them out, as a manager does it: certificate, users of the stores, members' record.
 * Invariants: a joiner's id is ours to choose, so none can take another's place; a node is a member before it gets its
 * credentials, and what it was given is revoked before it is no member any more.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { type JoinAnswer, type JoinRequest, type NodeRole } from '../../sdk/protocol/swarm/resources.ts';
import { agreeOn, describeSpoken, SWARM_SPOKEN } from '../../sdk/protocol/versions.ts';
import { fast as fastKeys } from '../contract/keys.ts';
import { cellsOf, withCredentials } from '../lib/redis.ts';
import { grantAccess, redisUser, revokeAccess } from './access.ts';
import { issueLeaf, type Authority } from './certificates.ts';
import { readAuthority, readTokens, swarmPorts, type NodeFile } from './identity.ts';
import { createSecret, hashSecret, isSameSecret } from './join-token.ts';
import type { Members, SwarmRecord } from './members.ts';

export interface AdmissionOptions {
  readonly identityDir: string;
  /** File with the keys of secrets. */
  readonly secretKeyFile: string;
  readonly adminTokenFile: string;
  readonly members: Members;
  readonly durable: Redis;
  readonly fast: Redis;
  readonly version: string;
}

export interface Admission {
  /** `from` is the joiner's address as we see it. @throws SkiffError UNAUTHENTICATED, CONFLICT (versions), BAD_REQUEST */
  join(request: JoinRequest, from: string): Promise<JoinAnswer>;
  /** Keys of functions' secrets, as their file has them. */
  readSecretKeys(): string;
  /** A new certificate for a member. @throws SkiffError FORBIDDEN */
  renew(nodeId: string, publicKey: string): Promise<{ certificate: string; ca: string }>;
  /** Revokes everything at once. @throws SkiffError NOT_FOUND */
  remove(nodeId: string): Promise<void>;
}

export function openAdmission(options: AdmissionOptions): Admission {
  const { identityDir, members } = options;

  return {
    readSecretKeys: () => readSecretKeys(options.secretKeyFile),

    join: (request, from) => join(options, request, from),

    async renew(nodeId, publicKey) {
      const [record, member] = await Promise.all([getSwarm(members), members.get(nodeId)]);
      if (!member) throw new SkiffError('FORBIDDEN', `node ${nodeId} is no member of this swarm`);
      const authority = readAuthority(identityDir);
      const certificate = issueLeaf(authority, {
        publicKey,
        nodeId,
        role: member.role,
        addresses: [member.address],
        lifeMs: record.certificateMs,
      });
      await members.put({ ...member, certificateUntilMs: Date.now() + record.certificateMs });
      return { certificate, ca: authority.certificate };
    },

    remove: (nodeId) => remove(options, nodeId),
  };
}

async function join(options: AdmissionOptions, request: JoinRequest, from: string): Promise<JoinAnswer> {
  const { identityDir, members, durable, fast } = options;
  const record = await getSwarm(members);
  const role = roleOf(record, request.secret);
  assertCommonProtocol(request, options.version);
  const nodeId = `node-${randomBytes(5).toString('hex')}`;
  const address = request.address ?? from;
  const authority = readAuthority(identityDir);
  const certificate = issueLeaf(authority, {
    publicKey: request.publicKey,
    nodeId,
    role,
    addresses: [address],
    lifeMs: record.certificateMs,
  });
  const password = createSecret();
  const passwordHash = hashSecret(password);
  const now = Date.now();
  await members.put({
    id: nodeId,
    role,
    hostname: request.hostname,
    address,
    joinedMs: now,
    certificateUntilMs: now + record.certificateMs,
    version: request.version,
    redisPasswordHash: passwordHash,
  });
  try {
    await grantAccess({ durable, fast }, { id: nodeId, role, passwordHash });
  } catch (error) {
    await remove(options, nodeId).catch(() => {});
    throw error;
  }
  return {
    nodeId,
    role,
    swarm: record.id,
    address,
    certificate,
    ca: authority.certificate,
    ...(role === 'manager' ? managerSecrets(options, authority) : {}),
    redis: {
      durable: withCredentials(record.backbone.durable, redisUser(nodeId), password),
      fast: withCredentials(record.backbone.fast, redisUser(nodeId), password),
    },
    registry: record.backbone.registry,
    secretKeys: readSecretKeys(options.secretKeyFile),
  };
}

/** From the list first: whoever gives members their rights (gateway/swarm/upkeep.ts) looks there afterwards. */
async function remove({ members, durable, fast }: AdmissionOptions, nodeId: string): Promise<void> {
  const wasMember = await members.remove(nodeId);
  await Promise.all([revokeAccess(durable, nodeId), revokeAccess(fast, nodeId)]);
  await Promise.all(cellsOf(fast).all.map((cell) => fast.del(cell.fast.alive(nodeId))));
  await fast
    .multi()
    .del(fastKeys.node(nodeId), fastKeys.replicas(nodeId), fastKeys.orders(nodeId))
    .zrem(fastKeys.nodes, nodeId)
    .exec();
  if (!wasMember)
    throw new SkiffError('NOT_FOUND', `there is no node "${nodeId}"; \`skiff node ls\` lists them`);
}

async function getSwarm(members: Members): Promise<SwarmRecord> {
  const record = await members.getSwarm();
  if (record) return record;
  throw new SkiffError('NOT_FOUND', 'this server is in no swarm; `skiff swarm init` makes one');
}

function roleOf(record: SwarmRecord, secret: string): NodeRole {
  // Both are compared whatever the first says: time tells nothing.
  const isWorker = isSameSecret(secret, record.tokenHashes.worker);
  const isManager = isSameSecret(secret, record.tokenHashes.manager);
  if (!isWorker && !isManager) {
    throw new SkiffError(
      'UNAUTHENTICATED',
      'the join token is not (or no longer) one of this swarm; get the present one with `skiff swarm join-token worker`',
    );
  }
  return isManager ? 'manager' : 'worker';
}

function assertCommonProtocol(request: JoinRequest, own: string): void {
  if (agreeOn(SWARM_SPOKEN, request) !== undefined) return;
  throw new SkiffError(
    'CONFLICT',
    `this node speaks swarm protocol ${describeSpoken(request)} (Skiff ${request.version}), the swarm ${describeSpoken(SWARM_SPOKEN)} (Skiff ${own}); ` +
      'install the version of the swarm, or upgrade the swarm first',
  );
}

/** Addresses of a backbone that is embedded in the node's own host. */
export function embeddedBackbone(node: Pick<NodeFile, 'address' | 'port'>): SwarmRecord['backbone'] {
  const host = node.address.includes(':') ? `[${node.address}]` : node.address;
  const ports = swarmPorts(node.port);
  return {
    durable: `rediss://${host}:${ports.durable}?identity=swarm`,
    fast: `rediss://${host}:${ports.fast}?identity=swarm`,
    registry: `https://${host}:${ports.join}`,
  };
}

function readSecretKeys(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    // Nobody has set a secret yet.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** What makes a manager one: it can let others in, and its gateway knows the same first token. */
function managerSecrets(
  { identityDir, adminTokenFile }: AdmissionOptions,
  authority: Authority,
): Pick<JoinAnswer, 'caKey' | 'tokens' | 'adminToken'> {
  return {
    caKey: authority.privateKey,
    tokens: readTokens(identityDir),
    adminToken: readFileSync(adminTokenFile, 'utf8'),
  };
}
