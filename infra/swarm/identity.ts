/**
 * What this host holds as a member of a swarm: the files in <data>/swarm.
 *   node.json             who it is and where (NodeFile)
 *   ca.crt, node.crt, node.key
 *   ca.key, tokens.json   on managers: to let others join
 *   redis.url, fast.url   on nodes that joined: addresses with credentials
 * Invariant: the folder appears whole, by one rename, and is 0700 with files 0600. Certificate and key are read anew
 * for every connection, so a renewed certificate is used without a restart.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootCertificates, type SecureContextOptions } from 'node:tls';
import { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { NodeRole } from '../../sdk/protocol/swarm/resources.ts';
import { dataPaths } from '../contract/paths.ts';
import { BACKBONE_NAME, type Authority } from './certificates.ts';

export const NodeFile = z.object({
  nodeId: z.string(),
  role: NodeRole,
  swarm: z.string(),
  /** Where other hosts reach this one. */
  address: z.string(),
  /** First of four ports: joining and registry, links, durable store, fast store. */
  port: z.number().int(),
  /** Whether Redis and registry of the swarm run here. */
  isBackbone: z.boolean(),
  /** Of the swarm, for nodes that joined. */
  registry: z.string().optional(),
  /** Swarm port of managers, for nodes that joined: it may be another one here. */
  managerPort: z.number().int().optional(),
});
export type NodeFile = z.output<typeof NodeFile>;

const Tokens = z.object({ worker: z.string(), manager: z.string() });
/** Secrets of the join tokens, not the tokens. */
export type TokenSecrets = z.output<typeof Tokens>;

export interface NodeFiles {
  readonly node: NodeFile;
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly caKey?: string | undefined;
  readonly tokens?: TokenSecrets | undefined;
  readonly redis?: { readonly durable: string; readonly fast: string } | undefined;
}

export const swarmPorts = (port: number) =>
  ({ join: port, link: port + 1, durable: port + 2, fast: port + 3 }) as const;

/** On which managers are asked. */
export function managerPortOf({ managerPort, port }: NodeFile): number {
  return managerPort ?? swarmPorts(port).join;
}

export function identityPaths(dir: string) {
  return {
    node: join(dir, 'node.json'),
    ca: join(dir, 'ca.crt'),
    caKey: join(dir, 'ca.key'),
    certificate: join(dir, 'node.crt'),
    privateKey: join(dir, 'node.key'),
    tokens: join(dir, 'tokens.json'),
    redisUrl: join(dir, 'redis.url'),
    fastUrl: join(dir, 'fast.url'),
  } as const;
}

/** Undefined when this host is in no swarm. @throws SkiffError INVALID_CONFIG when the folder is damaged */
export function tryReadNode(dir: string): NodeFile | undefined {
  const file = identityPaths(dir).node;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return NodeFile.parse(JSON.parse(text));
  } catch (error) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `${file} is damaged; remove ${dir} and let this host join its swarm again`,
      { cause: error },
    );
  }
}

/** Addresses and credentials that this node was given; undefined on the founder, which has settings of its own. */
export function tryReadStores(dir: string): { readonly durable: string; readonly fast: string } | undefined {
  const { redisUrl, fastUrl } = identityPaths(dir);
  if (!existsSync(redisUrl)) return undefined;
  return { durable: readFileSync(redisUrl, 'utf8').trim(), fast: readFileSync(fastUrl, 'utf8').trim() };
}

