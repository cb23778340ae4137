/**
 * The network of one build's steps, when the function's configuration gives them one: a namespace with the policy of
 * functions, which stands before the first step begins and goes with the build. What was refused is in the build's log.
 */
import type { NetworkOwner, Networks } from '../../infra/network/networks.ts';

export interface BuildNetworkOwner extends NetworkOwner {
  readonly onLine: (line: string) => void;
}

export type BuildNetworks = Pick<
  Networks<BuildNetworkOwner>,
  'acquire' | 'attach' | 'bind' | 'release' | 'resolvConf'
>;

export interface BuildNetwork extends AsyncDisposable {
  readonly namespace: string;
  /** To be mounted as /etc/resolv.conf. */
  readonly resolvConf: string;
  /** `end` is called when its policy can no longer be relied on. */
  attach(end: () => void): void;
}

/** Undefined for steps without one. `id` is the sandbox's. @throws SkiffError COLD_START_FAILED, INVALID_CONFIG */
export async function openBuildNetwork(
  networks: BuildNetworks,
  id: string,
  owner: BuildNetworkOwner,
): Promise<BuildNetwork | undefined> {
  if (owner.config.network === 'none') return undefined;
  const namespace = await networks.acquire(id);
  try {
    await networks.bind(id, owner);
  } catch (error) {
    await networks.release(id);
    throw error;
  }
  return {
    namespace,
    resolvConf: networks.resolvConf,
    attach: (end) => networks.attach(id, end),
    [Symbol.asyncDispose]: () => networks.release(id),
  };
}
