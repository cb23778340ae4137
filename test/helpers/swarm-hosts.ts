/** What tests of a swarm's failures ask of its hosts, however many there are: where work is, who is up, who is given up. */
import { functionFixture } from './fixtures.ts';
import type { Host, HostNetwork } from './hosts.ts';
import { waitFor } from './wait.ts';

/** What a busy machine may add. */
const BUSY_MS = 5_000;
/** A dead host is known everywhere within 3 s: after 2.5 s of silence, which is looked for four times a second. */
export const DETECT_MS_MAX = 3_000 + BUSY_MS;
/** That, and what a start elsewhere takes. */
export const NOTICE_MS_MAX = 8_000;
export const CALLERS = 8;
const MOVE_MS_MAX = 30_000;

export class SwarmHosts {
  readonly network: HostNetwork;
  readonly gateways: readonly Host[];
  readonly runners: readonly Host[];
  /** Whose API is asked. */
  control: Host;

  constructor(network: HostNetwork, gateways: readonly Host[], runners: readonly Host[]) {
    this.network = network;
    this.gateways = gateways;
    this.runners = runners;
    this.control = gateways[0] as Host;
  }

  get all(): readonly Host[] {
    return [...new Set([...this.gateways, ...this.runners])];
  }

  others(host: Host): string[] {
    return this.all.filter((one) => one !== host).map(({ address }) => address);
  }

  /** Of the function, at all gateways. */
  get urls(): readonly string[] {
    return this.gateways.map(({ url }) => `${url}/f/echo?ms=20`);
  }

  close(): Promise<void> {
    return this.network.close();
  }

  /** The function `echo`, with its image on every host. */
  async deployEcho(): Promise<void> {
    await this.control.deploy('echo', functionFixture('echo.ts'), { memory: '64MB', timeout: '5s' });
    await waitFor(
      'images everywhere',
      async () => (await this.control.client.nodes()).every(({ images }) => (images?.count ?? 0) >= 1),
      MOVE_MS_MAX,
    );
  }

  /** `ready`; `unready` while nothing new can start there; `down` when it gives no sign of life. */
  async statusOf(host: Host): Promise<string | undefined> {
    return (await this.control.client.nodes()).find(({ id }) => id === host.nodeId)?.status;
  }

  async untilUp(host: Host): Promise<void> {
    await waitFor(`${host.name} is back`, async () => (await this.statusOf(host)) === 'ready', MOVE_MS_MAX);
  }

  async untilGivenUp(host: Host): Promise<void> {
    await waitFor(
      `${host.name} is given up`,
      async () => (await this.statusOf(host)) === 'down',
      DETECT_MS_MAX,
    );
  }

  async setAvailability(availability: 'active' | 'drain', hosts = this.runners): Promise<void> {
    for (const host of hosts) await this.control.client.node.update(host.nodeId, { availability });
  }

  /** Only `host` runs the function; all runners are active again. */
  async moveTo(host: Host): Promise<void> {
    await this.setAvailability('active', [host]);
    await this.setAvailability(
      'drain',
      this.runners.filter((one) => one !== host),
    );
    const place = async () => {
      const status = await fetch(this.urls[0] as string, { signal: AbortSignal.timeout(5_000) }).then(
        (answer) => answer.status,
        () => 0,
      );
      const { node } = this.control.client;
      const tasks = await Promise.all(this.runners.map((one) => node.tasks(one.nodeId)));
      const on = this.runners.filter((_, i) => tasks[i]?.some(({ functionName }) => functionName === 'echo'));
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
