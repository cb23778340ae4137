/**
 * Opening the socket of a link to a runner: the unix socket of one on this host, otherwise TLS, where both sides show
 * certificates of the swarm and the runner's must name the very node that is meant.
 */
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { nodeName } from '../swarm/certificates.ts';
import { clientTls } from '../swarm/identity.ts';

export interface LinkTarget {
  readonly id: string;
  /** `unix:/path`. */
  readonly link: string;
  /** `tcp:host:port`. */
  readonly address?: string | undefined;
}

/** How long a host may take to answer a connection attempt: the next look tries again. */
const CONNECT_MS_MAX = 2_000;

/**
 * Whether a runner is on another host. Most hosts have the same data folder, so the path alone tells nothing; but sockets
 * are named for their runner, and only its own host has one of that name.
 */
export function isRemote({ link }: Pick<LinkTarget, 'link'>, runDir: string): boolean {
  return !link.startsWith(`unix:${runDir}/`) || !existsSync(link.slice('unix:'.length));
}

/** @throws SkiffError UNAVAILABLE when the runner is on another host and says no address; as clientTls does */
export function openLinkSocket(
  target: LinkTarget,
  options: { readonly runDir: string; readonly identityDir: string },
): Socket {
  if (!isRemote(target, options.runDir)) return connect({ path: target.link.slice('unix:'.length) });
  if (!target.address?.startsWith('tcp:')) {
    // Without a swarm, roles of one host may still have different data folders.
    if (target.link.startsWith('unix:') && target.address === undefined)
      return connect({ path: target.link.slice('unix:'.length) });
    throw new SkiffError('UNAVAILABLE', `runner ${target.id} has no address for other hosts`);
  }
  const at = target.address.lastIndexOf(':');
  const socket = connectTls({
    host: target.address.slice('tcp:'.length, at).replaceAll(/[[\]]/g, ''),
    port: Number(target.address.slice(at + 1)),
    ...clientTls(options.identityDir, nodeName(target.id)),
  });
  const timer = setTimeout(
    () => socket.destroy(new Error(`no TLS connection within ${CONNECT_MS_MAX} ms`)),
    CONNECT_MS_MAX,
  );
  socket.once('secureConnect', () => clearTimeout(timer));
  socket.once('close', () => clearTimeout(timer));
  return socket;
}
