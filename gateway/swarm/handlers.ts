/** Handlers of the swarm and its nodes. */
import { readTokens, replaceTokens, swarmPorts, tryReadNode } from '../../infra/swarm/identity.ts';
import { createSecret, formatJoinToken, hashSecret, isSameSecret } from '../../infra/swarm/join-token.ts';
import { listManagers, type SwarmRecord } from '../../infra/swarm/members.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { NodeRole, type JoinTokenView, type SwarmInfo } from '../../sdk/protocol/swarm/resources.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from '../routes/route.ts';
import { findNode, listNodes, listTasks } from './nodes.ts';
import { readReplicas } from './service/reconciler.ts';

type SwarmRoutes = 'readSwarm' | 'initSwarm' | 'endSwarm' | 'readJoinToken' | 'rotateJoinToken';
type NodeRoutes = 'listNodes' | 'listNodeTasks' | 'updateNode' | 'removeNode';

export function createSwarmHandlers(parts: GatewayParts): Pick<Handlers, SwarmRoutes> {
  const { members, found, identityDir } = parts.swarm;

  return {
    readSwarm: async () => describeSwarm(parts, await requireSwarm(parts)),

    initSwarm: async ({ body }) => describeSwarm(parts, await found(body)),

    async endSwarm() {
      await requireSwarm(parts);
      await parts.swarm.end();
      return undefined;
    },

    async readJoinToken({ role: text }) {
      const role = parseRole(text);
      const record = await requireSwarm(parts);
      assertManager(parts);
      const secret = readTokens(identityDir)[role];
      if (!isSameSecret(secret, record.tokenHashes[role])) {
        throw new SkiffError(
          'CONFLICT',
          `the ${role} token was rotated on another manager and is known only there; ask it, or rotate it: skiff swarm join-token --rotate ${role}`,
        );
      }
      return describeToken(parts, record, role, secret);
    },

    async rotateJoinToken({ role: text }) {
      const role = parseRole(text);
      const record = await requireSwarm(parts);
      assertManager(parts);
      const secret = createSecret();
      replaceTokens(identityDir, { ...readTokens(identityDir), [role]: secret });
      await members.setTokenHash(role, hashSecret(secret));
      return describeToken(parts, record, role, secret);
    },
  };
}

export function createNodeHandlers(parts: GatewayParts): Pick<Handlers, NodeRoutes> {
  const { fast, catalog } = parts;
  const { members, admission, identityDir } = parts.swarm;
  const find = async (name: string) => findNode(await listNodes(fast, members), name);

  return {
    listNodes: async () => ({ nodes: await listNodes(fast, members) }),

    async listNodeTasks({ id }) {
      const node = await find(id);
      const replicas = await readReplicas(fast, [node]);
      const kept = replicas
        .filter(({ state }) => state !== 'failed')
        .map(({ service, deployment, sandbox = '', state }) => ({
          functionName: service,
          deployment,
          sandbox,
          service,
          state,
        }));
      return { tasks: [...(await listTasks(fast, catalog, node)), ...kept] };
    },

    async updateNode({ id, body }) {
      const node = await find(id);
      const settings = await members.updateSettings(node.id, body);
      return {
        ...node,
        availability: settings.availability,
        labels: { ...removeLabels(node.labels, body.labelsRemove ?? []), ...settings.labels },
      };
    },

    async removeNode({ id, query }) {
      const node = await find(id);
      if (tryReadNode(identityDir)?.nodeId === node.id)
        throw new SkiffError(
          'CONFLICT',
          `node ${node.id} is this manager itself; use \`skiff swarm leave\` on it`,
        );
      if (node.status !== 'down' && query.force !== true) {
        throw new SkiffError(
          'CONFLICT',
          `node ${node.id} is up; let it leave (skiff swarm leave), or drain it and remove it with --force`,
        );
      }
      await admission.remove(node.id);
      return undefined;
    },
  };
}

function removeLabels(labels: Readonly<Record<string, string>>, names: readonly string[]) {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !names.includes(name)));
}

function parseRole(text: string): NodeRole {
  const role = NodeRole.safeParse(text).data;
  if (role) return role;
  throw new SkiffError('NOT_FOUND', `there is no role "${text}"; there are worker and manager`);
}

async function requireSwarm({ swarm }: GatewayParts): Promise<SwarmRecord> {
  const record = await swarm.members.getSwarm();
  if (record) return record;
  throw new SkiffError('NOT_FOUND', 'this server is in no swarm; `skiff swarm init` makes one');
}

function assertManager({ swarm }: GatewayParts): void {
  if (tryReadNode(swarm.identityDir)?.role === 'manager') return;
  throw new SkiffError('CONFLICT', 'this gateway is not on a manager of the swarm; ask one that is');
}

async function describeSwarm({ swarm }: GatewayParts, record: SwarmRecord): Promise<SwarmInfo> {
  const { port } = tryReadNode(swarm.identityDir) ?? { port: swarm.port };
  const managers = await listManagers(swarm.members, swarmPorts(port).join);
  return { id: record.id, createdMs: record.createdMs, caDigest: record.caDigest, managers };
}

async function describeToken(
  parts: GatewayParts,
  record: SwarmRecord,
  role: NodeRole,
  secret: string,
): Promise<JoinTokenView> {
  const { managers } = await describeSwarm(parts, record);
  return { role, token: formatJoinToken({ caDigest: record.caDigest, secret }), managers };
}
