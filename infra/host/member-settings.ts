/** What the roles of a host are started with when it is a member of a swarm: addresses and credentials it was given. */
import { identityPaths, tryReadNode, tryReadStores } from '../swarm/identity.ts';
import type { HostConfig } from './config.ts';
import type { DataPaths } from './data-folder.ts';

/** What a member that joined runs with; otherwise, also for a founder whose stores are elsewhere, the configuration as it is. */
export function memberConfig(config: HostConfig, paths: DataPaths): HostConfig {
  const node = tryReadNode(paths.swarm);
  const stores = node && tryReadStores(paths.swarm);
  if (!node || !stores) return config;
  return Object.freeze({
    ...config,
    SKIFF_REDIS_URL: stores.durable,
    SKIFF_REDIS_FAST_URL: stores.fast,
    SKIFF_REGISTRY_URL: node.registry,
  });
}

/** For the roles: names of files instead of what is in them. */
export function memberEnv(paths: DataPaths): Record<string, string | undefined> {
  const node = tryReadNode(paths.swarm);
  if (!node) return {};
  if (!tryReadStores(paths.swarm)) return { SKIFF_RUNNER_ID: node.nodeId };
  const files = identityPaths(paths.swarm);
  return {
    SKIFF_RUNNER_ID: node.nodeId,
    SKIFF_REDIS_URL: undefined,
    SKIFF_REDIS_URL_FILE: files.redisUrl,
    SKIFF_REDIS_FAST_URL: undefined,
    SKIFF_REDIS_FAST_URL_FILE: files.fastUrl,
    SKIFF_REGISTRY_URL: node.registry,
  };
}
