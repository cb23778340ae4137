/**
 * Local development: one HTTP server for one or several functions, each built and loaded again when its files change.
 *
 * Owns: the guest's bundle, the processes, the watcher and the temporary folder. Invariant: `close` leaves no process
 * and no file behind. Deliberately absent: isolation (functions run as this user), and anything printed (events.ts).
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { escapeHtml } from './serve/answer.ts';
import type { DevListener } from './events.ts';
import { FunctionHost } from './function-host.ts';
import { GuestProcess } from './serve/guest-process.ts';
import type { DevFunction } from './source/project.ts';
import { parseTarget } from './serve/request-head.ts';
import type { EnvSource } from './source/settings.ts';
import { Stems } from './serve/stems.ts';
import { watchFolders } from './watcher.ts';

export interface DevOptions {
  readonly functions: readonly DevFunction[];
  readonly cwd: string;
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  readonly env: EnvSource;
  /** This process's environment; functions get only PATH, HOME and the like of it. */
  readonly hostEnv: Readonly<Record<string, string | undefined>>;
  /** First inspector port; the second function gets the next one. */
  readonly inspectPort?: number | undefined;
  readonly hasColor: boolean;
  readonly onEvent: DevListener;
}

export interface DevServer {
  readonly url: string;
  urlOf(fn: DevFunction): string;
  close(): Promise<void>;
}

const GUEST = join(import.meta.dirname, '..', 'guest', 'main.ts');
/** What a function may know of this user's environment: as little as in a sandbox, but programs are found. */
const INHERITED = [
  'PATH',
  'HOME',
  'TMPDIR',
  'LANG',
  'LC_ALL',
  'TZ',
  'USER',
  'SSL_CERT_FILE',
  'NODE_EXTRA_CA_CERTS',
];

/** Resolves when it listens and every function has been built once. @throws when the port is taken */
export async function startDevServer(options: DevOptions): Promise<DevServer> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-dev-'));
  try {
    return await start(options, folder);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

async function start(options: DevOptions, folder: string): Promise<DevServer> {
  const { functions, inspectPort } = options;
  const program = await bundleGuest(folder);
  const hosts = new Map<string, FunctionHost>();
  const http = await listen(options, (request, response) => route(hosts, request, response));
  const { port } = http.address() as AddressInfo;
  const url = `http://${options.host}:${port}`;
  const urlOf = (name: string): string | undefined => (hosts.has(name) ? `${url}/f/${name}` : undefined);
  const allStems: Stems[] = [];
  const shared = createStems(options, folder, program, undefined);
  allStems.push(shared);
  for (const [i, fn] of functions.entries()) {
    const stems = inspectPort === undefined ? shared : createStems(options, folder, program, inspectPort + i);
    if (stems !== shared) allStems.push(stems);
    const isInspected = inspectPort !== undefined;
    hosts.set(
      fn.name,
      new FunctionHost({ ...options, fn, folder: join(folder, fn.name), stems, isInspected, urlOf }),
    );
  }
  await Promise.all([...hosts.values()].map((host) => host.reload()));
  const roots = functions.map(({ root }) => root);
  const watcher = await watchFolders([...roots, ...options.env.files], (paths) => {
    for (const host of hosts.values()) {
      const changed = paths.find((path) => host.concerns(path));
      if (changed !== undefined) void host.reload(changed).then(() => watcher.add(findOutside(host, roots)));
    }
  });
  for (const host of hosts.values()) watcher.add(findOutside(host, roots));
  return {
    url,
    urlOf: ({ name }) => (functions.length === 1 ? `${url}/` : `${url}/f/${name}`),
    async close() {
      await watcher.close();
      http.closeAllConnections();
      http.close();
      await Promise.all([...hosts.values()].map((host) => host.close()));
      await Promise.all(allStems.map((stems) => stems.close()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What a function imports from beside its folder, for example from a workspace. */
function findOutside(host: FunctionHost, roots: readonly string[]): string[] {
  return host.inputs.filter(
    (path) => !path.includes('/node_modules/') && !roots.some((root) => path.startsWith(`${root}/`)),
  );
}

async function bundleGuest(folder: string): Promise<string> {
  const outfile = join(folder, 'guest.cjs');
  await build({
    entryPoints: [GUEST],
    outfile,
    bundle: true,
    platform: 'node',
    target: `node${process.versions.node}`,
    format: 'cjs',
    charset: 'utf8',
    logLevel: 'silent',
  });
  return outfile;
}

let processes = 0;

function createStems(
  { cwd, hostEnv }: DevOptions,
  folder: string,
  program: string,
  inspectPort: number | undefined,
): Stems {
  const env = Object.fromEntries(INHERITED.map((name) => [name, hostEnv[name]]));
  return new Stems((memoryBytes) =>
    GuestProcess.start({ program, cwd, folder, id: ++processes, memoryBytes, inspectPort, env }),
  );
}

type Respond = (request: IncomingMessage, response: ServerResponse) => void;

async function listen({ host, port }: DevOptions, respond: Respond): Promise<Server> {
  const { createServer } = process.getBuiltinModule('node:http');
  const server = createServer({ requestTimeout: 0 }, respond);
  server.listen(port, host);
  await once(server, 'listening');
  return server;
}

function route(
  hosts: ReadonlyMap<string, FunctionHost>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { name, path } = parseTarget(request.url ?? '/', request.headers.host);
  const [only] = hosts.size === 1 ? hosts.values() : [];
  const host = name === undefined ? only : hosts.get(name);
  if (host) void host.handle(request, response, path);
  else writeIndex(hosts, response, name);
}

function writeIndex(
  hosts: ReadonlyMap<string, FunctionHost>,
  response: ServerResponse,
  asked: string | undefined,
): void {
  const items = [...hosts.keys()].map((name) => `<li><a href="/f/${name}">${escapeHtml(name)}</a>`).join('');
  const text = asked === undefined ? '' : `<p>There is no function ${escapeHtml(asked)}.</p>`;
  response.writeHead(asked === undefined ? 200 : 404, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><meta charset="utf-8"><title>Functions</title>${text}<ul>${items}</ul>`);
}
