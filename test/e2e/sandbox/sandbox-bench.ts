/** A sandbox host of its own for tests, and a small root file system made of this machine's node and libraries. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createLog } from '../../../infra/lib/log.ts';
import type { Sandbox, SandboxExit, SandboxHost, SandboxSpec } from '../../../infra/sandbox/contract.ts';
import { openSandboxHost } from '../../../infra/sandbox/host.ts';
import { createId } from '../../../sdk/protocol/ids.ts';

export const MB = 1024 * 1024;

/** crun is what Skiff installs; runc is checked as well where a machine has it. */
export const RUNTIMES = ['crun', 'runc'].filter((program) => {
  const isThere = spawnSync(program, ['--version']).status === 0;
  if (!isThere) process.stderr.write(`skipped: tests with ${program}, which is not installed\n`);
  return isThere;
});

const MOUNT_POINTS = ['proc', 'dev', 'tmp', 'run/secrets', 'run/skiff', 'var/task', 'work'];
const PROGRAMS = ['/bin/sh', '/bin/cat', '/bin/sleep'];

/** Hard links where the file system allows: node is 150 MB. */
function place(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

function librariesOf(program: string): string[] {
  return execFileSync('/usr/bin/ldd', [program], { encoding: 'utf8' }).match(/\/\S+\.so\S*/g) ?? [];
}

function makeRoot(folder: string): void {
  for (const point of MOUNT_POINTS) mkdirSync(join(folder, point), { recursive: true });
  place(realpathSync(process.execPath), join(folder, 'usr/bin/node'));
  for (const program of PROGRAMS)
    copyFileSync(
      realpathSync(program),
      (mkdirSync(join(folder, 'bin'), { recursive: true }), join(folder, program)),
    );
  for (const library of new Set([process.execPath, ...PROGRAMS].flatMap(librariesOf))) {
    mkdirSync(dirname(join(folder, library)), { recursive: true });
    copyFileSync(library, join(folder, library));
  }
}

export interface Finished extends SandboxExit {
  readonly stdout: string;
  readonly stderr: string;
}

/** Everything a test needs for one runtime; nothing of it remains after `close`. */
export class SandboxBench {
  readonly folder: string;
  readonly root: string;
  readonly cgroupParent: string;
  host!: SandboxHost;
  readonly #runtime: string;

  private constructor(runtime: string) {
    this.#runtime = runtime;
    this.folder = mkdtempSync(join(tmpdir(), 'skiff-sandbox-'));
    this.cgroupParent = `skiff-test-${process.pid}-${createId('sbx').slice(-6)}`;
    this.root = join(this.folder, 'root');
    makeRoot(this.root);
  }

  static async open(runtime = 'crun'): Promise<SandboxBench> {
    const bench = new SandboxBench(runtime);
    await bench.openHost();
    return bench;
  }

  get options() {
    return {
      stateDir: join(this.folder, 'state'),
      cgroupParent: this.cgroupParent,
      runtime: this.#runtime,
      uidBase: 1_500_000_000,
      log: createLog('test', 'silent'),
      memoryBytesMax: 1024 * MB,
    };
  }

  async openHost(): Promise<void> {
    this.host = await openSandboxHost(this.options);
  }

  spec(changes: Partial<SandboxSpec> = {}): SandboxSpec {
    return {
      id: createId('sbx'),
      lowerDirs: [this.root],
      args: ['/bin/sleep', '100'],
      env: { PATH: '/usr/bin:/bin' },
      memoryBytes: 256 * MB,
      cpu: 1,
      pidsMax: 64,
      tmpBytes: 16 * MB,
      isolation: 'strict',
      mounts: [],
      ...changes,
    };
  }

  launch(changes: Partial<SandboxSpec> = {}): Promise<Sandbox> {
    return this.host.launch(this.spec(changes));
  }

  /** Runs to the end. */
  async run(args: readonly string[], changes: Partial<SandboxSpec> = {}): Promise<Finished> {
    return finish(await this.launch({ ...changes, args }));
  }

  sh(script: string, changes: Partial<SandboxSpec> = {}): Promise<Finished> {
    return this.run(['/bin/sh', '-c', script], changes);
  }

  /** Runs JavaScript in the sandbox's own node; its last line of output is JSON. */
  async node(script: string, changes: Partial<SandboxSpec> = {}): Promise<unknown> {
    const heap = '--max-old-space-size=100';
    const finished = await this.run(['/usr/bin/node', heap, '-e', script], changes);
    const line = finished.stdout.trim().split('\n').at(-1) ?? '';
    if (line === '') throw new Error(`no output; ${JSON.stringify(finished)}`);
    return JSON.parse(line) as unknown;
  }

  /** Processes of this bench, runtimes and launchers included. */
  processes(): string[] {
    const list = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' });
    const own = `${process.pid} `;
    return list.split('\n').filter((line) => line.includes(this.folder) && !line.trimStart().startsWith(own));
  }

  /** What belongs to this bench on the host now. */
  leftovers(): string[] {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(this.folder));
    const kept = ['bundles', 'runtime'].flatMap((name) => {
      const folder = join(this.folder, 'state', name);
      return existsSync(folder) ? readdirSync(folder).map((entry) => join(folder, entry)) : [];
    });
    return [...findCgroups('-name', `${this.cgroupParent}*`), ...mounts, ...this.processes(), ...kept];
  }

  /** Folders of sandboxes below the parent group, in every hierarchy. */
  cgroupFolders(): string[] {
    const found = findCgroups('-type', 'd', '-path', `*/${this.cgroupParent}/*`);
    return found.filter((path) => !path.includes('/_launchers-'));
  }

  async close(): Promise<void> {
    await this.host.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function finish(sandbox: Sandbox): Promise<Finished> {
  let stdout = '';
  let stderr = '';
  sandbox.stdout.on('data', (text) => (stdout += text));
  sandbox.stderr.on('data', (text) => (stderr += text));
  const closed = Promise.all(
    [sandbox.stdout, sandbox.stderr].map((stream) => new Promise((resolve) => stream.once('close', resolve))),
  );
  const exit = await sandbox.exited;
  await closed;
  return { ...exit, stdout, stderr };
}

/** Groups of others may go while they are looked at: that is no error here, whatever `find` makes of it. */
function findCgroups(...tests: string[]): string[] {
  const args = ['/sys/fs/cgroup', '-ignore_readdir_race', ...tests];
  const { stdout, error } = spawnSync('find', args, { encoding: 'utf8' });
  if (error) throw error;
  return stdout.split('\n').filter(Boolean);
}
