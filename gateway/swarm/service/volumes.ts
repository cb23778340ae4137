/**
 * Volumes of services: where they are decides where a service runs. Invariant: a service with volumes has one replica,
 * whose successor starts after its end, and no volume belongs to two services.
 */
import type { Volumes } from '../../../infra/swarm/volumes.ts';
import type { Deployment, NodeRecord } from '../../../sdk/protocol/api.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { resolveName } from '../../../sdk/protocol/reach/namespaces.ts';
import type { Service, ServiceSpec } from '../../../sdk/protocol/swarm/resources.ts';
import type { GatewayParts } from '../../parts.ts';

/** Whole names. */
export function volumesOf({ config, functionName }: Pick<Deployment, 'config' | 'functionName'>): string[] {
  return (config.volumes ?? []).map(({ name }) => resolveName(name, functionName));
}

/** Constraints that hold only where the volumes are; none for those that nobody has used yet. */
export async function pinToVolumes(
  volumes: Pick<Volumes, 'get'>,
  deployment: Deployment | undefined,
): Promise<string[]> {
  const records = await Promise.all(
    (deployment ? volumesOf(deployment) : []).map((name) => volumes.get(name)),
  );
  return [...new Set(records.flatMap((record) => (record ? [`node.id==${record.node}`] : [])))];
}

/**
 * The specification as it must be with what its deployment mounts.
 * @throws SkiffError INVALID_CONFIG for more than one replica, CONFLICT when another service has one of the volumes
 */
export async function withVolumes(
  parts: GatewayParts,
  name: string,
  spec: ServiceSpec,
): Promise<ServiceSpec> {
  const deployment = await parts.catalog.getDeployment(spec.deployment);
  const own = deployment ? volumesOf(deployment) : [];
  if (own.length === 0) return spec;
  if (spec.mode !== 'replicated' || spec.replicas > 1)
    throw new SkiffError(
      'INVALID_CONFIG',
      `service "${name}" has volumes (${own.join(', ')}), so it has one replica: two would write the same files`,
    );
  for (const [volume, service] of await findUsers(parts))
    if (own.includes(volume) && service !== name)
      throw new SkiffError(
        'CONFLICT',
        `the volume "${volume}" is used by the service "${service}"; name another one`,
      );
  const { rollback } = spec;
  return {
    ...spec,
    update: { ...spec.update, order: 'stop-first' },
    ...(rollback && { rollback: { ...rollback, order: 'stop-first' } }),
  };
}

/** Service by whole name of a volume. */
export async function findUsers({ catalog, swarm }: GatewayParts): Promise<Map<string, string>> {
  const users = new Map<string, string>();
  for (const { name, spec } of (await swarm.services.list()) as Service[]) {
    const deployment = await catalog.getDeployment(spec.deployment);
    for (const volume of deployment ? volumesOf(deployment) : []) users.set(volume, name);
  }
  return users;
}

/** A start that began before a volume was to be removed has made its file by then, or has failed. */
const REMOVED_MS = 2_000;

/** Forgets volumes whose node says that it has them no more. */
export async function dropRemoved(
  volumes: Pick<Volumes, 'list' | 'drop'>,
  nodes: readonly NodeRecord[],
): Promise<void> {
  for (const volume of await volumes.list()) {
    const node = nodes.find(({ id }) => id === volume.node);
    if (volume.removedMs === undefined || node?.volumes === undefined) continue;
    const isHeard = node.heartbeatMs > volume.removedMs + REMOVED_MS;
    if (isHeard && !Object.hasOwn(node.volumes, volume.id)) await volumes.drop(volume);
  }
}
