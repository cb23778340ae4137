/**
 * Stores of a swarm that run beside it, as operators set them up: on two of three hosts a Redis (one of them the primary),
 * on all three a sentinel, on the first also a registry. They are units of their hosts, so they die and come back with them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { askRedis } from './ask-redis.ts';
import type { Host } from './hosts.ts';
import { waitFor } from './wait.ts';

const NAME = 'skiff';
const PASSWORD = 'of-the-stores';
export const STORE_PORTS = [6_379, 26_379] as const;
const [PORT, SENTINEL_PORT] = STORE_PORTS;
const REGISTRY_PORT = 5_000;
const DOWN_MS = 1_000;
const SETTLE_MS_MAX = 30_000;

export class HostStores {
  readonly hosts: readonly Host[];
  /** Those with a Redis. */
  readonly servers: readonly Host[];

  /** Resolves when the replica is in step and the sentinels know each other. */
  static async start(hosts: readonly Host[]): Promise<HostStores> {
    const stores = new HostStores(hosts);
    const [primary] = hosts as [Host];
    for (const host of stores.servers) {
      writeRedis(host, primary);
      host.startUnit('redis');
    }
    writeRegistry(primary);
    primary.startUnit('registry');
    await stores.untilReplicated(() => primary);
    for (const host of hosts) {
      writeSentinel(host, primary);
      host.startUnit('sentinel');
    }
    await waitFor(
      'sentinels that know each other',
      async () => {
        const known = await Promise.all(
          hosts.map((host) => ask(host, SENTINEL_PORT, (redis) => redis.call('SENTINEL', 'ckquorum', NAME))),
        );
        return known.every((text) => String(text).startsWith(`OK ${hosts.length} usable`));
      },
      SETTLE_MS_MAX,
    );
    return stores;
  }

  private constructor(hosts: readonly Host[]) {
    this.hosts = hosts;
    this.servers = hosts.slice(0, 2);
  }

  get url(): string {
    const sentinels = this.hosts.map(({ address }) => `${address}:${SENTINEL_PORT}`).join(',');
    return `redis+sentinel://:${PASSWORD}@${sentinels}/${NAME}`;
  }

  get registryUrl(): string {
    return `http://${this.hosts[0]?.address}:${REGISTRY_PORT}`;
  }

  /** As most of the sentinels that answer say. */
  async primary(): Promise<Host> {
    const votes = await Promise.all(
      this.hosts.map((host) =>
        ask(host, SENTINEL_PORT, async (redis) => {
          const [address] = (await redis.call('SENTINEL', 'get-master-addr-by-name', NAME)) as string[];
          return this.hosts.find((one) => one.address === address);
        }),
      ),
    );
    const known = votes.filter((host) => host !== undefined);
    const count = (host: Host) => known.filter((one) => one === host).length;
    const [most] = known.toSorted((a, b) => count(b) - count(a));
    return most ?? (this.hosts[0] as Host);
  }

  /** The other one is in step with the primary. */
  async untilReplicated(findPrimary: () => Host | Promise<Host> = () => this.primary()): Promise<void> {
    await waitFor(
      'the replica is in step',
      async () => {
        const info = (await ask(await findPrimary(), PORT, (redis) => redis.info('replication'))) ?? '';
        return /role:master/.test(info) && /state=online/.test(info);
      },
      SETTLE_MS_MAX,
    );
  }
}

function folder(host: Host, name: string): string {
  const dir = join(host.dataDir, 'units', name);
  mkdirSync(dir, { recursive: true });
  return dir;
}

function writeRedis(host: Host, primary: Host): void {
  const dir = folder(host, 'redis');
  const file = join(dir, 'redis.conf');
  const lines = [
    `bind ${host.address}`,
    `port ${PORT}`,
    `dir ${dir}`,
    `requirepass ${PASSWORD}`,
    `masterauth ${PASSWORD}`,
    'save ""',
    'appendonly yes',
    'appendfsync always',
    'maxmemory-policy noeviction',
    'min-replicas-to-write 1',
    'repl-diskless-sync-delay 0',
    'repl-timeout 5',
    'repl-ping-replica-period 1',
    ...(host === primary ? [] : [`replicaof ${primary.address} ${PORT}`]),
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  host.units.set('redis', { command: 'redis-server', args: [file] });
}

function writeSentinel(host: Host, primary: Host): void {
  const dir = folder(host, 'sentinel');
  const file = join(dir, 'sentinel.conf');
  const lines = [
    `bind ${host.address}`,
    'protected-mode no',
    `port ${SENTINEL_PORT}`,
    `dir ${dir}`,
    `sentinel monitor ${NAME} ${primary.address} ${PORT} 2`,
    `sentinel auth-pass ${NAME} ${PASSWORD}`,
    `sentinel down-after-milliseconds ${NAME} ${DOWN_MS}`,
    `sentinel failover-timeout ${NAME} 5000`,
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  host.units.set('sentinel', { command: 'redis-server', args: [file, '--sentinel'] });
}

/** On the data that a server's own registry would have. */
function writeRegistry(host: Host): void {
  const file = join(folder(host, 'registry'), 'config.yml');
  const config = {
    version: 0.1,
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: join(host.dataDir, 'registry') }, delete: { enabled: true } },
    http: { addr: `${host.address}:${REGISTRY_PORT}`, secret: 'test' },
  };
  writeFileSync(file, JSON.stringify(config));
  host.units.set('registry', { command: 'docker-registry', args: ['serve', file] });
}

/** Undefined when it does not answer. */
async function ask<Value>(
  { address }: Host,
  port: number,
  question: (redis: Redis) => Promise<Value>,
): Promise<Value | undefined> {
  const secret = port === PORT ? { password: PASSWORD } : {};
  const options = { host: address, port, ...secret, connectTimeout: 1_000, commandTimeout: 1_000 };
  return askRedis(options, question);
}
