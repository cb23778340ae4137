/** A real primary, its replica and three sentinels on loopback, as an operator would set them up for events. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { createAuthority, createKeyPair, issueLeaf } from '../../infra/swarm/certificates.ts';
import { askRedis } from './ask-redis.ts';
import { freePorts } from './ports.ts';
import { waitFor } from './wait.ts';

export interface SentinelCluster {
  readonly url: string;
  /** Certificate of the CA that signed theirs, if they are encrypted: for NODE_EXTRA_CA_CERTS. */
  readonly caFile: string | undefined;
  /** Port of the primary, as the sentinels say. */
  primaryPort(): Promise<number>;
  kill(port: number): Promise<void>;
  pause(port: number): void;
  resume(port: number): void;
  /** As a replica: its configuration says so since the fail-over, or the sentinels will. */
  start(port: number): void;
  /** The primary has a replica that is in step with it. */
  untilReplicated(): Promise<void>;
  close(): Promise<void>;
}

const NAME = 'skiff';
const DOWN_MS = 1_000;

/** A CA, and a certificate of it for 127.0.0.1. */
function writeCertificates(folder: string) {
  const authority = createAuthority('sentinel');
  const { privateKey, publicKey } = createKeyPair();
  const certificate = issueLeaf(authority, {
    publicKey,
    nodeId: 'store',
    role: 'manager',
    addresses: ['127.0.0.1'],
    lifeMs: 86_400_000,
  });
  const files = { 'ca-cert': authority.certificate, cert: certificate, key: privateKey };
  for (const [name, pem] of Object.entries(files)) writeFileSync(join(folder, `${name}.pem`), pem);
  const settings = Object.keys(files).map((name) => `tls-${name}-file ${join(folder, `${name}.pem`)}`);
  return {
    ca: authority.certificate,
    caFile: join(folder, 'ca-cert.pem'),
    settings: [...settings, 'tls-auth-clients no', 'tls-replication yes'],
  };
}

/** `isEncrypted`: stores and sentinels speak TLS and nothing else. */
export async function startSentinelCluster({ isEncrypted = false } = {}): Promise<SentinelCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'skiff-sentinel-'));
  const tls = isEncrypted ? writeCertificates(folder) : undefined;
  const listen = (port: number): string[] =>
    tls ? ['port 0', `tls-port ${port}`, ...tls.settings] : [`port ${port}`];
  const [first = 0, second = 0, ...sentinelPorts] = await freePorts(5);
  const processes = new Map<number, ChildProcess>();

  function run(port: number, args: readonly string[]): void {
    const child = spawn('redis-server', args, { stdio: 'ignore' });
    child.on('error', () => {});
    processes.set(port, child);
  }

  function start(port: number): void {
    const dir = join(folder, String(port));
    mkdirSync(dir, { recursive: true });
    const settings =
      `${listen(port)
        .map((line) => `--${line}`)
        .join(' ')} --bind 127.0.0.1 --appendonly yes --appendfsync always --maxmemory-policy noeviction ` +
      '--min-replicas-to-write 1 --repl-diskless-sync-delay 0 --repl-timeout 5 --repl-ping-replica-period 1';
    const other = port === second && processes.size < 2 ? ['--replicaof', `127.0.0.1 ${first}`] : [];
    run(port, [...settings.split(' '), '--dir', dir, '--save', '', ...other]);
  }

  function startSentinel(port: number): void {
    const dir = join(folder, String(port));
    mkdirSync(dir);
    const file = join(dir, 'sentinel.conf');
    const lines = [
      ...listen(port),
      'bind 127.0.0.1',
      `dir ${dir}`,
      `sentinel monitor ${NAME} 127.0.0.1 ${first} 2`,
      `sentinel down-after-milliseconds ${NAME} ${DOWN_MS}`,
      `sentinel failover-timeout ${NAME} 5000`,
    ];
    writeFileSync(file, `${lines.join('\n')}\n`);
    run(port, [file, '--sentinel']);
  }

  async function ask<Value>(
    port: number,
    question: (redis: Redis) => Promise<Value>,
  ): Promise<Value | undefined> {
    return askRedis({ host: '127.0.0.1', port, ...(tls && { tls: { ca: tls.ca } }) }, question);
  }

  async function primaryPort(): Promise<number> {
    const ports = await Promise.all(
      sentinelPorts.map((port) =>
        ask(port, async (redis) => {
          const [, found] = (await redis.call('SENTINEL', 'get-master-addr-by-name', NAME)) as string[];
          return Number(found);
        }),
      ),
    );
    // Two of three say so.
    const sorted = ports.filter((port) => port !== undefined).toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  }

  async function untilReplicated(): Promise<void> {
    await waitFor(
      'a replica in step',
      async () => {
        const info = await ask(await primaryPort(), (redis) => redis.info('replication'));
        return /role:master/.test(info ?? '') && /slave0:.*state=online/.test(info ?? '');
      },
      30_000,
    );
  }

  start(first);
  await waitFor('the primary', () => ask(first, (redis) => redis.ping()));
  start(second);
  await untilOnline();
  for (const port of sentinelPorts) startSentinel(port);
  await waitFor(
    'sentinels that know each other',
    async () => {
      const known = await Promise.all(
        sentinelPorts.map((port) => ask(port, (redis) => redis.call('SENTINEL', 'ckquorum', NAME))),
      );
      return known.every((text) => String(text).startsWith('OK 3 usable'));
    },
    20_000,
  );

  async function untilOnline(): Promise<void> {
    await waitFor(
      'the replica',
      async () => /state=online/.test((await ask(first, (redis) => redis.info('replication'))) ?? ''),
      20_000,
    );
  }

  return {
    caFile: tls?.caFile,
    url: `${tls ? 'rediss' : 'redis'}+sentinel://${sentinelPorts.map((port) => `127.0.0.1:${port}`).join(',')}/${NAME}`,
    primaryPort,
    start,
    untilReplicated,
    pause: (port) => void processes.get(port)?.kill('SIGSTOP'),
    resume: (port) => void processes.get(port)?.kill('SIGCONT'),
    async kill(port) {
      const child = processes.get(port);
      if (!child || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
    async close() {
      const all = [...processes.values()].filter(
        (child) => child.exitCode === null && child.signalCode === null,
      );
      const ends = all.map((child) => once(child, 'exit'));
      for (const child of all) child.kill('SIGKILL');
      await Promise.all(ends);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
