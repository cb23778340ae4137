/**
 * Join tokens: `SKFTKN-1-<digest of the CA>-<secret>`. The digest lets a joiner recognise the swarm before it says
 * its secret; the secret says which role it may take.
 * Invariant: a swarm stores the SHA-256 of secrets, never secrets; a manager shows a token only when it makes one, or
 * from its own key folder (identity.ts).
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const PREFIX = 'SKFTKN-1';
const PATTERN = /^SKFTKN-1-([A-Za-z0-9_-]{43})-([A-Za-z0-9_-]{43})$/;

export interface JoinToken {
  /** See digestOfCertificate. */
  readonly caDigest: string;
  readonly secret: string;
}

export const createSecret = (): string => randomBytes(32).toString('base64url');

export function formatJoinToken({ caDigest, secret }: JoinToken): string {
  return `${PREFIX}-${caDigest}-${secret}`;
}

/** @throws SkiffError BAD_REQUEST, without repeating the token */
export function parseJoinToken(text: string): JoinToken {
  // Both parts may contain "-" themselves, and have a fixed length.
  const match = PATTERN.exec(text.trim());
  if (match) return { caDigest: match[1] as string, secret: match[2] as string };
  throw new SkiffError(
    'BAD_REQUEST',
    `a join token is ${PREFIX}-, 43 characters, "-", 43 characters; this has ${text.trim().length} in all. ` +
      'Copy it from `skiff swarm join-token worker`',
  );
}

export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** In constant time: digests have one length. */
export function isSameSecret(secret: string, hash: string): boolean {
  const given = Buffer.from(hashSecret(secret));
  const known = Buffer.from(hash);
  return given.length === known.length && timingSafeEqual(given, known);
}
