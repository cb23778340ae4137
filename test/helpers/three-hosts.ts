/**
 * A swarm of three hosts under a steady load, as the tests of failures need it: the first has the stores and a gateway,
 * the second a runner, the third a gateway and a runner. Every call of the load is accounted for.
 */
import { functionFixture } from './fixtures.ts';
import { HostNetwork, type Host, type HostOptions } from './hosts.ts';
import type { Load, Outcome } from './load.ts';
import { waitFor } from './wait.ts';

/** 2.5 s until a node is given up, and what a start and a busy machine take. */
export const NOTICE_MS_MAX = 8_000;
export const CALLERS = 8;
const MOVE_MS_MAX = 30_000;

export const bad = (outcomes: readonly Outcome[]): Outcome[] =>
  outcomes.filter(({ status }) => status !== 200);

export class ThreeHosts {
  readonly network: HostNetwork;
  readonly first: Host;
  readonly second: Host;
  readonly third: Host;

  private constructor(network: HostNetwork, hosts: readonly [Host, Host, Host]) {
    this.network = network;
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
      await first.deploy('echo', functionFixture('echo.ts'), { memory: '64MB', timeout: '5s' });
      await waitFor('images everywhere', async () =>
        (await first.client.nodes()).every(({ images }) => (images?.count ?? 0) >= 1),
      );
      return hosts;
    } catch (error) {
      await network.close().catch(() => {});
      throw error;
    }
  }

  get all(): readonly Host[] {
    return [this.first, this.second, this.third];
  }

  /** Of the function, at both gateways. */
  get urls(): readonly [string, string] {
    return [`${this.first.url}/f/echo?ms=20`, `${this.third.url}/f/echo?ms=20`];
  }

  close(): Promise<void> {
    return this.network.close();
  }

  async isUp(host: Host): Promise<boolean> {
    return (await this.first.client.nodes()).some(
      ({ id, status }) => id === host.nodeId && status === 'ready',
    );
  }

  async untilUp(host: Host): Promise<void> {
    await waitFor(`${host.name} is back`, () => this.isUp(host), MOVE_MS_MAX);
  }

  async untilGivenUp(host: Host): Promise<void> {
    await waitFor(`${host.name} is given up`, async () => !(await this.isUp(host)), NOTICE_MS_MAX);
  }

  async setAvailability(availability: 'active' | 'drain', hosts = this.all): Promise<void> {
    for (const host of hosts) await this.first.client.node.update(host.nodeId, { availability });
  }

  /** Only `host` runs the function; all are active again. */
  async moveTo(host: Host): Promise<void> {
    await this.setAvailability('active', [host]);
    await this.setAvailability(
      'drain',
      this.all.filter((one) => one !== host),
    );
    const place = async () => {
      const status = await fetch(this.urls[0], { signal: AbortSignal.timeout(5_000) }).then(
        (answer) => answer.status,
        () => 0,
      );
      const tasks = await Promise.all(this.all.map((one) => this.first.client.node.tasks(one.nodeId)));
      const on = this.all.filter((_, i) => tasks[i]?.some(({ functionName }) => functionName === 'echo'));
      return { status, on: on.map(({ name }) => name).join(', ') };
    };
    await waitFor(
      `everything is on ${host.name}`,
      async () => {
        const { status, on } = await place();
        return status === 200 && on === host.name;
      },
      MOVE_MS_MAX,
    );
    await this.setAvailability('active');
  }
}

/** Resolves when `count` more calls of the load have succeeded. */
export async function more(load: Load, count: number): Promise<void> {
  const from = load.outcomes.length;
  await waitFor(
    `${count} good calls`,
    () => load.outcomes.slice(from).filter(({ status }) => status === 200).length >= count,
    MOVE_MS_MAX,
  );
}
