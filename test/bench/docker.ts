/**
 * B1: the same code under `docker run`. A dockerd of our own, away from the host's network and storage: private mount
 * namespace (crun and runc refuse this kernel's hybrid cgroups otherwise), no bridge, own folders and socket.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { stop } from './bare.ts';

const run = promisify(execFile);
const IMAGE = 'bench-hono';
const CHANGED = 'bench-changed';

export class Docker {
  readonly #folder: string;
  readonly #daemon: ChildProcess;

  private constructor(folder: string, daemon: ChildProcess) {
    this.#folder = folder;
    this.#daemon = daemon;
  }

  /** Undefined when there is no dockerd on this machine. */
  static async tryStart(): Promise<Docker | undefined> {
    if (!existsSync('/usr/sbin/dockerd')) return undefined;
    const folder = await mkdtemp(join(tmpdir(), 'skiff-bench-docker-'));
    const script =
      'umount /sys/fs/cgroup/unified 2>/dev/null; exec dockerd --iptables=false --ip6tables=false --bridge=none ' +
      '--storage-driver overlay2 --data-root "$0/data" --exec-root "$0/exec" -p "$0/pid" -H "unix://$0/sock"';
    const daemon = spawn('unshare', ['-m', 'sh', '-c', script, folder], { stdio: 'ignore' });
    const docker = new Docker(folder, daemon);
    const deadline = Date.now() + 30_000;
    while (
      !(await docker.#docker('info').then(
        () => true,
        () => false,
      ))
    ) {
      if (Date.now() > deadline || daemon.exitCode !== null) {
        await docker.close();
        return undefined;
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await docker.#importImage();
    return docker;
  }

  async close(): Promise<void> {
    await this.#docker('container', 'prune', '-f').catch(() => {});
    this.#daemon.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await stop(this.#daemon);
    await run('sh', [
      '-c',
      'for m in $(awk -v f="$0" \'index($2, f) == 1 {print $2}\' /proc/mounts); do umount -l "$m"; done',
      this.#folder,
    ]);
    await rm(this.#folder, { recursive: true, force: true });
  }

  /**
   * Milliseconds from `docker run` to the first byte. The answer is fetched inside the container's own network
   * namespace by the same process that serves it, since there is no bridge: it prints a line when it has answered
   * itself once, which is when a client could have had its first byte.
   */
  async coldMs(image = IMAGE): Promise<number> {
    const started = performance.now();
    const args = [
      'run',
      '--rm',
      '--network',
      'none',
      '-e',
      'PORT=8080',
      '-e',
      'SELF_TEST=1',
      image,
      '/usr/bin/node',
      '/app/hono.cjs',
    ];
    const { stdout } = await this.#docker(...args);
    if (!stdout.includes('first byte')) throw new Error(`docker run printed "${stdout}"`);
    const at = Number(/first byte at (\d+(?:\.\d+)?)/.exec(stdout)?.[1]);
    return at - (performance.timeOrigin + started);
  }

  /** Milliseconds of `docker build` of the image with one changed file (and a folder of packages), and of its run. */
  async buildAndRunMs(change: string, packages?: string): Promise<number> {
    const context = await mkdtemp(join(tmpdir(), 'skiff-bench-context-'));
    try {
      if (packages !== undefined) await cp(packages, join(context, 'node_modules'), { recursive: true });
      await writeFile(join(context, 'change.txt'), change);
      const copies = `COPY . /app/\n`;
      await writeFile(join(context, 'Dockerfile'), `FROM ${IMAGE}\n${copies}`);
      const started = performance.now();
      await this.#docker('build', '--network', 'none', '-q', '-t', CHANGED, context);
      const builtMs = performance.now() - started;
      return builtMs + (await this.coldMs(CHANGED));
    } finally {
      await rm(context, { recursive: true, force: true });
    }
  }

  #docker(...args: string[]) {
    return run('docker', ['-H', `unix://${join(this.#folder, 'sock')}`, ...args]);
  }

  /** A root file system with Node and the bundled app, from this machine's own files. */
  async #importImage(): Promise<void> {
    const root = join(this.#folder, 'root');
    await mkdir(join(root, 'usr/bin'), { recursive: true });
    await mkdir(join(root, 'app'), { recursive: true });
    await cp(process.execPath, join(root, 'usr/bin/node'), { dereference: true });
    const { stdout } = await run('ldd', [process.execPath]);
    for (const match of stdout.matchAll(/(\/\S+)/g)) {
      await cp(match[1] as string, join(root, match[1] as string), { dereference: true });
    }
    await build({
      entryPoints: [join(import.meta.dirname, 'apps', 'hono-self-test.mjs')],
      outfile: join(root, 'app/hono.cjs'),
      bundle: true,
      platform: 'node',
      format: 'cjs',
      logLevel: 'silent',
    });
    const tar = join(this.#folder, 'root.tar');
    await run('tar', ['-C', root, '-cf', tar, '.']);
    await this.#docker('import', tar, IMAGE);
    await rm(root, { recursive: true });
  }
}
