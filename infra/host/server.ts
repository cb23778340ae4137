/**
 * The life of `skiff server` on one host: check, lock, start, serve, stop. Invariant: whatever fails on the way,
 * everything that was started is stopped before this returns.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { dataPaths } from '../contract/paths.ts';
import { redisSpecs, registrySpec } from './backbone.ts';
import { sweepRegistry } from './registry-sweep.ts';
import { gatewayUrl, type HostConfig } from './config.ts';
import { createDataFolder, lockDataFolder, type DataPaths } from './data-folder.ts';
import { runDemo } from './demo.ts';
import { assertHostIsFit, assertPortsAreFree } from './doctor.ts';
import { memberConfig } from './member-settings.ts';
import { ROLES, chooseRoles, registryUrl, roleEnv, roleSpec, type Role } from './roles.ts';
import { Supervisor, type ServerPlan } from './supervisor.ts';
import { createTerminalObserver, type Terminal } from './terminal.ts';

export interface ServerOptions {
  readonly config: HostConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Top folder of the platform's own code. */
  readonly rootDir: string;
  /** In start order. All of them: the whole platform, with its own backbone unless URLs are given. */
  readonly roles: readonly Role[];
  readonly isDemo: boolean;
  readonly terminal: Terminal;
  readonly onStopSignals: (stop: () => void) => void;
}

/** No role named means all. Throws INVALID_CONFIG. */
export function parseRoles(names: readonly string[]): readonly Role[] {
  const unknown = names.find((name) => !(ROLES as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new SkiffError('INVALID_CONFIG', `unknown role "${unknown}"; the roles are ${ROLES.join(', ')}`);
  }
  return names.length === 0 ? ROLES : ROLES.filter((role) => names.includes(role));
}

/** Runs until a stop signal; resolves to the exit code. */
export async function runServer(given: ServerOptions): Promise<number> {
  const paths = dataPaths(given.config.SKIFF_DATA_DIR);
  const options = {
    ...given,
    config: memberConfig(given.config, paths),
    roles: chooseRoles(given.roles, paths),
  };
  const { config, roles } = options;
  const isWhole = roles.length === ROLES.length;
  if (!isWhole && (config.SKIFF_REDIS_URL === undefined || config.SKIFF_REGISTRY_URL === undefined)) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `--role ${roles.join(' --role ')} joins a backbone that runs elsewhere: set SKIFF_REDIS_URL and SKIFF_REGISTRY_URL ` +
        '(without --role, the server brings its own)',
    );
  }
  await assertHostIsFit(config);
  createDataFolder(config.SKIFF_DATA_DIR);
  const unlock = lockDataFolder(paths, isWhole ? ['backbone', ...roles] : roles);
  try {
    return await serve(options, paths);
  } finally {
    unlock();
  }
}

function createPlan({ config, env, roles, rootDir }: ServerOptions, paths: DataPaths): ServerPlan {
  const registry = registrySpec(config, paths, env);
  const isWhole = roles.length === ROLES.length;
  const environment = roleEnv(config, paths, env, rootDir);
  return {
    backbone: isWhole ? [...redisSpecs(config, paths, env), ...(registry ? [registry] : [])] : [],
    roles: roles.map((role) => roleSpec(role, config, environment, rootDir)),
    state: {
      pid: process.pid,
      url: gatewayUrl(config),
      version: readVersion(rootDir),
      startedMs: Date.now(),
      registryUrl: registryUrl(config),
    },
  };
}

/** Only the server that starts the registry itself may sweep it. */
async function sweep({ config, roles, env, terminal }: ServerOptions, paths: DataPaths): Promise<void> {
  if (config.SKIFF_REGISTRY_URL !== undefined || roles.length !== ROLES.length) return;
  const failure = await sweepRegistry(paths, env);
  if (failure !== undefined) terminal.note(`the registry's disk was not swept: ${failure}`);
}

export function readVersion(rootDir: string): string {
  return (JSON.parse(readFileSync(join(rootDir, 'package.json'), 'utf8')) as { version: string }).version;
}

async function serve(options: ServerOptions, paths: DataPaths): Promise<number> {
  const { config, terminal } = options;
  const supervisor = new Supervisor(createPlan(options, paths), paths, createTerminalObserver(terminal));
  const stopRequest = Promise.withResolvers<void>();
  let isStopping = false;
  const stopped = stopRequest.promise.then(() => supervisor.stop());
  options.onStopSignals(() => {
    isStopping = true;
    terminal.note('stopping');
    stopRequest.resolve();
  });
  try {
    const leftovers = await supervisor.endLeftovers();
    if (leftovers > 0) terminal.note(`ended ${leftovers} processes that a killed server had left`);
    await assertPortsAreFree(config, options.roles);
    await sweep(options, paths);
    await supervisor.start();
    if (options.isDemo) await runDemo({ ...options, paths });
    terminal.print(
      options.roles.includes('gateway') ? `ready ${gatewayUrl(config)}` : `ready ${options.roles.join(' ')}`,
    );
  } catch (error) {
    stopRequest.resolve();
    await stopped;
    if (isStopping) return 0;
    throw error;
  }
  await stopped;
  terminal.note('stopped');
  return 0;
}
