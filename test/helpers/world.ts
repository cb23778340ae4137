/**
 * An internet for tests: a network namespace behind a link of this host, with public, private and metadata addresses
 * that all are routed and answer, so that what does not get there was stopped by us and not for want of a way.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { ROOT } from './source-tree.ts';

/** Globally assigned, but to nobody who would answer (RFC 7534, RFC 7450): documentation ranges may be a machine's own. */
const PUBLIC = ['192.31.196.10', '192.31.196.20'];
const INTERNAL = ['10.9.9.9', '172.20.9.9', '192.168.99.9', '100.64.9.9', '169.254.169.254'];

export interface World {
  /** Host's end of the link. */
  readonly device: string;
  /** Of this host on that link. */
  readonly hostAddress: string;
  readonly resolver: string;
  readonly internal: readonly string[];
  close(): Promise<void>;
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

export async function openWorld(): Promise<World> {
  const device = `world${process.pid % 10_000}`;
  const routes = [...PUBLIC, ...INTERNAL];
  let server: ChildProcess | undefined;
  const close = async (): Promise<void> => {
    if (server && server.exitCode === null) {
      server.kill('SIGKILL');
      await once(server, 'exit');
    }
    execFileSync('sh', ['-c', `ip link delete ${device}; ip netns delete ${device}; true`], {
      stdio: 'ignore',
    });
  };
  try {
    ip('netns', 'add', device);
    ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', device);
    ip('addr', 'add', '192.52.193.1/30', 'dev', device);
    ip('link', 'set', device, 'up');
    ip('-netns', device, 'link', 'set', 'lo', 'up');
    ip('-netns', device, 'addr', 'add', '192.52.193.2/30', 'dev', 'eth0');
    ip('-netns', device, 'link', 'set', 'eth0', 'up');
    for (const address of routes) {
      ip('-netns', device, 'addr', 'add', `${address}/32`, 'dev', 'lo');
      ip('route', 'add', `${address}/32`, 'via', '192.52.193.2');
    }
    const script = join(ROOT, 'test/fixtures/world/world.mjs');
    server = spawn('ip', ['netns', 'exec', device, process.execPath, script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(server.stdout as NodeJS.ReadableStream, 'data');
  } catch (error) {
    await close();
    throw error;
  }
  return { device, hostAddress: '192.52.193.1', resolver: '192.52.193.2', internal: INTERNAL, close };
}
