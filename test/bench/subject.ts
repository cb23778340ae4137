/** Skiff itself as the subject: a whole server on ports and folders of its own, isolation on. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { firstByteMs } from './first-byte.ts';

const ROOT = join(import.meta.dirname, '../..');

export class Subject {
  readonly port: number;
  readonly client: Client;
  readonly dataDir: string;
  readonly #child: ChildProcess;

  private constructor(port: number, client: Client, dataDir: string, child: ChildProcess) {
    this.port = port;
    this.client = client;
    this.dataDir = dataDir;
    this.#child = child;
  }

  /** `env` over the defaults, for example SKIFF_LEASES=off. */
  static async start(port: number, env: Readonly<Record<string, string>>): Promise<Subject> {
    const dataDir = await mkdtemp(join(tmpdir(), 'skiff-bench-'));
    const child = spawn(process.execPath, [join(ROOT, 'infra/host/main.ts'), 'server'], {
      env: { ...process.env, SKIFF_DATA_DIR: dataDir, SKIFF_GATEWAY_PORT: String(port), ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
        if (line.startsWith('ready ')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    });
    const token = (await readFile(join(dataDir, 'admin.token'), 'utf8')).trim();
    return new Subject(port, createClient({ url: `http://127.0.0.1:${port}`, token }), dataDir, child);
  }

  /** Deploys a file or folder; milliseconds until it is live. */
  async deploy(name: string, path: string, config: Record<string, unknown> = {}): Promise<number> {
    const started = performance.now();
    const { files, entry } = findSource(path);
    await this.client.deploy(name, { source: () => packSource(files), entry, config });
    return performance.now() - started;
  }

  url(name: string): string {
    return `http://127.0.0.1:${this.port}/f/${name}`;
  }

  firstByteMs(name: string): Promise<number> {
    return firstByteMs(this.port, `/f/${name}`);
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await ended;
    await rm(this.dataDir, { recursive: true, force: true });
  }
}
