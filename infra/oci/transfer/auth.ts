/**
 * Authorization for a registry: answers a `WWW-Authenticate` challenge with Basic credentials or a Bearer token
 * (Docker token authentication) and remembers the answer per scope.
 */
import type { Dispatcher } from 'undici';
import { SkiffError } from '../../../sdk/protocol/errors.ts';

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly parameters: Readonly<Record<string, string>>;
}

const TOKEN_BYTES_MAX = 1024 * 1024;
/** A token server that says nothing means 60 seconds (Docker token specification). */
const TOKEN_SECONDS_DEFAULT = 60;
const TOKENS_KEPT_MAX = 1_000;
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Reads one `WWW-Authenticate` value (RFC 9110 §11.6.1). Undefined for schemes other than Basic and Bearer. */
export function tryParseChallenge(header: string): Challenge | undefined {
  const match = /^\s*(basic|bearer)(?:\s+(.*))?$/is.exec(header);
  if (!match) return undefined;
  const parameters: Record<string, string> = {};
  for (const [, name, quoted, plain] of (match[2] ?? '').matchAll(
    /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g,
  )) {
    parameters[(name as string).toLowerCase()] = quoted?.replaceAll(/\\(.)/g, '$1') ?? plain ?? '';
  }
  return { scheme: (match[1] as string).toLowerCase() as Challenge['scheme'], parameters };
}

export interface Authorizer {
  /** Header value to send for this scope, if one is known and still valid. */
  known(scope: string): string | undefined;
  /** Earns a header value for the challenge. @throws SkiffError UNAVAILABLE when it cannot. */
  answer(challenge: Challenge, scope: string): Promise<string>;
}

export function createAuthorizer(
  agent: Dispatcher,
  registryUrl: URL,
  credentials: Credentials | undefined,
): Authorizer {
  const basic =
    credentials && `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
  const tokens = new Map<string, { value: string; expiresMs: number }>();
  let usesBasic = false;

  async function fetchToken(parameters: Challenge['parameters'], scope: string): Promise<string> {
    const realm = parseRealm(parameters['realm'], registryUrl);
    if (parameters['service']) realm.searchParams.set('service', parameters['service']);
    if (scope) realm.searchParams.set('scope', scope);
    const reply = await agent.request({
      origin: realm.origin,
      path: realm.pathname + realm.search,
      method: 'GET',
      headers: { accept: 'application/json', ...(basic ? { authorization: basic } : {}) },
    });
    const body = await readLimited(reply.body, TOKEN_BYTES_MAX);
    if (reply.statusCode !== 200)
      throw refused(registryUrl, `the token server ${realm.origin} answered ${reply.statusCode}`);
    const { token, access_token, expires_in } = JSON.parse(body.toString('utf8')) as Record<string, unknown>;
    const value = token ?? access_token;
    if (typeof value !== 'string')
      throw refused(registryUrl, `the token server ${realm.origin} gave no token`);
    const seconds = typeof expires_in === 'number' && expires_in > 0 ? expires_in : TOKEN_SECONDS_DEFAULT;
    if (tokens.size >= TOKENS_KEPT_MAX) tokens.clear();
    // Renewed at nine tenths of its life, so that a long upload does not start with a token about to end.
    tokens.set(scope, { value: `Bearer ${value}`, expiresMs: Date.now() + seconds * 900 });
    return `Bearer ${value}`;
  }

  return {
    known(scope) {
      if (usesBasic) return basic;
      const token = tokens.get(scope);
      if (token && token.expiresMs > Date.now()) return token.value;
      return undefined;
    },
    async answer(challenge, scope) {
      if (challenge.scheme === 'bearer') return fetchToken(challenge.parameters, scope);
      if (!basic) throw refused(registryUrl, 'it wants a user and password');
      usesBasic = true;
      return basic;
    },
  };
}

/** The password goes to the realm, so a registry must not name a plain-text one on another host. */
function parseRealm(text: string | undefined, registryUrl: URL): URL {
  if (!text || !URL.canParse(text, registryUrl))
    throw refused(registryUrl, 'its token challenge has no realm');
  const realm = new URL(text, registryUrl);
  const isPrivate =
    realm.protocol === 'https:' || realm.origin === registryUrl.origin || LOOPBACK.test(realm.hostname);
  if (!isPrivate || !realm.protocol.startsWith('http')) {
    throw refused(registryUrl, `its token server ${realm.origin} is not reached over https`);
  }
  return realm;
}

export function refused(registryUrl: URL, why: string): SkiffError {
  return new SkiffError(
    'UNAVAILABLE',
    `registry ${registryUrl.origin} refused access: ${why}; log in with "skiff registry login", or for the server's own set SKIFF_REGISTRY_USER and SKIFF_REGISTRY_PASSWORD`,
    { details: { reason: 'access_refused' } },
  );
}

/** Collects a body up to a limit. @throws SkiffError INVALID_SOURCE beyond it */
export async function readLimited(body: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      throw new SkiffError(
        'INVALID_SOURCE',
        `the registry's answer is longer than the limit of ${bytesMax} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}
