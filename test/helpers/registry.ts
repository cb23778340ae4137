/** A real docker-registry process on a free loopback port with a folder of its own, for one test file. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
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
  /** PEM; absent: plain text. */
  readonly tls?: { readonly certificate: string; readonly privateKey: string };
}

export async function startTestRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const dir = await mkdtemp(join(tmpdir(), 'skiff-registry-'));
  const port = await findFreePort();
  await writeFile(join(dir, 'config.yml'), await createConfig(dir, port, options));
  const url = `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`;
  let child = await launch(dir, url);
  const pause = (): Promise<void> => end(child);
  return {
    url,
    port,
    dataDir: join(dir, 'data'),
    pause,
    resume: async () => {
      child = await launch(dir, url);
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
    `http:`,
    `  addr: "127.0.0.1:${port}"`,
    '  secret: test',
  ];
  if (options.tls) {
    const files = { certificate: join(dir, 'tls.crt'), key: join(dir, 'tls.key') };
    await writeFile(files.certificate, options.tls.certificate);
    await writeFile(files.key, options.tls.privateKey);
    lines.push('  tls:', `    certificate: ${files.certificate}`, `    key: ${files.key}`);
  }
  if (options.htpasswd !== undefined) {
    await writeFile(join(dir, 'htpasswd'), options.htpasswd);
    lines.push(`auth: { htpasswd: { realm: test, path: ${join(dir, 'htpasswd')} } }`);
  }
  return lines.join('\n');
}

async function launch(dir: string, url: string): Promise<ChildProcess> {
  const child = spawn('docker-registry', ['serve', join(dir, 'config.yml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-4_000)));
  const deadline = Date.now() + START_MS_MAX;
  while (Date.now() < deadline && child.exitCode === null) {
    if (await answers(url)) return child;
    await delay(20);
  }
  await end(child);
  throw new Error(`docker-registry did not answer at ${url}: ${errors}`);
}

/** Whoever it says it is: this only asks whether it has begun to listen. */
function answers(url: string): Promise<boolean> {
  const get = url.startsWith('https') ? https.get : http.get;
  return new Promise((resolve) => {
    const request = get(`${url}/v2/`, { rejectUnauthorized: false, agent: false }, (reply) => {
      reply.resume();
      resolve(reply.statusCode === 200 || reply.statusCode === 401);
    });
    request.on('error', () => resolve(false));
  });
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
