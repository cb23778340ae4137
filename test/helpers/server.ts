/**
 * A whole `skiff server` for a test: own ports, own data folder, real everything. Its base images come from a seed
 * that a test run brings up to date once (server-seed.ts), so that starting one takes a second or two.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ServerState } from '../../infra/contract/paths.ts';
import type { DeployResult } from '../../sdk/protocol/api.ts';
import { findLeftovers, takeSnapshot, type Snapshot } from './leftovers.ts';
import { freePorts } from './ports.ts';
import { ROOT } from './source-tree.ts';
import { waitFor } from './wait.ts';

/** What server-seed.ts keeps of a server for those after it, and where it is below a data folder. */
export const SEED_DIR = join(ROOT, '.cache', 'server-seed');
export const SEEDED = { registry: 'registry', store: 'runner/store', notes: 'builder/base' } as const;

/** With its hard links: the store's root filesystems share their files with its layers. */
export function copyTree(from: string, to: string): void {
  execFileSync('cp', ['-a', '--reflink=auto', from, to]);
}

/** Gives a new data folder the base images, if there is a seed. */
export function copySeed(dataDir: string): void {
  if (!existsSync(SEED_DIR)) return;
  const seed = realpathSync(SEED_DIR);
  for (const folder of Object.values(SEEDED)) {
    mkdirSync(dirname(join(dataDir, folder)), { recursive: true, mode: 0o700 });
    // A seed of an earlier checkout may lack one.
    if (existsSync(join(seed, folder))) copyTree(join(seed, folder), join(dataDir, folder));
  }
}

const START_MS_MAX = 60_000;
const STOP_MS_MAX = 60_000;

export interface ServerOptions {
  /** SKIFF_* settings and others, beside those that make it independent. */
  readonly env?: Readonly<Record<string, string>>;
  /** Of an earlier server that was stopped with `keepData`, or killed. */
  readonly dataDir?: string;
  /** Start without the prepared base images. */
  readonly isUnseeded?: boolean;
}

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class TestServer {
  readonly url: string;
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly #child: ChildProcess;
  readonly #before: Snapshot;
  #output = '';

  constructor(parts: {
    url: string;
    dataDir: string;
    env: Readonly<Record<string, string | undefined>>;
    before: Snapshot;
  }) {
    this.url = parts.url;
    this.dataDir = parts.dataDir;
    this.env = parts.env;
    this.#before = parts.before;
    this.#child = spawn(process.execPath, [join(ROOT, 'infra/host/main.ts'), 'server'], {
      env: { ...parts.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    }
  }

  /** What it printed. */
  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get adminToken(): string {
    return readFileSync(join(this.dataDir, 'admin.token'), 'utf8').trim();
  }

  /** server.json: pids by process name, URLs. */
  get state(): ServerState {
    return JSON.parse(readFileSync(join(this.dataDir, 'run', 'server.json'), 'utf8')) as ServerState;
  }

  /** The log file of one process, as text. */
  log(name: string): string {
    return readFileSync(join(this.dataDir, 'log', `${name}.log`), 'utf8');
  }

  /** GET, or what `init` says, with the admin token unless it brings another authorization. */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (!headers.has('authorization')) headers.set('authorization', `Bearer ${this.adminToken}`);
    return await fetch(new URL(path, this.url), { ...init, headers });
  }

  /** Runs the command line against this server, as a person would. Never rejects for its exit code. */
  async cli(args: readonly string[], options: { cwd?: string; msMax?: number } = {}): Promise<CliResult> {
    const settings = {
      cwd: options.cwd ?? ROOT,
      env: { ...this.env, SKIFF_URL: this.url },
      timeout: options.msMax ?? 120_000,
    };
    return await new Promise((resolve) => {
      execFile(
        process.execPath,
        [join(ROOT, 'sdk/cli/main.ts'), ...args],
        settings,
        (error, stdout, stderr) => {
          resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr });
        },
      );
    });
  }

  /** `skiff deploy --json`; rejects with what the command said. */
  async deploy(path: string, args: readonly string[] = []): Promise<DeployResult> {
    const { code, stdout, stderr } = await this.cli(['deploy', path, '--json', ...args]);
    if (code !== 0) throw new Error(`skiff deploy ${path} ended with ${code}: ${stderr || stdout}`);
    return JSON.parse(stdout) as DeployResult;
  }

  /** Sends a signal to one of the server's processes: `gateway`, `runner`, `redis`, … Returns its pid. */
  kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): number {
    const pid = this.state.processes[name];
    if (pid === undefined) throw new Error(`no process "${name}" in ${JSON.stringify(this.state.processes)}`);
    process.kill(pid, signal);
    return pid;
  }

  /** SIGKILL to the supervisor itself. Its data stays: hand `dataDir` to the next one. */
  async crash(): Promise<void> {
    this.#child.kill('SIGKILL');
    await waitFor('the end of the supervisor', () => this.hasEnded);
  }

  /** Stops it as Ctrl-C does and rejects when anything is left: a process, a mount, a cgroup, … */
  async stop(options: { keepData?: boolean } = {}): Promise<void> {
    if (!this.hasEnded) this.#child.kill('SIGINT');
    try {
      await waitFor('the end of the server', () => this.hasEnded, STOP_MS_MAX);
      const left = findLeftovers(this.#before, this.dataDir);
      if (left.length > 0) throw new Error(`the server left:\n  ${left.join('\n  ')}`);
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw error;
    } finally {
      if (options.keepData !== true) rmSync(this.dataDir, { recursive: true, force: true });
    }
  }
}

/** This process's environment without what would leak into the server: settings of Skiff, vitest and Node. */
export function plainEnv(): Record<string, string | undefined> {
  const isForeign = (name: string) =>
    /^(?:SKIFF_|VITEST|OTEL_|NODE_(?!EXTRA_CA_CERTS)|(?:TEST|PROD|DEV|MODE|BASE_URL|SSR)$)/.test(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isForeign(name)));
}

/** Resolves when it printed its `ready` line. */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const before = takeSnapshot();
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'skiff-'));
  if (options.dataDir === undefined && options.isUnseeded !== true) copySeed(dataDir);
  const [gateway, registry, dashboard] = await freePorts(3);
  const env = {
    ...plainEnv(),
    NODE_COMPILE_CACHE: join(ROOT, '.cache', 'compiled'),
    SKIFF_DATA_DIR: dataDir,
    SKIFF_GATEWAY_PORT: String(gateway),
    SKIFF_REGISTRY_PORT: String(registry),
    SKIFF_DASHBOARD_PORT: String(dashboard),
    SKIFF_RUNNER_STEMS: '1',
    // One at its start proves it; later ones would be sandboxes that a test did not ask for.
    SKIFF_RUNNER_PROBE_MS: '3600000',
    ...options.env,
  };
  const server = new TestServer({ url: `http://127.0.0.1:${gateway}`, dataDir, env, before });
  try {
    await waitFor(
      'ready',
      () => {
        if (server.hasEnded) throw new Error('the server ended');
        return server.output.includes('ready http');
      },
      START_MS_MAX,
    );
  } catch (error) {
    await server.stop().catch(() => {});
    throw new Error(`the server did not start; it said:\n${server.output}`, { cause: error });
  }
  return server;
}
