/**
 * `skiff dev --sandbox`: every save is a deploy to the server of this host, under a name of its own that is removed
 * at the end. Slower than a plain process, and exactly what production does.
 * Invariant: never to a server elsewhere, and never over a function that is in use.
 */
import { join } from 'node:path';
import { readSettings, type EnvSource } from '../../dev/source/settings.ts';
import type { DevFunction } from '../../dev/source/project.ts';
import type { DevListener } from '../../dev/events.ts';
import { watchFolders } from '../../dev/watcher.ts';
import { isLoopback } from '../connection/local-server.ts';
import { chooseServer, type CliClient, openClient } from '../connection/server.ts';
import { usage } from '../failure.ts';
import type { Session } from '../session.ts';
import { findSource } from '../source/files.ts';
import { packSource } from '../source/pack.ts';

const PREFIX = 'dev-';
const NAME_CHARS_MAX = 63;
const REMOVE_MS_MAX = 5_000;

export interface SandboxLoop {
  /** URL of each function. */
  readonly urls: ReadonlyMap<string, string>;
  close(): Promise<void>;
}

/** Resolves when each function was deployed once, or failed to be. */
export async function startSandboxLoop(
  session: Session,
  functions: readonly DevFunction[],
  env: EnvSource,
  onEvent: DevListener,
): Promise<SandboxLoop> {
  const server = chooseServer(session);
  if (!isLoopback(server.url)) {
    throw usage(
      `skiff dev --sandbox uses a server of this host, and ${server.url} is elsewhere`,
      'start one here (skiff server), or deploy there under a name of its own: skiff deploy --name hello-test',
    );
  }
  const client = openClient(session);
  const ending = new AbortController();
  const loops = await Promise.all(functions.map((fn) => open(client, fn, env, onEvent, ending.signal)));
  return {
    urls: new Map(loops.map(({ fn, url }) => [fn.name, url])),
    async close() {
      ending.abort();
      await Promise.all(loops.map((loop) => loop.close()));
    },
  };
}

async function open(
  client: CliClient,
  fn: DevFunction,
  env: EnvSource,
  onEvent: DevListener,
  ending: AbortSignal,
) {
  const name = `${PREFIX}${fn.name}`.slice(0, NAME_CHARS_MAX);
  let last: Promise<boolean> = Promise.resolve(true);
  const deploy = (changed?: string): Promise<boolean> => {
    last = last.then(() => deployOnce(client, fn, name, env, onEvent, ending, changed));
    return last;
  };
  const isThere = await deploy();
  const watcher = await watchFolders([fn.root, ...env.files], ([changed]) => void deploy(changed));
  if (isThere) void followLogs(client, fn, name, onEvent, ending);
  return {
    fn,
    url: `${client.url}/f/${name}`,
    async close(): Promise<void> {
      await watcher.close();
      await last;
      await client.remove(name, { signal: AbortSignal.timeout(REMOVE_MS_MAX) }).catch(() => {});
    },
  };
}

async function deployOnce(
  client: CliClient,
  fn: DevFunction,
  name: string,
  env: EnvSource,
  onEvent: DevListener,
  ending: AbortSignal,
  changed: string | undefined,
): Promise<boolean> {
  if (ending.aborted) return false;
  try {
    // Read by itself as the server must not be sent a .env file, only what is in it.
    const settings = await readSettings(fn, env);
    const source = findSource(join(fn.root, fn.entry));
    const result = await client.deploy(name, {
      source: () => packSource(source.files),
      entry: source.entry,
      config: { ...fn.config, env: settings.env },
      signal: ending,
    });
    const ms = result.ms['total'] ?? 0;
    onEvent({ type: 'live', fn: fn.name, ms, ...(changed === undefined ? {} : { changed }) });
    return true;
  } catch (error) {
    if (!ending.aborted) onEvent({ type: 'failed', fn: fn.name, message: (error as Error).message });
    return false;
  }
}

async function followLogs(
  client: CliClient,
  fn: DevFunction,
  name: string,
  onEvent: DevListener,
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const { atMs, level, message, fields, invocation } of client.logs(name, {
      follow: true,
      signal,
    })) {
      const log = { atMs, level, message, ...(fields === undefined ? {} : { fields }) };
      onEvent({ type: 'log', fn: fn.name, log, ...(invocation === undefined ? {} : { invocation }) });
    }
  } catch (error) {
    if (!signal.aborted)
      onEvent({ type: 'warning', fn: fn.name, message: `no logs: ${(error as Error).message}` });
  }
}
