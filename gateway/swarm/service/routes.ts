/**
 * Where calls of a service go: to the deployments whose replicas run, by their number. Invariant: of a slot that has
 * an old and a new replica only the new one counts, so that an old one gets nothing more and can be ended.
 */
import type { Redis } from 'ioredis';
import type { Deployment, NodeRecord } from '../../../sdk/protocol/api.ts';
import type { Replica, Service } from '../../../sdk/protocol/swarm/resources.ts';
import type { Catalog } from '../../../infra/catalog/catalog.ts';
import type { RouteEntry } from '../../../infra/catalog/functions.ts';
import { replicaDeployment } from '../../../infra/contract/jobs.ts';
import type { Services } from '../../../infra/swarm/services.ts';
import { readLiveNodes } from '../nodes.ts';
import { readReplicas } from './reconciler.ts';

interface ServiceRoutesOptions {
  readonly services: Pick<Services, 'get'>;
  readonly fast: Redis;
  readNodes(): Promise<NodeRecord[]>;
  getDeployment(id: string): Promise<Deployment | undefined>;
}

/** Of a name that may be a function's or, if there is none, a service's. */
export function createRouteResolver(
  catalog: Pick<Catalog, 'resolveRoute' | 'getDeployment'>,
  services: ServiceRoutesOptions['services'],
  fast: Redis,
): (name: string) => Promise<RouteEntry | undefined> {
  const options: ServiceRoutesOptions = {
    services,
    fast,
    readNodes: () => readLiveNodes(fast),
    getDeployment: (id) => catalog.getDeployment(id),
  };
  return async (name) => (await catalog.resolveRoute(name)) ?? (await resolveServiceRoute(options, name));
}

/** Undefined when there is no such service. */
async function resolveServiceRoute(
  options: ServiceRoutesOptions,
  name: string,
): Promise<RouteEntry | undefined> {
  const service = await options.services.get(name);
  if (!service) return undefined;
  const replicas = await readReplicas(options.fast, await options.readNodes());
  const weights = weighDeployments(
    service,
    replicas.filter((replica) => replica.service === name),
  );
  const targets = [];
  for (const [id, weight] of weights) {
    const deployment = await options.getDeployment(id);
    if (deployment) targets.push({ weight, deployment: asReplica(deployment, service) });
  }
  if (targets.length === 0) return undefined;
  const alias = {
    name,
    version: service.version,
    updatedMs: service.updatedMs,
    targets: targets.map(({ weight, deployment }) => ({ weight, deployment: deployment.id })),
  };
  const { mode, replicas: wanted } = service.spec;
  const isOff = mode === 'replicated' && wanted === 0;
  return {
    name,
    alias,
    targets,
    ...(isOff && { refusal: `service "${name}" has no replicas; start some: skiff service scale ${name}=1` }),
  };
}

/** One or two deployments with weights that sum to 100. Without a running replica: the wanted one, whose calls wait. */
export function weighDeployments(service: Service, replicas: readonly Replica[]): [string, number][] {
  const wanted = service.spec.deployment;
  const slots = new Map<string, Replica>();
  for (const replica of replicas) {
    if (replica.state !== 'running') continue;
    const key = service.spec.mode === 'global' ? replica.node : String(replica.slot);
    if (replica.deployment === wanted || !slots.has(key)) slots.set(key, replica);
  }
  const counts = new Map<string, number>();
  for (const { deployment } of slots.values()) counts.set(deployment, (counts.get(deployment) ?? 0) + 1);
  const [first, second] = [...counts].toSorted(([, a], [, b]) => b - a);
  if (first === undefined) return [[wanted, 100]];
  if (second === undefined) return [[first[0], 100]];
  const share = Math.round((first[1] * 100) / (first[1] + second[1]));
  return [
    [first[0], share],
    [second[0], 100 - share],
  ];
}

/** The reconciler alone starts replicas: calls never do, hence no sandbox more than none. */
function asReplica(deployment: Deployment, service: Service): Deployment {
  return {
    ...deployment,
    id: replicaDeployment(deployment.id, service.name),
    config: { ...deployment.config, min: 0, max: 0 },
  };
}
