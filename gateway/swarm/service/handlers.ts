/** Handlers of services: what is wanted is written here; the reconciler makes it so. */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { createId } from '../../../sdk/protocol/ids.ts';
import {
  ServiceSpec,
  type Replica,
  type Service,
  type ServiceCreate,
  type ServiceState,
  type ServiceUpdate,
} from '../../../sdk/protocol/swarm/resources.ts';
import type { TokenRecord } from '../../../sdk/protocol/api.ts';
import { namespaceOf } from '../../../sdk/protocol/reach/namespaces.ts';
import { owns } from '../../middleware/auth.ts';
import type { GatewayParts } from '../../parts.ts';
import { functionUrl } from '../../routes/links.ts';
import type { Handlers } from '../../routes/route.ts';
import { readLiveNodes } from '../nodes.ts';
import { planService } from './plan.ts';
import { readReplicas } from './reconciler.ts';
import { rollBack } from './update.ts';
import { pinToVolumes, withVolumes } from './volumes.ts';

type ServiceRoutes =
  | 'listServices'
  | 'createService'
  | 'readService'
  | 'updateService'
  | 'rollbackService'
  | 'removeService';

export function createServiceHandlers(parts: GatewayParts): Pick<Handlers, ServiceRoutes> {
  const { services } = parts.swarm;

  async function require(name: string): Promise<Service> {
    const service = await services.get(name);
    if (service) return service;
    throw new SkiffError('NOT_FOUND', `there is no service "${name}"; \`skiff service ls\` lists them`);
  }

  const describe = async (service: Service): Promise<ServiceState> =>
    (await describeServices(parts, [service]))[0] as ServiceState;

  return {
    listServices: async (_input, context) => {
      const own = (await services.list()).filter(({ name }) => owns(context.get('token'), name));
      return { services: await describeServices(parts, own) };
    },
    readService: async ({ name }) => describe(await require(name)),

    async createService({ body }, context) {
      assertOwn(context.get('token'), body);
      if (await parts.catalog.getFunction(body.name)) {
        throw new SkiffError(
          'CONFLICT',
          `"${body.name}" is the name of a function; a service is called by its name too, so choose another`,
        );
      }
      const service = await createService(parts, body);
      await services.create(service);
      parts.swarm.reconcileSoon();
      return describe(service);
    },

    async updateService({ name, body }) {
      const service = await require(name);
      const updated = await services.update(await changeService(parts, service, body));
      parts.swarm.reconcileSoon();
      return describe(updated);
    },

    async rollbackService({ name }) {
      const service = await require(name);
      if (service.previousSpec === undefined)
        throw new SkiffError(
          'CONFLICT',
          `service "${name}" was never updated; there is nothing to go back to`,
        );
      const updated = await services.update(rollBack(service, 'asked for', parts.swarm.clock.now()));
      parts.swarm.reconcileSoon();
      return describe(updated);
    },

    async removeService({ name }) {
      if (!(await services.remove(name))) await require(name);
      parts.swarm.reconcileSoon();
      return undefined;
    },
  };
}

/**
 * A service's calls are its function's, so it belongs to whom that belongs to.
 * @throws SkiffError FORBIDDEN, INVALID_CONFIG
 */
function assertOwn(token: TokenRecord | undefined, { name, functionName }: ServiceCreate): void {
  for (const one of [name, functionName])
    if (!owns(token, one))
      throw new SkiffError('FORBIDDEN', `"${one}" is not of the namespace of this token`);
  if (namespaceOf(name) !== namespaceOf(functionName))
    throw new SkiffError('INVALID_CONFIG', `"${name}" and "${functionName}" are not of the same namespace`);
}

async function createService(parts: GatewayParts, body: ServiceCreate): Promise<Service> {
  const { name, deployment, update, rollback, ...rest } = body;
  if (rest.mode === 'global' && rest.replicas !== undefined)
    throw new SkiffError(
      'INVALID_CONFIG',
      'a global service has one replica on each node; leave the number of replicas out',
    );
  const now = Date.now();
  const asked = ServiceSpec.parse({
    ...rest,
    update: update ?? {},
    ...(rollback && { rollback }),
    deployment: await chooseDeployment(parts, body.functionName, deployment),
  });
  const spec = await withVolumes(parts, name, asked);
  return { id: createId('svc', now), name, createdMs: now, updatedMs: now, version: 1, spec };
}

