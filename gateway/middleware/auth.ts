/**
 * Who asks, and whether they may. Invariant: a route's scope comes from the route table and from nowhere else.
 * Deliberately absent: sessions and cookies. A bearer token is never sent by a browser on its own, so there is no
 * cross-site request forgery to defend against.
 */
import { LRUCache } from 'lru-cache';
import type { TokenStore } from '../../infra/catalog/tokens.ts';
import type { Scope, TokenRecord } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { namespaceOf } from '../../sdk/protocol/reach/namespaces.ts';
import { grants } from '../routes/route.ts';

/** Undefined when the token is not valid. */
export type TokenVerifier = (token: string) => Promise<TokenRecord | undefined>;

const CACHED_MAX = 1_000;
/** A revocation whose message was lost still takes effect after this long. */
const CACHED_MS = 10_000;

/**
 * Verifies tokens through a small cache, so that a caller with a known token costs no round trip to Redis.
 * Call `drop` when tokens have changed. Tokens that are not valid are never cached.
 */
export function createTokenVerifier(tokens: Pick<TokenStore, 'verifyToken'>): {
  verify: TokenVerifier;
  drop: () => void;
  /** Whether an Authorization header's token was found valid a moment ago. */
  isKnown: (authorization: string) => boolean;
} {
  const cache = new LRUCache<string, TokenRecord>({ max: CACHED_MAX, ttl: CACHED_MS });
  let generation = 0;
  return {
    async verify(token) {
      const known = cache.get(token);
      if (known && (known.expiresMs ?? Infinity) > Date.now()) return known;
      const asked = generation;
      const record = await tokens.verifyToken(token);
      // What was read before a revocation must not be remembered after it.
      if (record && asked === generation) cache.set(token, record);
      return record;
    },
    drop() {
      generation++;
      cache.clear();
    },
    isKnown(authorization) {
      const token = tryParseBearer(authorization);
      return token !== undefined && cache.has(token);
    },
  };
}

/** The token of an Authorization header (RFC 6750 §2.1), undefined when there is none of that kind. */
export function tryParseBearer(header: string | undefined): string | undefined {
  return /^bearer +([A-Za-z0-9._~+/=-]{1,512})$/i.exec(header ?? '')?.[1];
}

/** Of a request: what it is about. With neither field it is closed to every token that is bound to anything. */
export interface Concern {
  /** The one function that it is about. */
  readonly functionName?: string | undefined;
  /** The function, secret or schedule that it names. */
  readonly name?: string | undefined;
  /** Whoever handles it looks at what is whose, by `owns`, or nothing in it is anybody's. */
  readonly isSorted?: boolean;
}

/** Is what has this name the token's to see and touch? Without a token (public routes) nothing is anybody's. */
export function owns(token: TokenRecord | undefined, name: string): boolean {
  if (token?.functions && !token.functions.includes(name)) return false;
  return token?.namespace === undefined || namespaceOf(name) === token.namespace;
}

/**
 * A token that is bound to functions or to a namespace is good where the concern says that this is one of them, so what
 * concerns none, or several, is closed to it without anybody having to think of it.
 * @throws SkiffError UNAUTHENTICATED, FORBIDDEN
 */
export async function authorize(
  verify: TokenVerifier,
  authorization: string | undefined,
  needed: Scope,
  concern: Concern = {},
): Promise<TokenRecord> {
  const token = tryParseBearer(authorization);
  if (token === undefined) {
    throw new SkiffError('UNAUTHENTICATED', 'send a token: "Authorization: Bearer <token>"');
  }
  const record = await verify(token);
  if (!record) throw new SkiffError('UNAUTHENTICATED', 'the token is unknown, expired or revoked');
  if (!grants(record.scopes, needed)) {
    throw new SkiffError(
      'FORBIDDEN',
      `token "${record.name}" has ${record.scopes.join(', ')}; this needs ${needed}`,
    );
  }
  const { functionName, name = functionName, isSorted = false } = concern;
  const { functions, namespace } = record;
  const isForeign = functionName === undefined || !functions?.includes(functionName);
  if (functions && isForeign) throw forbidden(record, functions.join(', '));
  if (namespace !== undefined && !isSorted && (name === undefined || namespaceOf(name) !== namespace))
    throw forbidden(record, `what is called "${namespace}.<name>"`);
  return record;
}

function forbidden(record: TokenRecord, what: string): SkiffError {
  return new SkiffError('FORBIDDEN', `token "${record.name}" is good for ${what} and nothing else`);
}
