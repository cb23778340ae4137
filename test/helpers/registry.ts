/** A real docker-registry process on a free loopback port with a folder of its own, for one test file. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface TestRegistry {
  readonly url: string;
  readonly port: number;
  /** Where its blobs are, for tests that damage them. */
  readonly dataDir: string;
  /** Ends the process and keeps the data. */
  pause(): Promise<void>;
  /** Starts it again on the same port and data. */
  resume(): Promise<void>;
  /** Ends the process and removes the data. */
  stop(): Promise<void>;
}

const START_MS_MAX = 10_000;

export interface TestRegistryOptions {
  /** Lines of an htpasswd file (bcrypt); absent: no authentication. */
  readonly htpasswd?: string;
}

export async function startTestRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const dir = await mkdtemp(join(tmpdir(), 'skiff-registry-'));
  const port = await findFreePort();
  await writeFile(join(dir, 'config.yml'), await createConfig(dir, port, options));
  let child = await launch(dir, port);
  const pause = (): Promise<void> => end(child);
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    dataDir: join(dir, 'data'),
    pause,
    resume: async () => {
      child = await launch(dir, port);
    },
    stop: async () => {
      await pause();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function createConfig(dir: string, port: number, options: TestRegistryOptions): Promise<string> {
  const lines = [
    'version: 0.1',
    'log: { level: warn }',
    'storage:',
    `  filesystem: { rootdirectory: ${join(dir, 'data')} }`,
    '  delete: { enabled: true }',
    '  cache: { blobdescriptor: inmemory }',
    `http: { addr: "127.0.0.1:${port}", secret: test }`,
  ];
  if (options.htpasswd !== undefined) {
    await writeFile(join(dir, 'htpasswd'), options.htpasswd);
    lines.push(`auth: { htpasswd: { realm: test, path: ${join(dir, 'htpasswd')} } }`);
  }
  return lines.join('\n');
}

async function launch(dir: string, port: number): Promise<ChildProcess> {
  const child = spawn('docker-registry', ['serve', join(dir, 'config.yml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-4_000)));
  const deadline = Date.now() + START_MS_MAX;
  while (Date.now() < deadline && child.exitCode === null) {
    const status = await fetch(`http://127.0.0.1:${port}/v2/`).then(
      (reply) => reply.status,
      () => 0,
    );
    if (status === 200 || status === 401) return child;
    await delay(20);
  }
  await end(child);
  throw new Error(`docker-registry did not answer on port ${port}: ${errors}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Paths of the registry's files of one blob and of a repository's link to it. */
export function blobFile(dataDir: string, digest: string): string {
  const hex = digest.slice(7);
  return join(dataDir, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
}

export async function flipBit(file: string, offset: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[offset] = (bytes[offset] as number) ^ 1;
  await writeFile(file, bytes);
}
