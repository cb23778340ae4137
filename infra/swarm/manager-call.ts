/**
 * A node's requests to a manager's swarm port, and a joiner's first one. Invariant: a joiner recognises the manager by
 * the digest of the CA in its token, before it says the secret; a node by the CA it got when it joined.
 */
import { request, type RequestOptions } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import { SkiffError, ERRORS, type ErrorCode } from '../../sdk/protocol/errors.ts';
import { digestOfCertificate } from './certificates.ts';
import { clientTls } from './identity.ts';
import { BACKBONE_NAME } from './certificates.ts';

const CONNECT_MS_MAX = 5_000;
const ANSWER_MS_MAX = 30_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

export interface ManagerAddress {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, `[v6]:port`, or without a port. @throws SkiffError BAD_REQUEST */
export function parseManagerAddress(text: string, defaultPort: number): ManagerAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.-]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined)
    throw new SkiffError('BAD_REQUEST', `"${text}" is not host:port of a manager, for example 10.0.0.1:7377`);
  return { host, port: match?.[3] === undefined ? defaultPort : Number(match[3]) };
}

/** The CA of whoever listens there, if it is the one of the token. @throws SkiffError UNAVAILABLE, FORBIDDEN */
export async function fetchAuthority(address: ManagerAddress, caDigest: string): Promise<string> {
  const chain = await readChain(address);
  const ca = chain.find((pem) => digestOfCertificate(pem) === caDigest);
  if (ca !== undefined) return ca;
  throw new SkiffError(
    'FORBIDDEN',
    `${address.host}:${address.port} is not a manager of the swarm that this join token is for; nothing was told to it`,
  );
}

/** What the peer presents, without trusting any of it. */
async function readChain(address: ManagerAddress): Promise<string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  const socket: TLSSocket = connect({
    ...address,
    servername: BACKBONE_NAME,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
  });
  socket.setTimeout(CONNECT_MS_MAX, () => socket.destroy(new Error('no answer')));
  socket.once('error', (cause) => reject(unreachable(address, cause)));
  socket.once('secureConnect', () => {
    const pems: string[] = [];
    for (
      let certificate = socket.getPeerX509Certificate();
      certificate !== undefined && pems.length < 4;
      certificate = certificate.issuerCertificate
    ) {
      const pem = certificate.toString();
      if (pems.includes(pem)) break;
      pems.push(pem);
    }
    socket.destroy();
    resolve(pems);
  });
  return promise;
}

function unreachable({ host, port }: ManagerAddress, cause: unknown): SkiffError {
  const reason = cause instanceof Error ? cause.message : 'unknown';
  return new SkiffError('UNAVAILABLE', `no manager can be reached at ${host}:${port} (${reason})`, { cause });
}

/** As a joiner: `ca` is what `fetchAuthority` found. @throws SkiffError as the manager says, UNAVAILABLE */
export function callAsJoiner(
  address: ManagerAddress,
  ca: string,
  path: string,
  body: unknown,
): Promise<unknown> {
  return call({ ...address, path, ca, servername: BACKBONE_NAME, minVersion: 'TLSv1.3' }, body);
}

/**
 * As the node whose certificate is in `identityDir`, to the first of `managers` (`host:port`) that can be reached.
 * @throws SkiffError as the manager says, UNAVAILABLE when none answers
 */
export async function callAsNode(
  identityDir: string,
  managers: readonly string[],
  path: string,
  body: unknown,
): Promise<unknown> {
  let failure = new SkiffError('UNAVAILABLE', 'this swarm has no other manager');
  for (const manager of managers) {
    try {
      const address = parseManagerAddress(manager, 0);
      return await call({ ...address, path, ...clientTls(identityDir) }, body);
    } catch (error) {
      if (!(error instanceof SkiffError && error.code === 'UNAVAILABLE')) throw error;
      failure = error;
    }
  }
  throw failure;
}

async function call(options: RequestOptions, body: unknown): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const payload = JSON.stringify(body);
  const address = { host: String(options.host), port: Number(options.port) };
  const outgoing = request(
    {
      ...options,
      method: 'POST',
      agent: false,
      timeout: ANSWER_MS_MAX,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
    },
    (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.length > ANSWER_BYTES_MAX) response.destroy(new Error('the answer is too large'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', (cause) => reject(unreachable(address, cause)));
    },
  );
  outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
  outgoing.on('error', (cause) => reject(unreachable(address, cause)));
  outgoing.end(payload);
  const { status, text } = await promise;
  const answer = tryParse(text);
  if (status < 300) return answer;
  const { code, detail } = (answer ?? {}) as { code?: string; detail?: string };
  const known: ErrorCode = code !== undefined && code in ERRORS ? (code as ErrorCode) : 'UNAVAILABLE';
  throw new SkiffError(known, detail ?? `the manager answered ${status}`);
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
