/** What a service that is no function asks for beside its deployment: replicas that are kept running, and how they change. */
import { tryParseMs } from '../protocol/units.ts';
import { invalid } from './document/yaml-file.ts';
import type { Service } from './model.ts';

/** As POST /v1/services takes it, without the names. */
export interface ReplicasWish {
  readonly mode: 'replicated' | 'global';
  readonly replicas: number;
  readonly constraints: readonly string[];
  readonly preferences: readonly string[];
  readonly replicasMaxPerNode: number;
  readonly update: Readonly<Record<string, unknown>>;
  readonly rollback?: Readonly<Record<string, unknown>>;
}

/** @throws SkiffError INVALID_CONFIG */
export function createReplicasWish(service: Service): ReplicasWish {
  const { deploy } = service;
  const path = `services.${service.name}.deploy`;
  const mode = deploy.mode ?? 'replicated';
  if (mode !== 'replicated' && mode !== 'global')
    throw invalid(`${path}.mode: "${mode}" is not replicated or global`);
  const placement = (deploy.raw['placement'] ?? {}) as Record<string, unknown>;
  return {
    mode,
    replicas: deploy.replicas?.max ?? 1,
    constraints: deploy.constraints,
    preferences: readPreferences(placement['preferences']),
    replicasMaxPerNode: Number(placement['max_replicas_per_node'] ?? 0),
    update: readUpdate(path, 'update_config', deploy.raw),
    ...(deploy.raw['rollback_config'] ? { rollback: readUpdate(path, 'rollback_config', deploy.raw) } : {}),
  };
}

/** `[{ spread: node.labels.zone }]`. */
function readPreferences(preferences: unknown): string[] {
  const list = (preferences ?? []) as readonly { readonly spread?: string }[];
  return list.flatMap(({ spread }) => (spread === undefined ? [] : [`spread=${spread}`]));
}

/** Docker's words into the API's; what is not said is the platform's choice. */
function readUpdate(
  path: string,
  name: 'update_config' | 'rollback_config',
  deploy: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const raw = (deploy[name] ?? {}) as Record<string, unknown>;
  const ms = (key: string): number | undefined => {
    const value = raw[key];
    if (value === undefined) return undefined;
    const parsed = tryParseMs(String(value));
    if (parsed === undefined) throw invalid(`${path}.${name}.${key}: "${String(value)}" is not a duration`);
    return parsed;
  };
  const update = {
    parallelism: raw['parallelism'] === undefined ? undefined : Number(raw['parallelism']),
    delayMs: ms('delay'),
    order: raw['order'],
    failureAction: raw['failure_action'],
    monitorMs: ms('monitor'),
  };
  return Object.fromEntries(Object.entries(update).filter(([, value]) => value !== undefined));
}

/** The path of the URL that a health check asks for: that is what the platform asks for, too. */
export function readyPathOf({ healthcheck }: Service): string | undefined {
  if (!healthcheck || healthcheck.disable) return undefined;
  const url = /https?:\/\/[^\s/'"]+(\/[^\s'"|&;)]*)?/.exec(healthcheck.test?.join(' ') ?? '');
  return url ? (url[1] ?? '/') : undefined;
}

/** Where its program listens: what it publishes, or the one port that it exposes. */
export function portOf({ ports, expose }: Service): number | undefined {
  const [port] = [...ports.map(({ target }) => target), ...expose.map((text) => Number.parseInt(text, 10))];
  return port;
}
