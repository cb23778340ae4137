/**
 * The gateway's part in a swarm, wired together: the swarm port (on managers), the lead, services and their routes,
 * the certificate of a manager. Works without a swarm too: services and availability need none.
 */
import { networkInterfaces } from 'node:os';
import type { Redis } from 'ioredis';
import type { Change } from '../../infra/catalog/changes.ts';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import type { RouteEntry } from '../../infra/catalog/functions.ts';
import { dataPaths } from '../../infra/contract/paths.ts';
import type { StoreClock } from '../../infra/lib/skew.ts';
import type { Log } from '../../infra/lib/log.ts';
import { isRemote } from '../../infra/link/open-socket.ts';
import { openAdmission, type Admission } from '../../infra/swarm/admission.ts';
import { issueLeaf } from '../../infra/swarm/certificates.ts';
import { readAuthority, tryReadNode, tryRegistryTls } from '../../infra/swarm/identity.ts';
import { Lead } from '../../infra/swarm/lead.ts';
import { openMembers, type Members, type SwarmRecord } from '../../infra/swarm/members.ts';
import { Renewal } from '../../infra/swarm/renewal.ts';
import { openServices } from '../../infra/swarm/services.ts';
import { openVolumes } from '../../infra/swarm/volumes.ts';
import type { SwarmParts } from '../parts.ts';
import { CallHistory } from './call-history.ts';
import { CallPeers } from './call-peers.ts';
import { endSwarm, foundSwarm, openStores } from './founding.ts';
import { SwarmListener } from './listener.ts';
import { readLiveNodes } from './nodes.ts';
import { Reconciler } from './service/reconciler.ts';
import { createRouteResolver } from './service/routes.ts';
import { Upkeep } from './upkeep.ts';

export interface GatewaySwarmOptions {
  readonly gateway: string;
  readonly dataDir: string;
  readonly identityDir: string;
  readonly runDir: string;
  readonly port: number;
  readonly version: string;
  readonly catalog: Catalog;
  readonly durable: Redis;
  readonly fast: Redis;
  /** For pub/sub of the fast store. */
  readonly subscriber: Redis;
  /** Whose URL, when they do not run on this host. */
  readonly external?: SwarmRecord['backbone'] | undefined;
  readonly registry: {
    readonly url: string;
    readonly user?: string | undefined;
    readonly password?: string | undefined;
  };
  readonly clock: StoreClock;
  readonly log: Log;
}

export interface GatewaySwarm {
  readonly parts: SwarmParts;
  readonly history: CallHistory;
  resolveRoute(name: string): Promise<RouteEntry | undefined>;
  onChange(change: Change): void;
  open(): Promise<void>;
  close(): Promise<void>;
}

export function openGatewaySwarm(options: GatewaySwarmOptions): GatewaySwarm {
  const { identityDir, durable, fast, catalog, log, port } = options;
  const members = openMembers(durable);
  const services = openServices(durable);
  const volumes = openVolumes(durable);
  const admission = openAdmission({ ...options, ...secretFiles(options.dataDir), members });
  const history = new CallHistory();
  const peers = new CallPeers({ id: options.gateway, history, redis: fast, subscriber: options.subscriber });
  const readNodes = () => readLiveNodes(fast);
  const getDeployment = (id: string) => catalog.getDeployment(id);
  const listener = createListener(options, { members, admission });
  const upkeep = new Upkeep(members, durable, fast);
  const reconciler = new Reconciler({
    lead: new Lead(options.gateway, fast),
    services,
    volumes,
    durable,
    fast,
    clock: options.clock,
    log,
    readNodes,
    getDeployment,
    onLead: () => upkeep.run(),
  });
  const renewal = createRenewal(options, { members, listener });

  return {
    parts: {
      members,
      services,
      volumes,
      admission,
      identityDir,
      port,
      clock: options.clock,
      async found(request) {
        const record = await foundSwarm(
          { ...options, members, addresses: listAddresses(), findOwnNode: () => findOwnNode(options) },
          request,
        );
        await listener.open();
        return record;
      },
      async end() {
        await endSwarm({ ...options, members, admission });
        await listener.open();
      },
      reconcileSoon: () => reconciler.soon(),
      recall: (invocation) => history.find(invocation),
      calls: peers,
    },
    history,
    resolveRoute: createRouteResolver(catalog, services, fast),
    onChange(change) {
      if (change.kind !== 'swarm') return;
      listener.open().catch((error: unknown) => log.error({ error }, 'the swarm port could not be opened'));
    },
    async open() {
      await Promise.all([listener.open(), peers.open()]);
    },
    async close() {
      renewal.close();
      await reconciler.close();
      listener.close();
    },
  };
}

function secretFiles(dataDir: string) {
  const { secretKey, adminToken } = dataPaths(dataDir);
  return { secretKeyFile: secretKey, adminTokenFile: adminToken };
}

function createListener(
  options: GatewaySwarmOptions,
  { members, admission }: { members: Members; admission: Admission },
): SwarmListener {
  return new SwarmListener({
    identityDir: options.identityDir,
    members,
    admission,
    registry: {
      url: options.registry.url,
      authorization: basicOf(options.registry),
      tls: tryRegistryTls({ SKIFF_DATA_DIR: options.dataDir, SKIFF_REGISTRY_URL: options.registry.url }),
    },
    log: options.log,
  });
}

function basicOf({ user, password }: GatewaySwarmOptions['registry']): string | undefined {
  if (user === undefined) return undefined;
  return `Basic ${Buffer.from(`${user}:${password ?? ''}`).toString('base64')}`;
}

/** The runner whose socket is in our own data folder. */
async function findOwnNode({ fast, runDir }: GatewaySwarmOptions) {
  const nodes = await readLiveNodes(fast);
  return nodes.find((node) => !isRemote(node, runDir));
}

function listAddresses() {
  return Object.values(networkInterfaces()).flatMap((all) => all ?? []);
}

/** A manager signs its own: it has the CA's key. */
function createRenewal(
  options: GatewaySwarmOptions,
  { members, listener }: { members: Members; listener: SwarmListener },
): Renewal {
  const { identityDir, port, durable, fast, log } = options;
  return new Renewal({
    identityDir,
    log,
    async request(publicKey) {
      const node = tryReadNode(identityDir);
      if (node?.role !== 'manager') return undefined;
      const [record, member] = await Promise.all([members.getSwarm(), members.get(node.nodeId)]);
      if (!record || !member) return undefined;
      const lifeMs = record.certificateMs;
      await members.put({ ...member, certificateUntilMs: Date.now() + lifeMs });
      const { nodeId, role, address } = node;
      return issueLeaf(readAuthority(identityDir), { publicKey, nodeId, role, addresses: [address], lifeMs });
    },
    async onRenewed() {
      const node = tryReadNode(identityDir);
      if (node?.isBackbone) await openStores({ identityDir, port, durable, fast }, node.address);
      await listener.open();
    },
  });
}