async function changeService(parts: GatewayParts, service: Service, body: ServiceUpdate): Promise<Service> {
  const { update, rollback, deployment, force = false, ...rest } = body;
  const { spec } = service;
  const asked = ServiceSpec.parse({
    ...spec,
    ...rest,
    revision: spec.revision + (force ? 1 : 0),
    update: { ...spec.update, ...update },
    ...(rollback && { rollback: { ...spec.rollback, ...rollback } }),
    deployment:
      deployment === undefined
        ? spec.deployment
        : await chooseDeployment(parts, spec.functionName, deployment),
  });
  const changed = await withVolumes(parts, service.name, asked);
  if (changed.mode === 'global' && rest.replicas !== undefined)
    throw new SkiffError(
      'INVALID_CONFIG',
      'a global service has one replica on each node; it cannot be scaled',
    );
  const isRollout = force || changed.deployment !== spec.deployment;
  return {
    ...service,
    spec: changed,
    ...(isRollout
      ? {
          previousSpec: spec,
          updateStatus: {
            state: 'updating',
            startedMs: parts.swarm.clock.now(),
            message: force ? 'forced' : `to ${changed.deployment}`,
          },
        }
      : {}),
  };
}

/** An id, `latest`, or (absent) what is live. @throws SkiffError FUNCTION_NOT_FOUND, NOT_FOUND */
async function chooseDeployment(
  { catalog }: GatewayParts,
  functionName: string,
  wanted: string | undefined,
): Promise<string> {
  const entry = await catalog.getFunction(functionName);
  if (!entry)
    throw new SkiffError(
      'FUNCTION_NOT_FOUND',
      `there is no function "${functionName}" to run replicas of; an image becomes one: skiff deploy --image <reference> --name ${functionName}`,
    );
  const live = entry.aliases.find(({ name }) => name === 'live')?.targets[0]?.deployment;
  const id = wanted === undefined ? live : wanted === 'latest' ? entry.deployments[0] : wanted;
  if (id !== undefined && entry.deployments.includes(id)) return id;
  throw new SkiffError(
    'NOT_FOUND',
    `function "${functionName}" has no deployment ${id ?? 'that is live'}; see \`skiff versions ${functionName}\``,
  );
}

async function describeServices(parts: GatewayParts, services: readonly Service[]): Promise<ServiceState[]> {
  const nodes = await readLiveNodes(parts.fast);
  const replicas = await readReplicas(parts.fast, nodes);
  return Promise.all(
    services.map(async (service) => {
      const own = replicas.filter((replica) => replica.service === service.name);
      const deployment = await parts.catalog.getDeployment(service.spec.deployment);
      const pins = await pinToVolumes(parts.swarm.volumes, deployment);
      const plan = planService({
        service,
        replicas: own,
        pending: [],
        nodes,
        memoryBytes: deployment?.config.memory ?? 0,
        constraints: [...(deployment?.config.constraints ?? []), ...pins],
        load: new Map(),
        nowMs: parts.swarm.clock.now(),
      });
      const lack =
        plan.message && `${plan.message}${pins.length > 0 ? `; its volumes want ${pins.join(' and ')}` : ''}`;
      const message = lack ?? (plan.settled < plan.desired ? describeFailure(own) : undefined);
      return {
        service,
        replicas: own.toSorted((a, b) => a.slot - b.slot || a.sinceMs - b.sinceMs),
        desired: plan.desired,
        running: plan.settled,
        serving: plan.serving,
        ...(message === undefined ? {} : { message }),
        url: functionUrl(parts.publicUrl, service.name),
      };
    }),
  );
}

function describeFailure(replicas: readonly Replica[]): string | undefined {
  const failed = replicas.findLast(({ state }) => state === 'failed');
  return failed && `replica ${failed.slot} failed on ${failed.node}: ${failed.message ?? 'no reason given'}`;
}