/** @throws SkiffError CONFLICT when this host is in a swarm already */
export function writeIdentity(dir: string, files: NodeFiles): void {
  if (existsSync(dir)) {
    throw new SkiffError(
      'CONFLICT',
      `this host is in a swarm already (${dir}); \`skiff swarm leave\` takes it out`,
    );
  }
  const draft = `${dir}.${randomBytes(4).toString('hex')}`;
  const paths = identityPaths(draft);
  mkdirSync(draft, { recursive: true, mode: 0o700 });
  const write = (path: string, text: string) => writeFileSync(path, text, { mode: 0o600, flush: true });
  write(paths.node, `${JSON.stringify(files.node, null, 2)}\n`);
  write(paths.ca, files.ca);
  write(paths.certificate, files.certificate);
  write(paths.privateKey, files.privateKey);
  if (files.caKey !== undefined) write(paths.caKey, files.caKey);
  if (files.tokens) write(paths.tokens, JSON.stringify(files.tokens));
  if (files.redis) {
    write(paths.redisUrl, files.redis.durable);
    write(paths.fastUrl, files.redis.fast);
  }
  renameSync(draft, dir);
}

export function removeIdentity(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}

/** Certificate and key as one: whoever reads sees the old pair or the new one, each file by one rename. */
export function replaceCertificate(dir: string, certificate: string, privateKey: string): void {
  const paths = identityPaths(dir);
  replaceFile(paths.privateKey, privateKey);
  replaceFile(paths.certificate, certificate);
}

export function replaceTokens(dir: string, tokens: TokenSecrets): void {
  replaceFile(identityPaths(dir).tokens, JSON.stringify(tokens));
}

/** 0600, by one rename. */
export function replaceFile(path: string, text: string): void {
  const draft = `${path}.draft`;
  writeFileSync(draft, text, { mode: 0o600, flush: true });
  renameSync(draft, path);
}

/** @throws SkiffError FORBIDDEN on a worker, which has no such key */
export function readAuthority(dir: string): Authority {
  const paths = identityPaths(dir);
  try {
    return { certificate: readFileSync(paths.ca, 'utf8'), privateKey: readFileSync(paths.caKey, 'utf8') };
  } catch (error) {
    throw new SkiffError('FORBIDDEN', 'only managers can let nodes join; ask one of them', { cause: error });
  }
}

export function readTokens(dir: string): TokenSecrets {
  return Tokens.parse(JSON.parse(readFileSync(identityPaths(dir).tokens, 'utf8')));
}

export interface ClientTls extends SecureContextOptions {
  readonly servername: string;
  readonly minVersion: 'TLSv1.3';
}

/**
 * Options of a TLS connection as this node, to whoever has `servername` in a certificate of this swarm. Properties
 * are getters: each connection reads the files as they are then.
 */
export function clientTls(dir: string, servername: string = BACKBONE_NAME): ClientTls {
  const paths = identityPaths(dir);
  return {
    servername,
    minVersion: 'TLSv1.3',
    get ca() {
      return readFileSync(paths.ca, 'utf8');
    },
    get cert() {
      return readFileSync(paths.certificate, 'utf8');
    },
    get key() {
      return readFileSync(paths.privateKey, 'utf8');
    },
  };
}

/** For a registry that is reached through the swarm, or by a CA of the settings; undefined for any other. */
export function tryRegistryTls(config: {
  readonly SKIFF_DATA_DIR: string;
  readonly SKIFF_REGISTRY_URL?: string | undefined;
  readonly SKIFF_REGISTRY_CA?: string | undefined;
}): ClientTls | { ca: string[] } | undefined {
  const dir = dataPaths(config.SKIFF_DATA_DIR).swarm;
  const registry = tryReadNode(dir)?.registry;
  if (registry !== undefined && registry === config.SKIFF_REGISTRY_URL) return clientTls(dir);
  return config.SKIFF_REGISTRY_CA === undefined
    ? undefined
    : { ca: [...rootCertificates, config.SKIFF_REGISTRY_CA] };
}

/** For listening: the node's certificate with the CA behind it, so that a joiner can look at the CA. */
export function serverTls(dir: string): SecureContextOptions {
  const paths = identityPaths(dir);
  const ca = readFileSync(paths.ca, 'utf8');
  return {
    minVersion: 'TLSv1.3',
    ca,
    cert: readFileSync(paths.certificate, 'utf8') + ca,
    key: readFileSync(paths.privateKey, 'utf8'),
  };
}
