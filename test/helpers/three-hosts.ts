/**
 * A swarm of three hosts, as small as one can be in which hosts fail: the first has the stores and a gateway, the second a
 * runner, the third a gateway; all of them run functions.
 */
import { HostNetwork, type Host, type HostOptions } from './hosts.ts';
import { SwarmHosts } from './swarm-hosts.ts';

export class ThreeHosts extends SwarmHosts {
  readonly first: Host;
  readonly second: Host;
  readonly third: Host;

  private constructor(network: HostNetwork, hosts: readonly [Host, Host, Host]) {
    super(network, [hosts[0], hosts[2]], hosts);
    [this.first, this.second, this.third] = hosts;
  }

  /** With the function `echo` deployed, and its image on every host. */
  static async start(
    options: {
      readonly first?: HostOptions;
      readonly second?: HostOptions;
      readonly third?: HostOptions;
    } = {},
  ): Promise<ThreeHosts> {
    const network = new HostNetwork();
    try {
      const first = await network.startManager('first', options.first);
      const second = await network.join(first, 'second', 'worker', options.second);
      const third = await network.join(first, 'third', 'manager', options.third);
      const hosts = new ThreeHosts(network, [first, second, third]);
      await hosts.deployEcho();
      return hosts;
    } catch (error) {
      await network.close().catch(() => {});
      throw error;
    }
  }
}
