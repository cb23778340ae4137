/**
 * A sandbox host that gives a namespace of its own to every sandbox that asks for egress, and takes it away at its end.
 * To all others it is the host it wraps.
 */
import type { Sandbox, SandboxHost, SandboxSpec } from '../sandbox/contract.ts';
import type { NetworkOwner, Networks } from './networks.ts';

/** As `networkNamespace` of a spec: a namespace from the pool, whose policy is bound later. */
export const EGRESS = 'egress';

/** What of Networks it takes to start a sandbox with a namespace of its own. */
export type NamespaceSource = Pick<Networks<NetworkOwner>, 'acquire' | 'attach' | 'release' | 'resolvConf'>;

export function withEgress(host: SandboxHost, networks: NamespaceSource): SandboxHost {
  return {
    allocateUid: () => host.allocateUid(),
    reap: () => host.reap(),
    close: () => host.close(),
    launch: (spec) =>
      spec.networkNamespace === EGRESS ? launchWithEgress(host, networks, spec) : host.launch(spec),
  };
}

async function launchWithEgress(
  host: SandboxHost,
  networks: NamespaceSource,
  spec: SandboxSpec,
): Promise<Sandbox> {
  const networkNamespace = await networks.acquire(spec.id);
  try {
    const sandbox = await host.launch({
      ...spec,
      networkNamespace,
      mounts: [...spec.mounts, { source: networks.resolvConf, target: '/etc/resolv.conf' }],
    });
    networks.attach(spec.id, () => sandbox.kill());
    void sandbox.exited.then(() => networks.release(spec.id));
    return sandbox;
  } catch (error) {
    await networks.release(spec.id);
    throw error;
  }
}
