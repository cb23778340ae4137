/** A real Redis Cluster on one address of this host: three primaries with a third of the slots each, and a replica of each if asked for. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from './ports.ts';
import { waitFor } from './wait.ts';

export interface TestCluster {
  /** `redis+cluster://…`, as in SKIFF_REDIS_URL, without a number of cells. */
  readonly url: string;
  readonly primaries: readonly number[];
  /** redis-cli against one node. */
  cli(port: number, ...args: string[]): string;
  /** Node id as the cluster knows it. */
  idOf(port: number): string;
  /** Ports of the nodes that are primaries now. */
  primariesNow(): number[];
  /** How many keys each primary has. */
  sizes(): number[];
  /** All of `ports` agree that every slot is served. */
  untilWhole(ports?: readonly number[]): Promise<void>;
  kill(port: number): Promise<void>;
  /** Again, with what it had. */
  start(port: number): void;
  close(): Promise<void>;
}

const PRIMARIES = 3;
const settingsOf = (address: string, hasReplicas: boolean): string =>
  `--bind ${address} --protected-mode no ` +
  '--cluster-enabled yes --cluster-node-timeout 1000 --cluster-allow-replica-migration no ' +
  '--appendonly yes --appendfsync always --maxmemory-policy noeviction --maxmemory 256mb ' +
  `--repl-diskless-sync-delay 0 --repl-ping-replica-period 1 --min-replicas-to-write ${hasReplicas ? 1 : 0}`;

export async function startRedisCluster(
  options: {
    readonly hasReplicas?: boolean;
    /** Absent: loopback. */
    readonly address?: string;
  } = {},
): Promise<TestCluster> {
  const { address = '127.0.0.1' } = options;
  const folder = mkdtempSync(join(tmpdir(), 'skiff-cluster-'));
  const count = options.hasReplicas ? PRIMARIES * 2 : PRIMARIES;
  // The bus of a node has a port of its own.
  const all = await freePorts(count * 2);
  const ports = all.slice(0, count);
  const settings = settingsOf(address, options.hasReplicas === true);
  const processes = new Map<number, ChildProcess>();
  function start(port: number): void {
    const dir = join(folder, String(port));
    mkdirSync(dir, { recursive: true });
    const bus = String(all[count + ports.indexOf(port)]);
    const own = ['--port', String(port), '--cluster-port', bus, '--dir', dir, '--save', ''];
    const child = spawn('redis-server', [...settings.split(' '), ...own], { stdio: 'ignore' });
    child.on('error', () => {});
    processes.set(port, child);
  }
  for (const port of ports) start(port);

  const cli = (port: number, ...args: string[]): string =>
    execFileSync('redis-cli', ['-h', address, '-p', String(port), ...args], {
      encoding: 'utf8',
      stdio: 'pipe',
    }).trim();
  const tryCli = (port: number, ...args: string[]): string => {
    try {
      return cli(port, ...args);
    } catch {
      return '';
    }
  };
  const alive = (): number[] => ports.filter((port) => processes.has(port));

  const cluster: TestCluster = {
    url: `redis+cluster://${ports.map((port) => `${address}:${port}`).join(',')}`,
    primaries: ports.slice(0, PRIMARIES),
    cli,
    idOf: (port) => cli(port, 'cluster', 'myid'),
    primariesNow: () => alive().filter((port) => tryCli(port, 'role').startsWith('master')),
    sizes: () => cluster.primaries.map((port) => Number(cli(port, 'dbsize'))),
    async untilWhole(asked = alive()) {
      await waitFor(
        'a whole cluster',
        () =>
          asked.every((port) => {
            const info = tryCli(port, 'cluster', 'info');
            return /cluster_state:ok/.test(info) && new RegExp(`cluster_known_nodes:${count}\\b`).test(info);
          }),
        30_000,
      );
    },
    start,
    async kill(port) {
      const child = processes.get(port);
      processes.delete(port);
      if (!child || child.exitCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
    async close() {
      await Promise.all(ports.map((port) => cluster.kill(port)));
      rmSync(folder, { recursive: true, force: true });
    },
  };

  try {
    await waitFor('servers', () => ports.every((port) => tryCli(port, 'ping') === 'PONG'), 20_000);
    const slots = 16_384;
    for (const [i, port] of cluster.primaries.entries()) {
      const first = Math.floor((i * slots) / PRIMARIES);
      const last = Math.floor(((i + 1) * slots) / PRIMARIES) - 1;
      cli(port, 'cluster', 'addslotsrange', String(first), String(last));
      // Epochs of their own, so that nodes need not agree on who is which first.
      cli(port, 'cluster', 'set-config-epoch', String(i + 1));
    }
    for (const [i, port] of ports.entries())
      cli(ports[0] as number, 'cluster', 'meet', address, String(port), String(all[count + i]));
    await cluster.untilWhole();
    for (const [i, port] of ports.slice(PRIMARIES).entries())
      cli(port, 'cluster', 'replicate', cluster.idOf(cluster.primaries[i] as number));
    await waitFor(
      'replicas in step',
      () =>
        count === PRIMARIES ||
        cluster.primaries.every((port) => /state=online/.test(cli(port, 'info', 'replication'))),
      30_000,
    );
  } catch (error) {
    await cluster.close();
    throw error;
  }
  return cluster;
}
