/** What a service that is a function asks for: where its source is, and its configuration. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { SkiffError } from '../protocol/errors.ts';
import { describeIssues, FunctionConfig, FunctionName } from '../protocol/manifest.ts';
import { ScheduleInput, type ScheduleRequest } from '../protocol/workflow/schedules.ts';
import { invalid, isMapValue } from './document/yaml-file.ts';
import { readImageFiles } from './image-files.ts';
import { isImage, kindOf, tryFindContainerfile } from './kind.ts';
import type { Project, Service } from './model.ts';
import { readVolumes } from './volumes.ts';
import { createReplicasWish, portOf, readyPathOf, type ReplicasWish } from './service-wish.ts';

export interface FunctionWish {
  readonly service: string;
  /** Name on the server. */
  readonly name: string;
  /** Absolute folder or file; undefined when it is an image. */
  readonly source?: string;
  readonly image?: string;
  readonly entry?: string;
  /** When it runs by the clock, by what stands behind `-cron` in the name of the schedule. */
  readonly schedules: Readonly<Record<string, ScheduleWish>>;
  /** As a deploy sends it: checked, without defaults. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Of a service that is no function: replicas of it to be kept, and the name under which they are reached. */
  readonly replicas?: ReplicasWish & { readonly name: string };
}

/** Exactly one of `cron`, `every` (milliseconds) and `at`, and how; checked. */
export type ScheduleWish = Readonly<Omit<ScheduleRequest, 'function'>>;

export const ApplicationLabel = {
  project: 'dev.skiff.application',
  service: 'dev.skiff.service',
  /** Of everything that a deploy would send: equal hashes need no deploy. */
  hash: 'dev.skiff.hash',
} as const;

/** The function whose deployments a service runs. */
const CODE_SUFFIX = '-code';

const Own = z.looseObject({
  name: FunctionName.optional(),
  entry: z.string().optional(),
  source: z.string().optional(),
  schedule: z.unknown().optional(),
});

/** Leaves room for the suffix. */
const NAME_CHARS_MAX = 58;

/** The name by which a member of an application is known on the server. */
export function memberName(project: Pick<Project, 'name' | 'namespace'>, service: Service): string {
  const { namespace } = project;
  return namespace === undefined ? bareName(project, service) : `${namespace}.${bareName(project, service)}`;
}

function bareName({ name, namespace = '' }: Pick<Project, 'name' | 'namespace'>, service: Service): string {
  const given = service.functionOptions?.['name'] ?? service.provider?.options['name']?.[0];
  if (typeof given === 'string') return given;
  const text = `${name}-${service.name}`.toLowerCase().replaceAll(/[^a-z0-9-]+/g, '-');
  return text
    .replace(/^[^a-z]+/, '')
    .slice(0, NAME_CHARS_MAX - namespace.length)
    .replace(/-+$/, '');
}

/** @throws SkiffError INVALID_CONFIG */
export function createFunctionWish(project: Project, service: Service): FunctionWish {
  const path = `services.${service.name}`;
  const isService = kindOf(service) === 'service';
  const options = isService ? optionsOf(service) : { ...fromProvider(service), ...service.functionOptions };
  const own = Own.safeParse(options);
  const key = isService ? 'x-skiff-service' : 'x-skiff-function';
  if (!own.success) throw invalid(describeIssues(own.error, `${path}.${key}`));
  const { name: _name, source: given, schedule, ...settings } = own.data;
  const entry = settings.entry ?? tryFindContainerfile(service);
  delete settings.entry;
  const member = memberName(project, service);
  // Both names are one space on a server; people call the service.
  const name = isService ? `${member}${CODE_SUFFIX}` : member;
  if (!FunctionName.safeParse(name).success)
    throw invalid(
      `${path}: no name of a function can be made of "${service.name}"; give one: x-skiff-function.name`,
    );
  const source = given === undefined ? service.build?.context : resolve(project.folder, given);
  if (source === undefined && service.image === undefined)
    throw invalid(`${path}: build (the folder of its source) or image is needed`);
  const config = createConfig(project, service, settings);
  const checked = FunctionConfig.safeParse(config);
  if (!checked.success) throw new SkiffError('INVALID_CONFIG', describeIssues(checked.error, path));
  return {
    service: service.name,
    name,
    ...(source === undefined ? { image: service.image as string } : { source }),
    ...(entry === undefined ? {} : { entry }),
    schedules: readSchedules(`${path}.${key}.schedule`, schedule),
    config,
    ...(isService ? { replicas: { ...createReplicasWish(service), name: member } } : {}),
  };
}

/** Settings that compose has no words for: its network, time-outs, concurrency. */
function optionsOf({ name, raw }: Service): Record<string, unknown> {
  const options = raw['x-skiff-service'] ?? {};
  if (isMapValue(options)) return options;
  throw invalid(`services.${name}.x-skiff-service must be a mapping such as { network: internet }`);
}

/** `provider: { type: skiff, options: { memory: 512MB, env: [A=b] } }` says the same in docker compose's words. */
function fromProvider({ name, provider }: Service): Record<string, unknown> {
  if (!provider) return {};
  const entries = Object.entries(provider.options).map(([key, values]): [string, unknown] => {
    if (key === 'env') return [key, Object.fromEntries(values.map((text) => splitAssignment(name, text)))];
    return [key, values.length === 1 ? values[0] : values];
  });
  return Object.fromEntries(entries);
}

