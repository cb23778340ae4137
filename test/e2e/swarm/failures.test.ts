/**
 * What breaks when hosts break, seen from clients: every call of a steady load is accounted for. Three hosts: the first
 * has the stores and a gateway, the second a runner, the third a gateway and a runner.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ServiceState } from '../../../sdk/client/index.ts';
import { expectHonest } from '../../helpers/honest.ts';
import type { Host } from '../../helpers/hosts.ts';
import { bad, longestGap, more, startLoad, summarize } from '../../helpers/load.ts';
import { expectTicksOnce } from '../../helpers/schedule-ticks.ts';
import { CALLERS, NOTICE_MS_MAX } from '../../helpers/swarm-hosts.ts';
import { ThreeHosts } from '../../helpers/three-hosts.ts';
import { waitFor } from '../../helpers/wait.ts';

describe('a swarm of three hosts', () => {
  let hosts: ThreeHosts;
  let first: Host;
  let second: Host;
  let third: Host;

  beforeAll(async () => {
    hosts = await ThreeHosts.start();
    ({ first, second, third } = hosts);
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.setAvailability('active'));

  it('is served by any gateway, and the death of one costs only what it had in hand', async () => {
    const body = await fetch(`${third.url}/f/echo`).then((response) => response.status);
    expect(body).toBe(200);
    expect((await third.client.nodes()).length).toBe(3);
    const load = startLoad([hosts.urls[0] as string], 4);
    const others = startLoad([hosts.urls[1] as string], 4);
    await waitFor('calls', () => load.outcomes.length > 20 && others.outcomes.length > 20);
    process.kill(third.pid('gateway'), 'SIGKILL');
    await waitFor(
      'the gateway is back',
      () => others.outcomes.at(-1)?.status === 0 && others.outcomes.length > 40,
      20_000,
    );
    await waitFor('it serves again', () => others.outcomes.at(-1)?.status === 200, 20_000);
    const [kept, cut] = [await load.stop(), await others.stop()];
    expect(summarize(bad(kept))).toBe('');
    // Its connections break; the next one says that it is not ready until it is.
    expect(summarize(bad(cut).filter(({ status }) => status !== 0 && status !== 503))).toBe('');
  });

  it('fires every tick of a schedule once, also when the host that fires them loses the process that does', () =>
    expectTicksOnce([first, third]));

  it('goes on when a host with all the work loses its power, and takes the host back', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 100);
    await second.crash();
    await hosts.untilGivenUp(second);
    await more(load, 50);
    await second.start(['server']);
    await hosts.untilUp(second);
    expectHonest(await load.stop(), CALLERS);
  });

  it('goes on when a host freezes, and refuses what that host believes when it thaws', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 100);
    second.freeze();
    await hosts.untilGivenUp(second);
    await more(load, 50);
    second.thaw();
    await hosts.untilUp(second);
    await waitFor('it says that it was given up', () => second.log('runner').includes('new epoch'), 10_000);
    const thawed = load.outcomes.length;
    await waitFor('calls after that', () => load.outcomes.length > thawed + 100);
    expectHonest(await load.stop(), CALLERS);
  });

  it('goes on when a host is cut off from everything, and lets it work again when it is healed', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 100);
    second.cutOff([first.address, third.address]);
    try {
      await hosts.untilGivenUp(second);
      await more(load, 50);
    } finally {
      second.heal();
    }
    await hosts.untilUp(second);
    expectHonest(await load.stop(), CALLERS);
    await hosts.moveTo(second);
  });

  it('routes around a runner that one gateway alone cannot reach', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 100);
    third.cutOff([second.address]);
    try {
      const count = load.outcomes.length;
      await waitFor('many calls', () => load.outcomes.length > count + 400, 30_000);
    } finally {
      third.heal();
    }
    const outcomes = await load.stop();
    const failed = bad(outcomes);
    expect(
      failed.every(({ status, detail }) => status === 502 && detail.startsWith('unknown')),
      summarize(failed),
    ).toBe(true);
    // Those under way and those sent before it was noticed.
    expect(failed.length, summarize(failed)).toBeLessThanOrEqual(12);
    expect(longestGap(outcomes)).toBeLessThan(NOTICE_MS_MAX);
    expect(await hosts.statusOf(second)).toBe('ready');
  });

  describe('with a service', () => {
    const read = (): Promise<ServiceState> => first.client.services.get('solo');
    const running = async () => (await read()).replicas.filter(({ state }) => state === 'running');

    it('starts the one replica of a host that was cut off elsewhere, and never runs it twice for long', async () => {
      await first.client.services.create({
        name: 'solo',
        functionName: 'echo',
        replicas: 1,
        constraints: [`node.id!=${first.nodeId}`],
      });
      const [before] = await waitFor('a replica', async () => {
        const all = await running();
        return all.length === 1 && all;
      });
      const host = before?.node === second.nodeId ? second : third;
      const other = host === second ? third : second;
      expect((await fetch(`${first.url}/f/solo`)).status).toBe(200);
      host.cutOff([first.address, other.address]);
      const cutAt = performance.now();
      try {
        const [after] = await waitFor(
          'a replica elsewhere',
          async () => {
            const all = await running();
            return all.length === 1 && all[0]?.node === other.nodeId && all;
          },
          15_000,
        );
        expect(after?.task).not.toBe(before?.task);
        expect((await fetch(`${first.url}/f/solo`)).status).toBe(200);
        // Nobody can order the lost host anything: it must end the replica by itself.
        await waitFor(
          'the old replica has ended',
          () => host.log('runner').includes('replicas were ended'),
          10_000,
        );
        expect(performance.now() - cutAt).toBeLessThan(12_000);
      } finally {
        host.heal();
      }
      await hosts.untilUp(host);
      expect((await running()).length).toBe(1);
    });

    it('moves the replicas of a host that is drained, without a failed call', async () => {
      const [before] = await running();
      const host = before?.node === second.nodeId ? second : third;
      const urlsOfSolo = [`${first.url}/f/solo?ms=20`, `${third.url}/f/solo?ms=20`];
      for (const url of urlsOfSolo)
        await waitFor(
          'both gateways are healed',
          () => fetch(url).then(({ status }) => status === 200),
          10_000,
        );
      const load = startLoad(urlsOfSolo, 4);
      await waitFor('calls', () => load.outcomes.length > 20);
      await first.client.node.update(host.nodeId, { availability: 'drain' });
      const elsewhere = host === second ? third : second;
      await expect
        .poll(
          async () => {
            const { replicas, message } = await read();
            const present = replicas.filter(({ state }) => state !== 'failed');
            return { message, present: present.map(({ state, node }) => `${state} ${node}`) };
          },
          { timeout: 20_000, interval: 100 },
        )
        .toEqual({ message: undefined, present: [`running ${elsewhere.nodeId}`] });
      const outcomes = await load.stop();
      expect(summarize(bad(outcomes))).toBe('');
    });
  });
});
