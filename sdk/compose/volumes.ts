/**
 * Volumes of an application: what is kept (named volumes), and what cannot be mounted. Folders and files that are bound
 * read-only are no volumes but files of the image: image-files.ts.
 */
import { tryParseBytes } from '../protocol/units.ts';
import { VOLUME_BYTES_MAX, VOLUME_BYTES_MIN } from '../protocol/limits.ts';
import { isReadOnlyBind } from './image-files.ts';
import { kindOf } from './kind.ts';
import type { Mount, Project, Resource, Service } from './model.ts';

type Say = (path: string, reason: string) => void;
type Definitions = Project['volumes'];

export interface VolumeWish {
  readonly name: string;
  readonly target: string;
  readonly size?: string;
}

const isNamed = ({ type, source }: Mount): boolean => type === 'volume' && source !== undefined;

/** By its own name, or by that of the application and that of the file. Without the namespace. */
export function volumeName(project: Pick<Project, 'name' | 'volumes'>, key: string): string {
  const { name, external } = project.volumes[key] ?? {};
  if (name !== undefined) return name;
  if (external) return key;
  return `${project.name}-${key}`
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replace(/^[^a-z]+/, '');
}

/** Undefined for none. */
export function readVolumes(project: Project, service: Service): VolumeWish[] | undefined {
  const named = service.volumes.filter(isNamed);
  if (named.length === 0) return undefined;
  return named.map(({ source = '', target }) => {
    const size = sizeOf(project.volumes[source]);
    return { name: volumeName(project, source), target, ...(size !== undefined && { size }) };
  });
}

/** Those that are this application's alone: external ones are somebody else's. */
export function ownVolumes(project: Project): string[] {
  return Object.entries(project.volumes).flatMap(([key, resource]) =>
    resource?.external ? [] : [volumeName(project, key)],
  );
}

function sizeOf(resource: Resource | null | undefined): string | undefined {
  const size = (resource?.['driver_opts'] as Record<string, unknown> | undefined)?.['size'];
  return size === undefined ? undefined : String(size);
}

/** What is bound read-only is sent along; what has a name is kept. */
export function checkVolumes(service: Service, services: readonly Service[], refuse: Say, pass: Say): void {
  for (const mount of service.volumes) {
    if (isReadOnlyBind(mount)) continue;
    const { type, target, source } = mount;
    if (type === 'tmpfs' && target === '/tmp') pass('volumes', '/tmp is always in memory, with a limit');
    else if (type === 'bind')
      refuse(
        'volumes',
        `${target}: bind it read-only (:ro), or use a named volume; sandboxes change nothing of a host`,
      );
    else if (type !== 'volume')
      refuse('volumes', `${target}: only /tmp is in memory, and volumes have a name`);
    else if (source === undefined) refuse('volumes', `${target}: give the volume a name: data:${target}`);
    else checkNamed(service, services, mount, refuse);
  }
}

function checkNamed(
  service: Service,
  services: readonly Service[],
  { target, source, readOnly }: Mount,
  refuse: Say,
): void {
  const { replicas, mode } = service.deploy;
  const other = services.find(
    (one) =>
      one.name !== service.name && one.volumes.some((mount) => isNamed(mount) && mount.source === source),
  );
  if (kindOf(service) === 'function')
    refuse(
      'volumes',
      `${target}: a function’s sandboxes come and go; make it a service, or use a store elsewhere`,
    );
  else if (readOnly)
    refuse('volumes', `${target}: a volume has one user, who writes it; leave out read_only`);
  else if (other)
    refuse('volumes', `${target}: the volume "${source}" is of ${other.name} already, and has one user`);
  else if (mode === 'global' || (replicas?.max ?? 1) > 1)
    refuse('volumes', `${target}: a service with a volume has one replica; two would write the same files`);
}

/** What stands under `volumes` of the file. */
export function checkDefinitions(definitions: Definitions, refuse: Say, pass: Say): void {
  for (const [key, resource] of Object.entries(definitions)) {
    const { driver, labels } = resource ?? {};
    const options = (resource?.['driver_opts'] ?? {}) as Record<string, unknown>;
    if (driver !== undefined && driver !== 'local')
      refuse(`volumes.${key}.driver`, `there is no driver but "local"; volumes are on a node's disk`);
    for (const name of Object.keys(options))
      if (name !== 'size')
        refuse(`volumes.${key}.driver_opts.${name}`, 'only size can be said, such as size: 5GB');
    const bytes = options['size'] === undefined ? undefined : tryParseBytes(String(options['size']));
    if (
      options['size'] !== undefined &&
      (bytes === undefined || bytes < VOLUME_BYTES_MIN || bytes > VOLUME_BYTES_MAX)
    )
      refuse(`volumes.${key}.driver_opts.size`, 'a size is from 16MB to 1TB');
    if (labels !== undefined) pass(`volumes.${key}.labels`, 'volumes have no labels');
  }
}
