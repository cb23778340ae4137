/** Faults by chance, of every kind that a swarm is promised to stand: the same ones again from the same seed. */
import type { FiveHosts } from './five-hosts.ts';
import { STORE_PORTS } from './host-stores.ts';
import type { Host } from './hosts.ts';

export interface Fault {
  readonly name: string;
  begin(): unknown;
  /** After it all is mended, or mends itself. */
  end(): unknown;
  /** It ends last: a host comes up in a swarm that is well otherwise. */
  readonly isStart?: boolean;
}

/** mulberry32. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  of<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }
}

export function pickFault(hosts: FiveHosts, chance: Chance): Fault {
  const kind = chance.of(KINDS);
  return kind(hosts, chance);
}

type Kind = (hosts: FiveHosts, chance: Chance) => Fault;

const ofLine = (what: string, cut: (host: Host, hosts: FiveHosts) => void): Kind =>
  function pick(hosts, chance) {
    const host = chance.of(hosts.runners);
    const begin = () => cut(host, hosts);
    return { name: `${host.name} ${what}`, begin, end: () => host.heal() };
  };

/** What is killed is started again by its supervisor. */
const ofProcess = (name: string, choose: (hosts: FiveHosts) => readonly Host[]): Kind =>
  function pick(hosts, chance) {
    const host = chance.of(choose(hosts));
    const begin = () => host.isRunning && process.kill(host.pid(name), 'SIGKILL');
    return { name: `${name} of ${host.name} killed`, begin, end: () => {} };
  };

const storesOf = ({ stores }: FiveHosts, host: Host): string[] =>
  stores.hosts.filter((one) => one !== host).map(({ address }) => address);

const KINDS: readonly Kind[] = [
  ofLine('cut off', (host, hosts) => host.cutOff(hosts.others(host))),
  ofLine('heard by nobody', (host, hosts) => host.cutOff(hosts.others(host), [], 'out')),
  ofLine('hears nobody', (host, hosts) => host.cutOff(hosts.others(host), [], 'in')),
  ofLine('cut off from the stores', (host, hosts) => host.cutOff(storesOf(hosts, host), STORE_PORTS)),
  ofLine('cut off from one gateway', (host, { two }) => host.cutOff([two.address])),
  ofLine('loses packets', (host) => host.losePackets(10)),
  ofProcess('runner', ({ runners }) => runners),
  ofProcess('gateway', ({ gateways }) => gateways),
  ofProcess('events', ({ gateways }) => gateways),

  function frozen({ all }, chance) {
    const host = chance.of(all);
    return { name: `${host.name} frozen`, begin: () => host.freeze(), end: () => host.thaw() };
  },
  function withoutPower({ runners }, chance) {
    const host = chance.of(runners);
    return {
      name: `${host.name} killed`,
      begin: () => host.crash(),
      end: () => host.isRunning || host.start(),
      isStart: true,
    };
  },
  function thinLine({ runners }, chance) {
    const host = chance.of(runners);
    return {
      name: `${host.name} on a thin line`,
      begin: () => host.slowDown(1_000, 1_500),
      end: () => host.speedUp(),
    };
  },
  function diskFull({ runners }, chance) {
    const host = chance.of(runners.filter(({ hasOwnDisk }) => hasOwnDisk));
    return { name: `disk of ${host.name} full`, begin: () => host.fillDisk(), end: () => host.freeDisk() };
  },
  function registryAway({ one }) {
    return {
      name: 'registry away',
      begin: () => one.signalUnit('registry', 'SIGSTOP'),
      end: () => one.signalUnit('registry', 'SIGCONT'),
    };
  },
  function primaryKilled({ stores }) {
    let primary: Host | undefined;
    return {
      name: 'primary of the stores killed',
      async begin() {
        primary = await stores.primary();
        primary.signalUnit('redis', 'SIGKILL');
      },
      end: () => primary?.startUnits(),
    };
  },
  function primaryFrozen({ stores }) {
    let primary: Host | undefined;
    return {
      name: 'primary of the stores frozen',
      async begin() {
        primary = await stores.primary();
        primary.signalUnit('redis', 'SIGSTOP');
      },
      end: () => primary?.signalUnit('redis', 'SIGCONT'),
    };
  },
];
