/**
 * Three hosts on this machine (network namespaces on one bridge): what more runners cost for each call, and how long
 * callers wait when something breaks. All hosts share these cores, so more runners cannot be faster here; what they are
 * slower by is what it costs that they agree with each other.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { longestGap, more, startLoad, type Outcome } from '../../helpers/load.ts';
import type { Host } from '../../helpers/hosts.ts';
import { startSentinelCluster } from '../../helpers/sentinel.ts';
import { CALLERS } from '../../helpers/swarm-hosts.ts';
import { ThreeHosts } from '../../helpers/three-hosts.ts';
import { waitFor } from '../../helpers/wait.ts';
import type { Record } from '../stats.ts';
import { Subject } from '../subject.ts';
import { wrk } from '../wrk.ts';

const APP = join(import.meta.dirname, '../apps/plain.mjs');
const CONNECTIONS = 32;
const SECONDS = 3;
const COLD_CALLS = 10;
const SETTLE_MS_MAX = 60_000;

export async function swarmRound(
  record: Record,
  say: (text: string) => unknown,
  port: number,
): Promise<void> {
  say('swarm: three hosts …');
  const hosts = await ThreeHosts.start();
  try {
    await hosts.first.deploy('warm', APP, { concurrency: 100 });
    await hosts.first.deploy('cold', APP, { keepAlive: 0, concurrency: 1, max: 100 });
    const runners = [[hosts.second], [hosts.second, hosts.third], hosts.all];
    for (const active of runners) await measureRunners(record, say, hosts, active);
    for (const [name, fault] of FAULTS) {
      say(`swarm: ${name} …`);
      await measureFault(record, name, hosts, fault);
    }
  } finally {
    await hosts.close();
  }
  say('swarm: fail-over of the store …');
  await measureFailOver(record, port);
}

async function measureRunners(
  record: Record,
  say: (text: string) => unknown,
  hosts: ThreeHosts,
  active: readonly Host[],
): Promise<void> {
  const label = `${active.length} ${active.length === 1 ? 'runner' : 'runners'}`;
  say(`swarm: ${label} …`);
  const others = hosts.all.filter((host) => !active.includes(host));
  await hosts.setAvailability('active', active);
  await hosts.setAvailability('drain', others);
  const { client, url } = hosts.first;
  await waitFor(
    'nothing is left elsewhere',
    async () => {
      const tasks = await Promise.all(others.map((host) => client.node.tasks(host.nodeId)));
      return tasks.every((list) => list.length === 0);
    },
    SETTLE_MS_MAX,
  );
  // Sandboxes on every runner: a crowd first.
  await wrk(`${url}/f/warm`, CONNECTIONS * 8, 1);
  const one = await wrk(`${url}/f/warm`, 1, SECONDS);
  record.of(`swarm, ${label}: one connection`, 'ms').add(one.p50Ms);
  const many = await wrk(`${url}/f/warm`, CONNECTIONS, SECONDS);
  record.of(`swarm, ${label}: calls`, '/s').add(many.requestsPerSecond);
  record.of(`swarm, ${label}: a call`, 'µs').add(1e6 / many.requestsPerSecond);
  for (let i = 0; i < COLD_CALLS; i++) {
    const began = performance.now();
    const answer = await fetch(`${url}/f/cold?${randomUUID()}`);
    await answer.arrayBuffer();
    if (answer.status === 200) record.of(`swarm, ${label}: cold call`, 'ms').add(performance.now() - began);
  }
}

interface Fault {
  begin(hosts: ThreeHosts): void | Promise<void>;
  end(hosts: ThreeHosts): void | Promise<void>;
  /** Whose gateway is called; both when absent. */
  readonly gateway?: 0 | 1;
}

/** The second host has all the work. */
const FAULTS: readonly (readonly [string, Fault])[] = [
  ['node killed', { begin: ({ second }) => second.crash(), end: ({ second }) => second.start(['server']) }],
  ['node frozen', { begin: ({ second }) => second.freeze(), end: ({ second }) => second.thaw() }],
  [
    'node cut off',
    {
      begin: ({ first, second, third }) => second.cutOff([first.address, third.address]),
      end: ({ second }) => second.heal(),
    },
  ],
  [
    'gateway killed, calls to it',
    { begin: ({ third }) => void process.kill(third.pid('gateway'), 'SIGKILL'), end: () => {}, gateway: 1 },
  ],
  [
    'gateway killed, calls to the other',
    { begin: ({ third }) => void process.kill(third.pid('gateway'), 'SIGKILL'), end: () => {}, gateway: 0 },
  ],
];

async function measureFault(record: Record, name: string, hosts: ThreeHosts, fault: Fault): Promise<void> {
  await hosts.moveTo(hosts.second);
  const urls = fault.gateway === undefined ? hosts.urls : [hosts.urls[fault.gateway] as string];
  const load = startLoad(urls, CALLERS);
  await more(load, 100);
  const from = load.outcomes.length;
  await fault.begin(hosts);
  let outcomes: Outcome[];
  try {
    await more(load, 200);
    // The last good one before it is where the time begins: all callers may be stuck from then on.
    outcomes = (await load.stop()).slice(from - 1);
  } finally {
    await load.stop();
    await fault.end(hosts);
  }
  note(record, name, outcomes);
  for (const host of hosts.all) await hosts.untilUp(host);
  for (const url of hosts.urls)
    await waitFor(
      'both gateways serve',
      () =>
        fetch(url).then(
          ({ status }) => status === 200,
          () => false,
        ),
      SETTLE_MS_MAX,
    );
}

/** The longest time without a good answer, and the calls that failed meanwhile. */
function note(record: Record, name: string, outcomes: readonly Outcome[]): void {
  const began = outcomes[0]?.atMs ?? 0;
  const since = outcomes.map((outcome) => ({ ...outcome, atMs: outcome.atMs - began }));
  record.of(`recovery, ${name}`, 'ms').add(longestGap(since));
  const failed = outcomes.filter(({ status }) => status !== 200).length;
  record.of(`failed calls of ${CALLERS} callers, ${name}`, '').add(failed);
}

/** A server whose stores are behind sentinels; its primary dies, and takes part again as a replica. */
async function measureFailOver(record: Record, port: number): Promise<void> {
  const stores = await startSentinelCluster();
  try {
    const subject = await Subject.start(port, { SKIFF_REDIS_URL: stores.url });
    try {
      await subject.deploy('warm', APP);
      const load = startLoad([subject.url('warm')], CALLERS);
      await more(load, 100);
      const from = load.outcomes.length;
      const primary = await stores.primaryPort();
      await stores.kill(primary);
      await waitFor('another primary', async () => (await stores.primaryPort()) !== primary, SETTLE_MS_MAX);
      stores.start(primary);
      await stores.untilReplicated();
      await more(load, 200);
      note(record, 'primary of the store killed', (await load.stop()).slice(from - 1));
    } finally {
      await subject.close();
    }
  } finally {
    await stores.close();
  }
}
