/**
 * Applications in the Compose Specification: reads compose files into one Project.
 *
 * Owns: finding the files, interpolation, merging, extends, include, profiles, order of dependencies. Invariant:
 * nothing is left out silently: what is not in the specification is an error, what Skiff does not do is told by
 * support.ts. Deliberately absent: deploying anything (sdk/cli/application), and any network.
 */
import { basename, dirname, resolve } from 'node:path';
import type { Variables } from './document/interpolate.ts';
import { invalid, isMapValue, type YamlMap } from './document/yaml-file.ts';
import { chooseFiles } from './load/file-set.ts';
import { readFiles, readVariables } from './load/read.ts';
import { createService } from './load/service.ts';
import type { Grantable, Project, Resource, Service } from './model.ts';

export interface LoadOptions {
  readonly cwd: string;
  /** The caller's environment; wins over files of variables. */
  readonly env: Variables;
  /** `-f`; absent: found by name. */
  readonly files?: readonly string[];
  readonly projectName?: string | undefined;
  /** Of its members on the server. */
  readonly namespace?: string | undefined;
  readonly profiles?: readonly string[];
  /** Names of services; absent: all of the active profiles. Their dependencies come along. */
  readonly services?: readonly string[];
  /** Instead of the `.env` of the application's folder. */
  readonly envFiles?: readonly string[];
  readonly isInterpolated?: boolean;
}

/** @throws SkiffError INVALID_CONFIG */
export function loadProject(options: LoadOptions): Project {
  const { cwd, env } = options;
  const files = chooseFiles(cwd, options.files ?? [], env);
  const folder = dirname(files[0] as string);
  const envFiles = (options.envFiles ?? []).map((file) => resolve(cwd, file));
  const ofFiles =
    envFiles.length > 0 ? readVariables(envFiles, true) : readVariables([resolve(folder, '.env')], false);
  const known = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined));
  const variables: Record<string, string | undefined> = { ...ofFiles, ...known };
  const asked = options.projectName ?? variables['COMPOSE_PROJECT_NAME'];
  const notes = new Set<string>();
  const merged = readFiles(files, folder, {
    cwd,
    variables: asked === undefined ? variables : { ...variables, COMPOSE_PROJECT_NAME: asked },
    isInterpolated: options.isInterpolated ?? true,
    onNote: (note) => notes.add(note),
  });
  const name = toProjectName(asked ?? (merged['name'] as string | undefined) ?? basename(folder));
  const all = readServices(merged, variables);
  const profiles = options.profiles ?? variables['COMPOSE_PROFILES']?.split(',').filter(Boolean) ?? [];
  const active = selectServices(all, profiles, options.services ?? []);
  const services = sortByDependency(active);
  checkReferences(services, merged);
  return {
    name,
    ...(options.namespace !== undefined && { namespace: options.namespace }),
    folder,
    files,
    services,
    inactive: [...all.keys()].filter((one) => !active.has(one)),
    networks: read<Resource | null>(merged, 'networks'),
    volumes: read<Resource | null>(merged, 'volumes'),
    secrets: read<Grantable>(merged, 'secrets'),
    configs: read<Grantable>(merged, 'configs'),
    notes: [...notes],
  };
}

function toProjectName(text: string): string {
  const name = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]+/g, '')
    .replace(/^[^a-z0-9]+/, '');
  if (name === '') throw invalid(`no project name can be made of "${text}"; give one: -p name`);
  return name;
}

function read<Value>(merged: YamlMap, key: string): Record<string, Value> {
  return (merged[key] ?? {}) as Record<string, Value>;
}

function readServices(merged: YamlMap, variables: Variables): Map<string, Service> {
  const services = Object.entries(read<unknown>(merged, 'services'));
  if (services.length === 0) throw invalid('there are no services in it');
  return new Map(
    services.map(([name, raw]) => {
      if (isMapValue(raw)) return [name, createService(name, raw, variables)];
      throw invalid(`services.${name} is empty`);
    }),
  );
}

/** Profiles turn services on; a name on the command line turns one on whatever its profile, with what it needs. */
function selectServices(
  all: ReadonlyMap<string, Service>,
  profiles: readonly string[],
  names: readonly string[],
): Map<string, Service> {
  const isActive = (service: Service): boolean =>
    service.profiles.length === 0 ||
    profiles.includes('*') ||
    service.profiles.some((profile) => profiles.includes(profile));
  for (const name of names) {
    if (!all.has(name))
      throw invalid(`there is no service "${name}"; there are ${[...all.keys()].join(', ')}`);
  }
  const roots = names.length > 0 ? names : [...all.values()].filter(isActive).map(({ name }) => name);
  const selected = new Map<string, Service>();
  const visit = (name: string, from: Service | undefined): void => {
    const service = all.get(name);
    const isWanted = service !== undefined && (from === undefined || isActive(service) || names.length > 0);
    if (!isWanted) {
      if (from?.dependsOn[name]?.required === false) return;
      const why =
        service === undefined
          ? 'which does not exist'
          : `whose profile (${service.profiles.join(', ')}) is not active`;
      throw invalid(`services.${from?.name}.depends_on names "${name}", ${why}`);
    }
    if (selected.has(name)) return;
    selected.set(name, service);
    for (const dependency of Object.keys(service.dependsOn)) visit(dependency, service);
  };
  for (const name of roots) visit(name, undefined);
  return selected;
}

/** Dependencies first; otherwise as they stand in the file. @throws on a cycle, and shows it */
function sortByDependency(services: ReadonlyMap<string, Service>): Service[] {
  const sorted: Service[] = [];
  const visit = (name: string, trail: readonly string[]): void => {
    const service = services.get(name);
    if (service === undefined || sorted.includes(service)) return;
    if (trail.includes(name))
      throw invalid(`services depend on each other: ${[...trail, name].join(' -> ')}`);
    for (const dependency of Object.keys(service.dependsOn)) visit(dependency, [...trail, name]);
    sorted.push(service);
  };
  for (const name of services.keys()) visit(name, []);
  return sorted;
}

/** What a service names must be there. */
function checkReferences(services: readonly Service[], merged: YamlMap): void {
  for (const service of services) {
    const check = (kind: string, names: readonly (string | undefined)[]): void => {
      const known = read<unknown>(merged, kind);
      for (const name of names) {
        if (name === undefined || Object.hasOwn(known, name)) continue;
        if (kind === 'networks' && name === 'default') continue;
        throw invalid(`services.${service.name}.${kind} names "${name}", which is not under ${kind}`);
      }
    };
    check('networks', service.networks);
    check(
      'volumes',
      service.volumes.filter(({ type }) => type === 'volume').map(({ source }) => source),
    );
    check(
      'secrets',
      service.secrets.map(({ source }) => source),
    );
    check(
      'configs',
      service.configs.map(({ source }) => source),
    );
  }
}
