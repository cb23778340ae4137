/**
 * A swarm of five hosts whose stores are not Skiff's own: two gateways and three runners; Redis and the registry on the
 * first host, its replica on the second, sentinels on the first three.
 */
import { HostStores } from './host-stores.ts';
import { HostNetwork, type Host, type HostOptions } from './hosts.ts';
import { copySeed } from './server.ts';
import { SwarmHosts } from './swarm-hosts.ts';
import { waitFor } from './wait.ts';

export interface FiveHostsOptions {
  readonly managers?: HostOptions;
  /** Of three, four and five. */
  readonly runners?: readonly [HostOptions, HostOptions, HostOptions];
}

export class FiveHosts extends SwarmHosts {
  readonly stores: HostStores;
  readonly one: Host;
  readonly two: Host;
  readonly three: Host;
  readonly four: Host;
  readonly five: Host;

  private constructor(
    network: HostNetwork,
    stores: HostStores,
    hosts: readonly [Host, Host, Host, Host, Host],
  ) {
    super(network, hosts.slice(0, 2), hosts.slice(2));
    [this.one, this.two, this.three, this.four, this.five] = hosts;
    this.stores = stores;
  }

  /** With the function `echo` deployed, and its image on every host. */
  static async start({ managers = {}, runners = [{}, {}, {}] }: FiveHostsOptions = {}): Promise<FiveHosts> {
    const network = new HostNetwork();
    try {
      const hosts = ['one', 'two', 'three', 'four', 'five'].map((name) => network.add(name));
      const [one, two, three, four, five] = hosts as [Host, Host, Host, Host, Host];
      copySeed(one.dataDir);
      const stores = await HostStores.start([one, two, three]);
      // An accepted event is on two hosts.
      for (const host of [one, two]) host.env['SKIFF_EVENTS_DURABILITY'] = 'replicated';
      one.env['SKIFF_REDIS_URL'] = stores.url;
      one.env['SKIFF_REGISTRY_URL'] = stores.registryUrl;
      await one.start(['server'], managers);
      await one.client.swarm.init({ advertiseAddr: one.address });
      await Promise.all([
        network.join(one, two, 'manager', managers),
        ...[three, four, five].map((host, i) => network.join(one, host, 'worker', runners[i])),
      ]);
      const swarm = new FiveHosts(network, stores, [one, two, three, four, five]);
      await swarm.setAvailability('drain', swarm.gateways);
      await swarm.deployEcho();
      return swarm;
    } catch (error) {
      await network.close().catch(() => {});
      throw error;
    }
  }

  /** Processes of sandboxes on any host that the swarm does not know of. */
  async strayProcesses(): Promise<string[]> {
    const { node } = this.control.client;
    const tasks = (await Promise.all(this.all.map(({ nodeId }) => node.tasks(nodeId)))).flat();
    return this.all
      .flatMap((host) =>
        host
          .functionProcesses()
          .filter(({ cgroup }) => !tasks.some(({ sandbox }) => cgroup.includes(sandbox))),
      )
      .map(({ pid, title }) => `${pid} ${title}`);
  }

  /** All gateways answer, all hosts are up, the stores have a replica. */
  async untilWhole(): Promise<void> {
    for (const url of this.urls)
      await waitFor(
        `${url} answers`,
        () =>
          fetch(url, { signal: AbortSignal.timeout(5_000) }).then(
            ({ status }) => status === 200,
            () => false,
          ),
        30_000,
      );
    for (const host of this.all) await this.untilUp(host);
    await this.stores.untilReplicated();
  }
}