function splitAssignment(service: string, text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw invalid(`services.${service}.provider.options.env: "${text}" is not NAME=value`);
}

/** `'0 3 * * *'`, `{ every: 30s, overlap: allow }`, or several of them by a name. */
function readSchedules(path: string, value: unknown): Record<string, ScheduleWish> {
  if (value === undefined) return {};
  if (typeof value === 'string') return { '': checkSchedule(path, { cron: value }) };
  if (!isMapValue(value))
    throw invalid(`${path} must be a cron expression or a mapping such as { every: 5m }`);
  if (['cron', 'every', 'at'].some((key) => key in value)) return { '': checkSchedule(path, value) };
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [
      `-${key}`,
      checkSchedule(`${path}.${key}`, typeof one === 'string' ? { cron: one } : one),
    ]),
  );
}

const ScheduleOptions = ScheduleInput.omit({ function: true });

function checkSchedule(path: string, value: unknown): ScheduleWish {
  const checked = ScheduleOptions.safeParse(value);
  if (!checked.success) throw invalid(describeIssues(checked.error, path));
  // What was not said is left to the server; what was said is sent as it was understood.
  const said = Object.entries(checked.data).filter(([key]) => key in (value as object));
  return Object.fromEntries(said) as ScheduleWish;
}

/** The service's own keys first; x-skiff-function wins over them. */
function createConfig(
  project: Project,
  service: Service,
  settings: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const { memory, cpus, replicas, constraints } = service.deploy;
  const { env, labels, calls, ...rest } = settings as {
    env?: object;
    labels?: object;
    calls?: unknown;
    async?: unknown;
    build?: unknown;
  };
  const declared = declareCalls(project, service, calls);
  const isService = kindOf(service) === 'service';
  const readyPath = readyPathOf(service);
  const started = describeStart(project, service);
  const builds = [started['build'], rest['build']].filter(isMapValue);
  return {
    ...(memory === undefined ? {} : { memory: typeof memory === 'number' ? memory : String(memory) }),
    ...(cpus === undefined ? {} : { cpu: cpus }),
    ...(replicas === undefined || isService
      ? {}
      : { min: replicas.min, ...(replicas.isRange ? { max: replicas.max } : {}) }),
    ...(readyPath === undefined || !isService ? {} : { readyPath }),
    ...started,
    ...(constraints.length === 0 ? {} : { constraints }),
    ...(service.secrets.length === 0 ? {} : { secrets: service.secrets.map(({ source }) => source) }),
    ...(declared.length === 0 ? {} : { calls: declared }),
    ...rest,
    ...(builds.length === 2 && { build: Object.assign({}, ...builds) as object }),
    ...(isMapValue(rest.async) && { async: nameDestinations(project, rest.async) }),
    env: { ...service.env, ...env },
    labels: {
      ...service.labels,
      ...labels,
      [ApplicationLabel.project]: project.name,
      [ApplicationLabel.service]: service.name,
    },
  };
}

/** What an image is started with; support.ts has refused it for what is no image. */
function describeStart(project: Project, service: Service): Record<string, unknown> {
  const { entrypoint, command } = service;
  const port = portOf(service);
  const build = describeBuild(service);
  const files = isImage(service) ? readImageFiles(project, service) : undefined;
  const volumes = isImage(service) ? readVolumes(project, service) : undefined;
  return {
    ...(entrypoint?.length ? { entrypoint } : {}),
    ...(command?.length ? { command } : {}),
    ...(port === undefined ? {} : { port }),
    ...(build && { build }),
    ...(files && { files }),
    ...(volumes && { volumes }),
  };
}

/** What a Containerfile is told. */
function describeBuild(service: Service): Record<string, unknown> | undefined {
  const { args = {}, target } = service.build ?? {};
  const given = Object.entries(args).flatMap(([name, value]) =>
    value === null ? [] : [[name, String(value)]],
  );
  if (tryFindContainerfile(service) === undefined || (given.length === 0 && target === undefined))
    return undefined;
  return {
    ...(given.length > 0 && { args: Object.fromEntries(given) as Record<string, string> }),
    ...(target === undefined ? {} : { target }),
  };
}

/** Destinations among the members are named by their services, too. */
function nameDestinations(
  project: Project,
  settings: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => {
      const named = isMapValue(value) ? value['function'] : undefined;
      const member = project.services.find(({ name }) => name === named);
      return [key, member ? { ...(value as object), function: memberName(project, member) } : value];
    }),
  );
}

/**
 * Members of the application are called by the names of their services, whatever they are called on the server. What a
 * service depends on it may call; others it declares.
 */
function declareCalls(project: Project, service: Service, given: unknown): string[] {
  const own = Array.isArray(given) ? given.map(String) : given === undefined ? [] : [String(given)];
  const names = [...own, ...Object.keys(service.dependsOn)];
  const declared = names.map((text) => {
    const member = project.services.find(({ name }) => name === text);
    return member && !text.includes('=') ? `${member.name}=${memberName(project, member)}` : text;
  });
  return [...new Set(declared)];
}
