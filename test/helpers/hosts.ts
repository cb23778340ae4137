/**
 * Several hosts on this one: each a network namespace with an address of its own on one bridge, mounts and a host name of
 * its own, and a data folder. Faults are real: SIGKILL to all processes of a host, SIGSTOP, packets dropped by nft
 * inside its namespace.
 * Everything is named for this run and removed at its end, also when it fails.
 */
import { execFileSync, execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import type { ServerState } from '../../infra/contract/paths.ts';
import { findLeftovers, processesOf, takeSnapshot } from './leftovers.ts';
import { copySeed, plainEnv } from './server.ts';
import { ROOT } from './source-tree.ts';
import { waitFor } from './wait.ts';

const START_MS_MAX = 90_000;
const STOP_MS_MAX = 60_000;
const READY_MS_MAX = 30_000;

const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, [...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

export interface HostOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Top folder of the platform's code: another release than this one (copyRelease). */
  readonly root?: string;
  readonly diskMb?: number;
  readonly clockSkewMs?: number;
}

/** A program of a host beside Skiff, such as a store: it comes up with the host and dies with it. */
export interface Unit {
  readonly command: string;
  readonly args: readonly string[];
}

export class Host {
  readonly units = new Map<string, Unit>();
  readonly #unitProcesses = new Map<string, ChildProcess>();
  readonly name: string;
  readonly address: string;
  readonly namespace: string;
  readonly dataDir: string;
  readonly env: Record<string, string | undefined>;
  hasOwnDisk = false;
  #child: ChildProcess | undefined;
  #output = '';

  constructor(parts: { name: string; address: string; namespace: string }) {
    this.name = parts.name;
    this.address = parts.address;
    this.namespace = parts.namespace;
    // Short: sockets below it have paths of at most 107 bytes.
    this.dataDir = mkdtempSync(join(tmpdir(), 'sk-'));
    this.env = {
      ...plainEnv(),
      NODE_COMPILE_CACHE: join(ROOT, '.cache', 'compiled'),
      SKIFF_DATA_DIR: this.dataDir,
      SKIFF_RUNNER_STEMS: '1',
      // One at its start proves it; later ones would be sandboxes that a test did not ask for.
      SKIFF_RUNNER_PROBE_MS: '3600000',
      SKIFF_GATEWAY_HOST: this.address,
    };
  }

  /** A disk of its own for its data, in memory. Before its first start. */
  limitDisk(mb: number): void {
    run('mount', ['-t', 'tmpfs', '-o', `size=${mb}m,mode=700`, 'tmpfs', this.dataDir]);
    this.hasOwnDisk = true;
  }

  get url(): string {
    return `http://${this.address}:8080`;
  }

  get output(): string {
    return this.#output;
  }

  get token(): string {
    return readFileSync(join(this.dataDir, 'admin.token'), 'utf8').trim();
  }

  get client(): Client {
    return createClient({ url: this.url, token: this.token });
  }

  get nodeId(): string {
    const file = join(this.dataDir, 'swarm', 'node.json');
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { nodeId: string }).nodeId;
    return readFileSync(join(this.dataDir, 'runner', 'id'), 'utf8').trim();
  }

  get state(): ServerState {
    return JSON.parse(readFileSync(join(this.dataDir, 'run', 'server.json'), 'utf8')) as ServerState;
  }

  log(name: string): string {
    return readFileSync(join(this.dataDir, 'log', `${name}.log`), 'utf8');
  }

  pid(name: string): number {
    const pid = this.state.processes[name];
    if (pid === undefined) throw new Error(`${this.name} has no process "${name}"`);
    return pid;
  }

  get isRunning(): boolean {
    return isAlive(this.#child);
  }

  /** `infra/host/main.ts <args>` in this host; resolves when `ready` was printed. */
  async start(args: readonly string[] = ['server'], options: HostOptions = {}): Promise<void> {
    this.#output = '';
    this.startUnits();
    const program = [process.execPath, join(options.root ?? ROOT, 'infra/host/main.ts'), ...args];
    const child = this.#spawn(program, { ...this.env, ...options.env });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    try {
      await waitFor(
        `${this.name} is ready`,
        () => {
          if (!this.isRunning) throw new Error('it ended');
          return /^ready /m.test(this.#output);
        },
        START_MS_MAX,
      );
    } catch (error) {
      throw new Error(`${this.name} did not start; it said:\n${this.#output}`, { cause: error });
    }
  }

  /** Those that do not run. */
  startUnits(): void {
    for (const name of this.units.keys()) if (!isAlive(this.#unitProcesses.get(name))) this.startUnit(name);
  }

  startUnit(name: string): void {
    const { command, args } = this.units.get(name) as Unit;
    this.#unitProcesses.set(name, this.#spawn([command, ...args], plainEnv(), 'ignore'));
  }

  /** @returns whether it ran */
  signalUnit(name: string, signal: NodeJS.Signals): boolean {
    const child = this.#unitProcesses.get(name);
    return isAlive(child) && child.kill(signal);
  }

  isUnitAlive(name: string): boolean {
    return isAlive(this.#unitProcesses.get(name));
  }

  /** Everything up to the program is replaced by it: its pid is the child's. */
  #spawn(
    program: readonly string[],
    env: Record<string, string | undefined>,
    output: 'ignore' | 'pipe' = 'pipe',
  ): ChildProcess {
    const script = `hostname ${this.name}; exec "$@"`;
    const within = [`--net=/run/netns/${this.namespace}`, 'unshare', '--mount', '--uts', 'sh', '-c', script];
    const child = spawn('nsenter', [...within, 'sh', ...program], { env, stdio: ['ignore', output, output] });
    child.on('error', () => {});
    return child;
  }

  /** Runs a program in this host to its end; never rejects for its exit code. */
  async exec(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const full = [`--net=/run/netns/${this.namespace}`, ...args];
    return new Promise((resolve) => {
      execFile('nsenter', full, { env: this.env, timeout: 120_000 }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr }),
      );
    });
  }

  /** The command line against this host's server, as root on it would use it. */
  cli(args: readonly string[]): ReturnType<Host['exec']> {
    return this.exec([
      process.execPath,
      join(ROOT, 'sdk/cli/main.ts'),
      '-g',
      this.url,
      '--token',
      this.token,
      ...args,
    ]);
  }

  /** Without a URL and a token: for what concerns the host itself. */
  hostCli(args: readonly string[]): ReturnType<Host['exec']> {
    return this.exec([process.execPath, join(ROOT, 'sdk/cli/main.ts'), ...args]);
  }

  async deploy(name: string, path: string, config: Record<string, unknown> = {}): Promise<string> {
    const { files, entry } = findSource(path);
    const result = await this.client.deploy(name, { source: () => packSource(files), entry, config });
    return result.url;
  }

  /** As if the power failed: every process of this host is gone at once. Its data folder stays. */
  async crash(): Promise<void> {
    const own = [...pidsIn(this.namespace), ...pidsOf(this.dataDir)];
    // Whoever calls from this process did not while it looked; they are to be hit in mid-call.
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const pid of new Set([...own, ...pidsIn(this.namespace)])) tryKill(pid, 'SIGKILL');
    for (const pid of pidsOf(this.dataDir)) tryKill(pid, 'SIGKILL');
    const units = [...this.#unitProcesses.values()];
    await waitFor('the end of the host', () => !this.isRunning && !units.some(isAlive), 10_000);
  }

  /** Stops all processes of the host (not the functions', which have a network of their own) where they are. */
  freeze(): void {
    for (const pid of pidsIn(this.namespace)) tryKill(pid, 'SIGSTOP');
  }

  thaw(): void {
    for (const pid of pidsIn(this.namespace)) tryKill(pid, 'SIGCONT');
  }

  /**
   * Drops packets between this host and those addresses until `heal`: both ways, or only those it sends (`out`) or
   * gets (`in`).
   */
  cutOff(
    addresses: readonly string[],
    ports: readonly number[] = [],
    direction: 'both' | 'in' | 'out' = 'both',
  ): void {
    const list = `{ ${addresses.join(', ')} }`;
    const port = ports.length === 0 ? '' : `tcp dport { ${ports.join(', ')} } `;
    const back = ports.length === 0 ? '' : `tcp sport { ${ports.join(', ')} } `;
    this.#nft(`add table inet cut
      add chain inet cut in { type filter hook input priority 0; }
      add chain inet cut out { type filter hook output priority 0; }
      ${direction === 'out' ? '' : `add rule inet cut in ip saddr ${list} ${back}drop`}
      ${direction === 'in' ? '' : `add rule inet cut out ip daddr ${list} ${port}drop`}`);
  }

  /** Loses this share of all packets, in both directions, until `heal`. */
  losePackets(percent: number): void {
    this.#nft(`add table inet cut
      add chain inet cut in { type filter hook input priority 0; }
      add chain inet cut out { type filter hook output priority 0; }
      add rule inet cut in iif != lo numgen random mod 100 < ${percent} drop
      add rule inet cut out oif != lo numgen random mod 100 < ${percent} drop`);
  }

  heal(): void {
    // Also when there is nothing to heal.
    this.#nft('add table inet cut\ndelete table inet cut');
  }

  /** Of sandboxes that run here, as the kernel knows them; stems, which have no function yet, are not among them. */
  functionProcesses(): { pid: number; title: string; cgroup: string }[] {
    return pidsOf(this.dataDir)
      .map((pid) => ({
        pid,
        title: tryRead(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim(),
        cgroup: tryRead(`/proc/${pid}/cgroup`),
      }))
      .filter(({ title }) => /^skiff (?!stem)/.test(title));
  }

  /** A thin line: what it sends waits in a queue of at most `queueMs`, until `speedUp`. */
  slowDown(kbit: number, queueMs: number): void {
    const shape = `root tbf rate ${kbit}kbit burst 16kb latency ${queueMs}ms`.split(' ');
    run('tc', ['-n', this.namespace, 'qdisc', 'replace', 'dev', this.#device, ...shape]);
  }

  speedUp(): void {
    run('tc', ['-n', this.namespace, 'qdisc', 'replace', 'dev', this.#device, 'root', 'pfifo']);
  }

  /** Its clock is wrong by this much, from its next start on (its own programs': sandboxes and stores are right). */
  skewClock(ms: number): void {
    const code = `const R = Date, skew = ${ms}; globalThis.Date = class Date extends R {
      constructor(...a) { if (a.length) super(...a); else super(R.now() + skew); }
      static now() { return R.now() + skew; } };`;
    this.env['NODE_OPTIONS'] = `--import=data:text/javascript,${encodeURIComponent(code)}`;
  }

  /** Fills the disk of its data, which must be one of its own (`diskMb`); `freeDisk` makes room again. */
  async fillDisk(): Promise<void> {
    await this.exec(['sh', '-c', `cat /dev/zero > "${this.#filler}" 2>/dev/null || true`]);
  }

  freeDisk(): void {
    rmSync(this.#filler, { force: true });
  }

  get #filler(): string {
    return join(this.dataDir, 'filler');
  }

  /** Its end of the line to the bridge. */
  get #device(): string {
    return this.namespace.replace(/^sk(\w+)-(\d+)$/, 'skw$1$2');
  }

  async stop(): Promise<void> {
    this.thaw();
    if (!this.isRunning) return;
    this.#child?.kill('SIGTERM');
    await waitFor(`the end of ${this.name}`, () => !this.isRunning, STOP_MS_MAX).catch(() => this.crash());
  }

  #nft(script: string): void {
    execFileSync('nsenter', [`--net=/run/netns/${this.namespace}`, 'nft', '-f', '-'], { input: script });
  }
}

export class HostNetwork {
  readonly #id = randomBytes(3).toString('hex');
  readonly #subnet: string;
  readonly #before = takeSnapshot();
  readonly hosts: Host[] = [];

  constructor() {
    const [a = 0, b = 0] = randomBytes(2);
    this.#subnet = `10.${100 + (a % 100)}.${b}`;
    run('ip', ['link', 'add', this.#bridge, 'type', 'bridge']);
    run('ip', ['addr', 'add', `${this.address}/24`, 'dev', this.#bridge]);
    run('ip', ['link', 'set', this.#bridge, 'up']);
  }

  /** Of this side of the bridge: what listens there is reached by all hosts. */
  get address(): string {
    return `${this.#subnet}.254`;
  }

  get #bridge(): string {
    return `skb${this.#id}`;
  }

  add(name: string): Host {
    const number = this.hosts.length + 1;
    const namespace = `sk${this.#id}-${number}`;
    const address = `${this.#subnet}.${number}`;
    const [outer, inner] = [`skv${this.#id}${number}`, `skw${this.#id}${number}`];
    run('ip', ['netns', 'add', namespace]);
    const host = new Host({ name, address, namespace });
    this.hosts.push(host);
    run('ip', ['link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', namespace]);
    run('ip', ['link', 'set', outer, 'master', this.#bridge, 'up']);
    run('ip', ['-n', namespace, 'addr', 'add', `${address}/24`, 'dev', inner]);
    run('ip', ['-n', namespace, 'link', 'set', inner, 'up']);
    run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    return host;
  }

  /** A server of its own, with the prepared base image, as the first manager of a swarm. */
  async startManager(name: string, options: HostOptions = {}): Promise<Host> {
    const host = this.add(name);
    copySeed(host.dataDir);
    await host.start(['server'], options);
    await host.client.swarm.init({ advertiseAddr: host.address });
    return host;
  }

  async join(
    manager: Host,
    name: string | Host,
    role: 'worker' | 'manager' = 'worker',
    options: HostOptions = {},
  ): Promise<Host> {
    const host = typeof name === 'string' ? this.add(name) : name;
    if (options.diskMb !== undefined) host.limitDisk(options.diskMb);
    if (options.clockSkewMs !== undefined) host.skewClock(options.clockSkewMs);
    const { token, managers } = await manager.client.swarm.joinToken(role);
    // As units and manifests do it: a server that joins when it is in no swarm yet.
    host.env['SKIFF_JOIN_MANAGER'] = managers[0];
    host.env['SKIFF_JOIN_TOKEN'] = token;
    await host.start(['server'], options);
    const find = async () => (await manager.client.nodes()).find(({ id }) => id === host.nodeId);
    try {
      await waitFor(`${host.name} is ready`, async () => (await find())?.status === 'ready', READY_MS_MAX);
    } catch (error) {
      const known = JSON.stringify(await find().catch(String));
      throw new Error(`${known}\n${host.log('runner').slice(-3_000)}`, { cause: error });
    }
    return host;
  }

  /** Ends everything; rejects when a process is left. */
  async close(): Promise<void> {
    const left: string[] = [];
    // Whoever has the stores goes last; those that only use them need not wait for each other.
    const [first, ...others] = this.hosts;
    await Promise.all(others.map((host) => host.stop().catch((error: unknown) => left.push(String(error)))));
    await first?.stop().catch((error: unknown) => left.push(String(error)));
    for (const host of this.hosts) {
      for (const pid of [...pidsIn(host.namespace), ...pidsOf(host.dataDir)]) tryKill(pid, 'SIGKILL');
      await waitFor('the end of all processes', () => processesOf(host.dataDir).length === 0, 10_000).catch(
        () => left.push(...processesOf(host.dataDir)),
      );
      run('ip', ['netns', 'del', host.namespace]);
      unmountBelow(host.dataDir);
      if (host.hasOwnDisk) run('umount', ['-l', host.dataDir]);
      left.push(...findLeftovers(this.#before, host.dataDir));
      rmSync(host.dataDir, { recursive: true, force: true });
    }
    run('ip', ['link', 'del', this.#bridge]);
    if (left.length > 0) throw new Error(`hosts left:\n  ${left.join('\n  ')}`);
  }
}

/** A crashed host's sandboxes leave mounts, which its next start would clean up. */
function unmountBelow(dataDir: string): void {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point.startsWith(`${dataDir}/`));
  for (const point of points.toReversed()) run('umount', ['-l', point]);
}

/** This release with other versions of its protocols, as a later one would have them. The caller removes the folder. */
export function copyRelease(spoken: { readonly protocol: number; readonly protocolMin: number }): string {
  const root = mkdtempSync(join(tmpdir(), 'sk-release-'));
  for (const name of ['sdk', 'infra', 'gateway', 'builder', 'runner', 'package.json', 'tsconfig.json'])
    cpSync(join(ROOT, name), join(root, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  const file = join(root, 'sdk/protocol/versions.ts');
  const text = readFileSync(file, 'utf8').replaceAll(
    '{ protocol: 1, protocolMin: 1 }',
    `{ protocol: ${spoken.protocol}, protocolMin: ${spoken.protocolMin} }`,
  );
  writeFileSync(file, text);
  return root;
}

function isAlive(child: ChildProcess | undefined): child is ChildProcess {
  return child !== undefined && child.exitCode === null && child.signalCode === null;
}

function tryKill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended already.
  }
}

function pidsIn(namespace: string): number[] {
  const { ino } = statSync(`/run/netns/${namespace}`);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => tryReadLink(`/proc/${pid}/ns/net`) === `net:[${ino}]`);
}

function pidsOf(dataDir: string): number[] {
  return processesOf(dataDir).map((text) => Number(text.split(' ')[1]));
}

function tryRead(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function tryReadLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
