/** Settings of the supervisor. See infra/lib/config.ts. */
import { z } from 'zod';
import { commonSettings, loadConfig } from '../lib/config.ts';

const MB = 1024 ** 2;
const port = z.coerce.number().int().min(1).max(65_535);

const settings = {
  ...commonSettings,
  SKIFF_GATEWAY_PORT: port.default(8080),
  SKIFF_GATEWAY_HOST: z.string().default('127.0.0.1'),
  /** Loopback port of the embedded registry; absent: the gateway's port + 1. */
  SKIFF_REGISTRY_PORT: port.optional(),
  /** Ceiling of the embedded durable Redis. Writes beyond it fail with a clear error; nothing is evicted. */
  SKIFF_REDIS_MEMORY_BYTES_MAX: z.coerce
    .number()
    .int()
    .min(16 * MB)
    .default(1024 * MB),
  /** Ceiling of the embedded fast Redis. */
  SKIFF_REDIS_FAST_MEMORY_BYTES_MAX: z.coerce
    .number()
    .int()
    .min(16 * MB)
    .default(512 * MB),
  SKIFF_RUNTIME: z.string().default('crun'),
  /** `host:port` of a manager: a host that is in no swarm joins there before it starts. Needs SKIFF_JOIN_TOKEN. */
  SKIFF_JOIN_MANAGER: z.string().optional(),
} as const;

export type HostConfig = ReturnType<typeof loadHostConfig>;

export function loadHostConfig(env: Readonly<Record<string, string | undefined>>) {
  return loadConfig(settings, env);
}

export function registryPort(config: HostConfig): number {
  return config.SKIFF_REGISTRY_PORT ?? config.SKIFF_GATEWAY_PORT + 1;
}

/** Where this host reaches its own gateway. A gateway that listens everywhere is reached on loopback. */
export function gatewayUrl(config: HostConfig): string {
  const host = config.SKIFF_GATEWAY_HOST;
  const isAny = host === '0.0.0.0' || host === '::';
  const name = isAny ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  return `http://${name}:${config.SKIFF_GATEWAY_PORT}`;
}
