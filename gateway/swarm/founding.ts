/**
 * Making this server the first manager of a swarm: a CA, this host's own certificate, tokens, and stores that listen on
 * its address. Nothing restarts and no call fails. Invariant: it is done whole or undone.
 */
import type { NetworkInterfaceInfo } from 'node:os';
import type { Redis } from 'ioredis';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { Member, SwarmInitRequest } from '../../sdk/protocol/swarm/resources.ts';
import type { NodeRecord } from '../../sdk/protocol/api.ts';
import { revokeAccess } from '../../infra/swarm/access.ts';
import { embeddedBackbone, type Admission } from '../../infra/swarm/admission.ts';
import { applyRedisTls, redisTlsSettings } from '../../infra/swarm/backbone-tls.ts';
import {
  createAuthority,
  createKeyPair,
  digestOfCertificate,
  issueLeaf,
} from '../../infra/swarm/certificates.ts';
import {
  removeIdentity,
  swarmPorts,
  tryReadNode,
  writeIdentity,
  type NodeFile,
} from '../../infra/swarm/identity.ts';
import { createSecret, hashSecret } from '../../infra/swarm/join-token.ts';
import type { Members, SwarmRecord } from '../../infra/swarm/members.ts';

export interface FoundingOptions {
  readonly identityDir: string;
  readonly port: number;
  readonly version: string;
  readonly members: Members;
  readonly durable: Redis;
  readonly fast: Redis;
  /** Stores and registry that do not run on this host; absent for the embedded ones. */
  readonly external?: SwarmRecord['backbone'] | undefined;
  /** Of this host. */
  readonly addresses: readonly NetworkInterfaceInfo[];
  /** The runner of this host. */
  findOwnNode(): Promise<NodeRecord | undefined>;
}

/** As Docker Swarm's: long enough to be no work, short enough that a lost key dies. */
const CERTIFICATE_MS = 90 * 86_400_000;

/** @throws SkiffError CONFLICT when there is a swarm, BAD_REQUEST without a usable address, UNAVAILABLE without a runner */
export async function foundSwarm(options: FoundingOptions, request: SwarmInitRequest): Promise<SwarmRecord> {
  const { identityDir, members, port } = options;
  if (tryReadNode(identityDir))
    throw new SkiffError('CONFLICT', 'this host is in a swarm already; see `skiff swarm info`');
  const address = chooseAddress(request.advertiseAddr, options.addresses);
  const own = await options.findOwnNode();
  if (!own)
    throw new SkiffError('UNAVAILABLE', 'the runner of this host is not up yet; try again in a moment');
  const certificateMs = request.certificateMs ?? CERTIFICATE_MS;
  const id = createId('swm');
  const now = Date.now();
  const authority = createAuthority(id, now);
  const keys = createKeyPair();
  const leaf = { publicKey: keys.publicKey, nodeId: own.id, addresses: [address], lifeMs: certificateMs };
  const tokens = { worker: createSecret(), manager: createSecret() };
  const isBackbone = options.external === undefined;
  writeIdentity(identityDir, {
    node: { nodeId: own.id, role: 'manager', swarm: id, address, port, isBackbone },
    ca: authority.certificate,
    caKey: authority.privateKey,
    certificate: issueLeaf(authority, { ...leaf, role: 'manager' }, now),
    privateKey: keys.privateKey,
    tokens,
  });
  const record: SwarmRecord = {
    id,
    createdMs: now,
    ca: authority.certificate,
    caDigest: digestOfCertificate(authority.certificate),
    certificateMs,
    tokenHashes: { worker: hashSecret(tokens.worker), manager: hashSecret(tokens.manager) },
    backbone: options.external
      ? { ...options.external, registry: reachable(options.external.registry, { address, port }) }
      : embeddedBackbone({ address, port }),
  };
  try {
    if (isBackbone) await openStores(options, address);
    await members.put({
      id: own.id,
      role: 'manager',
      hostname: own.hostname,
      address,
      joinedMs: now,
      certificateUntilMs: now + certificateMs,
      version: options.version,
    });
    await members.createSwarm(record);
  } catch (error) {
    removeIdentity(identityDir);
    throw error;
  }
  return record;
}

/** A registry that only this host can reach is reached through its swarm port, by members alone. */
function reachable(registry: string, node: { readonly address: string; readonly port: number }): string {
  const isOwn = /^(?:127\.|localhost$|\[::1\]$)/.test(new URL(registry).hostname);
  return isOwn ? embeddedBackbone(node).registry : registry;
}

/**
 * Takes every node out and stops listening for any. Functions, events and secrets stay in the stores.
 * @throws SkiffError CONFLICT on a host that the swarm does not stand on, and while it has other managers
 */
export async function endSwarm(
  options: Pick<FoundingOptions, 'identityDir' | 'members' | 'durable' | 'fast'> & {
    readonly admission: Pick<Admission, 'remove'>;
  },
): Promise<void> {
  const { identityDir, members, durable, fast, admission } = options;
  const node = tryReadNode(identityDir);
  const list = await members.list();
  if (!node?.isBackbone) assertLastManager(node, list);
  const others = list.filter(({ id }) => id !== node?.nodeId);
  for (const { id } of others) await admission.remove(id);
  if (node?.isBackbone)
    for (const redis of [durable, fast]) await redis.call('CONFIG', 'SET', 'tls-port', '0');
  removeIdentity(identityDir);
  if (node) await members.remove(node.nodeId);
  await members.removeSwarm();
  // Who looks after users may have restored one meanwhile. Our own user, of a manager that joined, ends with us.
  for (const { id } of [...others, ...list.filter((member) => member.id === node?.nodeId)])
    await Promise.all([durable, fast].map((redis) => revokeAccess(redis, id).catch(() => {})));
}

/** Where the stores are elsewhere no host is the one that the swarm stands on: its last manager ends it. */
function assertLastManager(node: NodeFile | undefined, list: readonly Member[]): void {
  if (node?.role !== 'manager')
    throw new SkiffError('CONFLICT', 'this host is no manager; a swarm is ended on its last one');
  const others = list.filter(({ id, role }) => role === 'manager' && id !== node.nodeId);
  if (others.length === 0) return;
  throw new SkiffError(
    'CONFLICT',
    `the swarm has other managers: ${others.map(({ hostname }) => hostname).join(', ')}; it ends with the last one. Let those leave first: skiff swarm leave`,
  );
}

/** Also after a renewal of the certificate. */
export async function openStores(
  { identityDir, port, durable, fast }: Pick<FoundingOptions, 'identityDir' | 'port' | 'durable' | 'fast'>,
  address: string,
): Promise<void> {
  const ports = swarmPorts(port);
  await applyRedisTls(durable, redisTlsSettings(identityDir, address, ports.durable));
  await applyRedisTls(fast, redisTlsSettings(identityDir, address, ports.fast));
}

/** Several addresses are a question that only a person can answer, as in Docker. */
export function chooseAddress(wanted: string | undefined, all: readonly NetworkInterfaceInfo[]): string {
  const own = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  const list = own.map(({ address }) => address).join(', ');
  if (wanted !== undefined) {
    if (all.some(({ address }) => address === wanted)) return wanted;
    throw new SkiffError('BAD_REQUEST', `${wanted} is no address of this host; it has ${list || 'none'}`);
  }
  const [only, ...more] = own.filter(({ family }) => family === 'IPv4');
  if (only && more.length === 0) return only.address;
  throw new SkiffError(
    'BAD_REQUEST',
    `this host has ${list ? `several addresses (${list})` : 'no address that others could reach'}; name one: --advertise-addr <address>`,
  );
}
