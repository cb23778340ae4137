/**
 * Code that runs inside a real sandbox: the function fixtures/functions/probe evaluates what a test sends. A test
 * writes the attack as a function beside its expectation; it is sent as text, so it sees only its parameters.
 */
import type * as childProcess from 'node:child_process';
import type * as dgram from 'node:dgram';
import type * as dns from 'node:dns/promises';
import type * as fs from 'node:fs';
import type * as net from 'node:net';
import type * as os from 'node:os';
import type * as timers from 'node:timers/promises';
import type * as vm from 'node:vm';
import type * as workerThreads from 'node:worker_threads';
import { dirname, join } from 'node:path';
import { readFileSync, readdirSync } from 'node:fs';
import { createHash } from 'node:crypto';
import type { FunctionConfigInput } from '../../sdk/protocol/manifest.ts';
import { ClientError, createClient } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { functionFixture } from '../helpers/fixtures.ts';
import { refreshSeed } from '../helpers/server-seed.ts';
import { startServer, type TestServer } from '../helpers/server.ts';

interface BuiltIns {
  child_process: typeof childProcess;
  dgram: typeof dgram;
  'dns/promises': typeof dns;
  fs: typeof fs;
  net: typeof net;
  os: typeof os;
  'timers/promises': typeof timers;
  vm: typeof vm;
  worker_threads: typeof workerThreads;
}

/** What an attack may use; made in the fixture. */
export interface Tools {
  /** A system call by number: its result, or minus the errno. Strings and bytes become pointers. */
  syscall(number: number, ...args: (number | bigint | string | Uint8Array)[]): number;
  load<Name extends keyof BuiltIns>(name: Name): BuiltIns[Name];
  /** Runs machine code of a function without parameters. */
  execute(code: Uint8Array): number;
}

export const EPERM = -1;
export const ENOSYS = -38;

export interface Answer<Value> {
  readonly status: number;
  readonly value?: Value;
  readonly error?: string;
  readonly code?: string;
  /** Of a failed invocation. */
  readonly cause?: string;
}

export class Probe {
  readonly name: string;
  readonly url: string;

  constructor(name: string, url: string) {
    this.name = name;
    this.url = url;
  }

  /** Everything that came back, also a failure. */
  async send<Args extends unknown[], Value>(
    attack: (tools: Tools, ...args: Args) => Promise<Value> | Value,
    ...args: Args
  ): Promise<Answer<Value>> {
    const response = await fetch(this.url, {
      method: 'POST',
      body: JSON.stringify({ code: String(attack), args }),
    });
    const text = await response.text();
    try {
      return { status: response.status, ...(JSON.parse(text) as Omit<Answer<Value>, 'status'>) };
    } catch {
      throw new Error(`probe ${this.name} answered ${response.status} ${text.slice(0, 500)}`);
    }
  }

  /** The attack's value; rejects when it threw or its sandbox died. */
  async run<Args extends unknown[], Value>(
    attack: (tools: Tools, ...args: Args) => Promise<Value> | Value,
    ...args: Args
  ): Promise<Value> {
    const answer = await this.send(attack, ...args);
    if (!('value' in answer)) throw new Error(`inside ${this.name}: ${JSON.stringify(answer)}`);
    return answer.value;
  }
}

export interface Bench {
  readonly server: TestServer;
  readonly runtime: string;
  deploy(name: string, config?: FunctionConfigInput): Promise<Probe>;
  /** A small ordinary function, to see that neighbours live. */
  deployNeighbour(name: string): Promise<string>;
}

export async function openBench(runtime: string, env: Record<string, string> = {}): Promise<Bench> {
  const server = await startServer({ env: { SKIFF_RUNTIME: runtime, ...env } });
  try {
    await refreshSeed(server);
  } catch (error) {
    await server.stop().catch(() => {});
    throw error;
  }
  const client = createClient({ url: server.url, token: server.adminToken });
  const deployFrom = async (path: string, name: string, config: FunctionConfigInput): Promise<string> => {
    const { files, entry } = findSource(path);
    try {
      return (await client.deploy(name, { source: () => packSource(files), entry, config })).url;
    } catch (error) {
      const isOurs = error instanceof ClientError && error.code === 'INTERNAL';
      throw isOurs ? new Error(server.log('builder').slice(-4_000), { cause: error }) : error;
    }
  };
  return {
    server,
    runtime,
    async deploy(name, config = {}) {
      const settings = { memory: '512MB', timeout: '60s', concurrency: 4, ...config };
      return new Probe(name, await deployFrom(functionFixture('probe'), name, settings));
    },
    deployNeighbour: (name) => deployFrom(functionFixture('echo.ts'), name, { memory: '128MB' }),
  };
}

/** Host processes of the sandboxes of one server, without the runtime's own. */
export function sandboxPids(server: TestServer): number[] {
  const mark = cgroupName(server);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => tryRead(`/proc/${pid}/cgroup`).includes(`${mark}/`) && innerUid(pid) > 1_000_000);
}

function innerUid(pid: number): number {
  return Number(/^Uid:\s+(\d+)/m.exec(tryRead(`/proc/${pid}/status`))?.[1] ?? 0);
}

/** The cgroup above all sandboxes of a server (runner/main.ts names it so). */
export function cgroupName(server: TestServer): string {
  return `skiff-${createHash('sha256').update(server.dataDir).digest('hex').slice(0, 8)}`;
}

export function tryRead(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

const KNOBS = [
  '/proc/sys/kernel/core_pattern',
  '/proc/sys/kernel/modprobe',
  '/proc/sys/kernel/hostname',
  '/proc/sys/kernel/randomize_va_space',
  '/proc/sys/kernel/sysrq',
  '/proc/sys/kernel/panic',
  '/proc/sys/kernel/pid_max',
  '/proc/sys/vm/overcommit_memory',
  '/proc/sys/vm/panic_on_oom',
  '/proc/sys/vm/swappiness',
  '/proc/sys/fs/suid_dumpable',
  '/proc/sys/fs/file-max',
  '/proc/sys/net/ipv4/conf/all/rp_filter',
  '/proc/sys/net/core/somaxconn',
  '/proc/sys/user/max_user_namespaces',
  '/sys/kernel/uevent_helper',
  '/sys/fs/cgroup/memory/release_agent',
  '/sys/fs/cgroup/memory/notify_on_release',
];

/** What no sandbox may change: kernel knobs by content, programs of the host by digest. */
export function hostSnapshot(runtime: string): Record<string, string> {
  const knobs = KNOBS.map((file) => [file, tryRead(file)] as const);
  const programs = [
    process.execPath,
    `/usr/bin/${runtime}`,
    `/usr/sbin/${runtime}`,
    '/bin/sh',
    '/usr/bin/env',
  ];
  const digests = programs.map((file) => [file, digestOf(file)] as const);
  return Object.fromEntries([...knobs, ...digests]);
}

function digestOf(file: string): string {
  try {
    return createHash('sha256').update(readFileSync(file)).digest('hex');
  } catch {
    return 'absent';
  }
}

/** Digests of all files of unpacked layers and roots: what sandboxes share through the page cache. */
export function storeDigests(server: TestServer): Map<string, string> {
  const store = join(server.dataDir, 'runner', 'store');
  const entries = readdirSync(store, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  const files = entries.map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    files.filter((file) => !dirname(file).endsWith('store')).map((file) => [file, digestOf(file)]),
  );
}
