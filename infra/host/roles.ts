/** The services as processes: what each is started with. They learn all they know from their environment. */
import { delimiter, join } from 'node:path';
import { REGISTRY_USER, answersOk } from './backbone.ts';
import { gatewayUrl, registryPort, type HostConfig } from './config.ts';
import { hostPaths, type DataPaths } from './data-folder.ts';
import { memberEnv } from './member-settings.ts';
import type { ProcessSpec } from './process/managed-process.ts';
import { tryReadNode } from '../swarm/identity.ts';

/** In the order they are started; they are stopped the other way round, so that nothing loses what it calls. */
export const ROLES = ['runner', 'builder', 'events', 'gateway'] as const;
export type Role = (typeof ROLES)[number];

/** The consumer of events shares the gateway's code, not its process. */
const FOLDERS: Readonly<Record<Role, string>> = {
  runner: 'runner',
  builder: 'builder',
  events: 'gateway/events',
  gateway: 'gateway',
};

/**
 * Calls leave much garbage that is dead by the next collection: with 64 MiB of young space instead of 16 there are a
 * quarter as many, and gateway and runner spend an eighth less of the processor on a call.
 */
const YOUNG_MB = 64;
const SERVING: ReadonlySet<Role> = new Set(['gateway', 'runner', 'events']);

/** Longer than a role's own shutdown steps together: open invocations get their time to end. */
const ROLE_STOP_MS_MAX = 30_000;

export function registryUrl(config: HostConfig): string {
  return config.SKIFF_REGISTRY_URL ?? `http://127.0.0.1:${registryPort(config)}`;
}

/** Environment of every role, and of the command line when the server itself calls it. */
export function roleEnv(
  config: HostConfig,
  paths: DataPaths,
  env: Readonly<Record<string, string | undefined>>,
  rootDir: string,
): Record<string, string | undefined> {
  const shared = {
    ...env,
    // Tools that npm brought run under the platform's own Node, not the host's.
    PATH: [join(rootDir, 'node_modules', '.bin'), env['PATH']].join(delimiter),
    // Halves the start of a role: what V8 made of our files is kept.
    NODE_COMPILE_CACHE: env['NODE_COMPILE_CACHE'] ?? join(paths.root, 'compiled'),
    SKIFF_DATA_DIR: config.SKIFF_DATA_DIR,
    SKIFF_GATEWAY_PORT: String(config.SKIFF_GATEWAY_PORT),
    SKIFF_GATEWAY_HOST: config.SKIFF_GATEWAY_HOST,
    SKIFF_LOG_LEVEL: config.SKIFF_LOG_LEVEL,
    ...memberEnv(paths),
  };
  if (config.SKIFF_REGISTRY_URL !== undefined) return shared;
  return {
    ...shared,
    SKIFF_REGISTRY_URL: registryUrl(config),
    SKIFF_REGISTRY_USER: REGISTRY_USER,
    SKIFF_REGISTRY_PASSWORD_FILE: hostPaths(paths).registryPassword,
  };
}

export function roleSpec(
  role: Role,
  config: HostConfig,
  env: Record<string, string | undefined>,
  rootDir: string,
): ProcessSpec {
  return {
    name: role,
    command: process.execPath,
    args: [
      ...(SERVING.has(role) ? [`--max-semi-space-size=${YOUNG_MB}`] : []),
      join(rootDir, FOLDERS[role], 'main.ts'),
    ],
    env,
    cwd: rootDir,
    stopMsMax: ROLE_STOP_MS_MAX,
    ...readiness(role, config),
  };
}

/** Levels at which a role's log tells that it is ready. */
const TELLING_LEVELS = ['trace', 'debug', 'info'];
const READY_LINES: Partial<Record<Role, RegExp>> = {
  runner: /"msg":"runner ready"/,
  builder: /"msg":"builder is ready"/,
};

/** A gateway is asked; the others have nothing to ask and say it in their log, unless that is to say less. */
function readiness(role: Role, config: HostConfig): Pick<ProcessSpec, 'isReady' | 'readyLine'> {
  if (role === 'gateway') return { isReady: () => answersOk(`${gatewayUrl(config)}/readyz`) };
  const readyLine = READY_LINES[role];
  return readyLine && TELLING_LEVELS.includes(config.SKIFF_LOG_LEVEL) ? { readyLine } : {};
}

/** Those that were asked for; without a wish, what the host's part in a swarm is. */
export function chooseRoles(wanted: readonly Role[], paths: DataPaths): readonly Role[] {
  const isWish = wanted.length < ROLES.length;
  return !isWish && tryReadNode(paths.swarm)?.role === 'worker' ? ['runner'] : wanted;
}
