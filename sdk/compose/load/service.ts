/** One merged service as the model has it: numbers are numbers, files of variables are read, defaults are filled in. */
import { existsSync, readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { tryParseMs } from '../../protocol/units.ts';
import type { Variables } from '../document/interpolate.ts';
import { invalid, isMapValue, type YamlMap } from '../document/yaml-file.ts';
import type { Build, Dependency, Deploy, Grant, Healthcheck, Mount, Port, Service } from '../model.ts';

export function createService(name: string, raw: YamlMap, variables: Variables): Service {
  const options = raw['x-skiff-function'];
  const provider = raw['provider'] as { type: string; options?: YamlMap } | undefined;
  return {
    name,
    ...pick(raw, 'image', (value) => String(value)),
    ...pick(raw, 'build', (value) => value as Build),
    ...pick(raw, 'command', (value) => (value as unknown[]).map(String)),
    ...pick(raw, 'entrypoint', (value) => (value as unknown[]).map(String)),
    env: readEnv(name, raw, variables),
    ports: listOf<YamlMap>(raw['ports']).map(toPort),
    expose: listOf<unknown>(raw['expose']).map(String),
    dependsOn: mapEach(raw['depends_on'], (value): Dependency => {
      const { condition, required = true } = value as {
        condition: Dependency['condition'];
        required?: unknown;
      };
      return { condition, required: isTrue(required) };
    }),
    ...pick(raw, 'healthcheck', (value) => toHealthcheck(name, value as YamlMap)),
    secrets: listOf<YamlMap>(raw['secrets']).map(toGrant),
    configs: listOf<YamlMap>(raw['configs']).map(toGrant),
    networks: isMapValue(raw['networks']) ? Object.keys(raw['networks']) : [],
    volumes: listOf<YamlMap>(raw['volumes']).map(toMount),
    deploy: toDeploy(raw),
    labels: mapEach(raw['labels'], (value) => (value === null ? '' : String(value))),
    profiles: listOf<unknown>(raw['profiles']).map(String),
    ...(provider && {
      provider: {
        type: provider.type,
        options: mapEach(provider.options, (value) => [value].flat().map(String)),
      },
    }),
    ...(options !== undefined && { functionOptions: toFunctionOptions(name, options) }),
    raw,
  };
}

function pick<Key extends string, Value>(
  raw: YamlMap,
  key: Key,
  convert: (value: unknown) => Value,
): { [key in Key]?: Value } {
  const value = raw[key];
  return (value === undefined || value === null ? {} : { [key]: convert(value) }) as { [key in Key]?: Value };
}

function listOf<Item>(value: unknown): Item[] {
  return Array.isArray(value) ? (value as Item[]) : [];
}

function mapEach<Value>(value: unknown, convert: (value: unknown) => Value): Record<string, Value> {
  if (!isMapValue(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, convert(item)]));
}

function isTrue(value: unknown): boolean {
  return value === true || value === 'true';
}

/** `NAME` without a value is the caller's, and is left out when the caller has none. */
function readEnv(name: string, raw: YamlMap, variables: Variables): Record<string, string> {
  const env: Record<string, string> = {};
  for (const { path, required } of listOf<{ path: string; required: unknown }>(raw['env_file'])) {
    if (!existsSync(path)) {
      if (!isTrue(required)) continue;
      throw invalid(`services.${name}.env_file: ${path} does not exist`);
    }
    Object.assign(env, parseEnv(readFileSync(path, 'utf8')));
  }
  for (const [key, value] of Object.entries((raw['environment'] ?? {}) as YamlMap)) {
    const known = value === null ? variables[key] : String(value);
    if (known !== undefined) env[key] = known;
  }
  return env;
}

function toPort({ target, published, host_ip: ip, protocol }: YamlMap): Port {
  return {
    target: Number(target),
    protocol: String(protocol ?? 'tcp'),
    ...(published === undefined ? {} : { published: String(published) }),
    ...(ip === undefined ? {} : { host_ip: String(ip) }),
  };
}

function toGrant({ source, target, uid, gid, mode }: YamlMap): Grant {
  return {
    source: String(source),
    ...(target === undefined ? {} : { target: String(target) }),
    ...(uid === undefined ? {} : { uid: String(uid) }),
    ...(gid === undefined ? {} : { gid: String(gid) }),
    ...(mode === undefined
      ? {}
      : { mode: typeof mode === 'string' ? Number.parseInt(mode, 8) : Number(mode) }),
  };
}

function toMount({ type, source, target, read_only: readOnly }: YamlMap): Mount {
  return {
    type: String(type),
    target: String(target),
    readOnly: isTrue(readOnly),
    ...(source === undefined ? {} : { source: String(source) }),
  };
}

function toHealthcheck(name: string, raw: YamlMap): Healthcheck {
  const ms = (key: string): number | undefined => {
    const value = raw[key];
    if (value === undefined) return undefined;
    const parsed = tryParseMs(String(value));
    if (parsed === undefined)
      throw invalid(`services.${name}.healthcheck.${key}: "${String(value)}" is not a duration`);
    return parsed;
  };
  const numbers = { intervalMs: ms('interval'), timeoutMs: ms('timeout'), startPeriodMs: ms('start_period') };
  const test = raw['test'] as string[] | undefined;
  return {
    disable: isTrue(raw['disable']) || test?.[0] === 'NONE',
    ...(test && { test }),
    ...(raw['retries'] === undefined ? {} : { retries: Number(raw['retries']) }),
    ...(Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined)) as object),
  };
}

function toDeploy(service: YamlMap): Deploy {
  const raw = (service['deploy'] ?? {}) as YamlMap;
  const limits = ((raw['resources'] as YamlMap | undefined)?.['limits'] ?? {}) as YamlMap;
  const memory = limits['memory'] ?? service['mem_limit'];
  const cpus = limits['cpus'] ?? service['cpus'];
  const replicas = raw['replicas'] ?? service['scale'];
  const constraints = ((raw['placement'] as YamlMap | undefined)?.['constraints'] ?? []) as unknown[];
  return {
    ...(raw['mode'] === undefined ? {} : { mode: String(raw['mode']) }),
    ...(replicas === undefined ? {} : { replicas: toRange(String(replicas)) }),
    ...(memory === undefined ? {} : { memory: memory as string | number }),
    ...(cpus === undefined ? {} : { cpus: Number(cpus) }),
    constraints: constraints.map(String),
    raw,
  };
}

function toRange(text: string): NonNullable<Deploy['replicas']> {
  const [min = 0, max = min] = text.split('..').map(Number);
  return { min, max, isRange: text.includes('..') };
}

/** `x-skiff-function:` with nothing behind it, or `true`, is enough. */
function toFunctionOptions(name: string, value: unknown): YamlMap {
  if (value === null || value === true || value === 'true') return {};
  if (isMapValue(value)) return value;
  throw invalid(`services.${name}.x-skiff-function must be true or a mapping such as { memory: 512MB }`);
}
