/**
 * One encrypted value: AES-256-GCM with a random nonce, bound to its name and version, so that a stored value moved to
 * another name, or an old one put back, does not decrypt. Text form: `v1.<key id>.<nonce>.<tag>.<data>`, base64url.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Key } from './key-ring.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';

export interface Place {
  readonly name: string;
  readonly version: number;
}

export function seal(value: string, key: Key, place: Place): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key.bytes, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associate(place));
  const data = Buffer.concat([cipher.update(value, 'utf8'), cipher.final()]);
  const parts = [nonce, cipher.getAuthTag(), data].map((part) => part.toString('base64url'));
  return ['v1', key.id, ...parts].join('.');
}

/** The id of the key that it takes. @throws SkiffError INTERNAL when the text is none of ours. */
export function keyIdOf(sealed: string): string {
  const [version, id] = sealed.split('.');
  if (version !== 'v1' || id === undefined) throw damaged();
  return id;
}

/** @throws SkiffError INTERNAL when it was changed, or sealed for another place or with another key. */
export function unseal(sealed: string, key: Key, place: Place): string {
  const [nonce, tag, data] = sealed
    .split('.')
    .slice(2)
    .map((part) => Buffer.from(part, 'base64url'));
  if (nonce?.length !== NONCE_BYTES || tag?.length !== TAG_BYTES || data === undefined) throw damaged();
  const decipher = createDecipheriv(CIPHER, key.bytes, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associate(place));
  decipher.setAuthTag(tag);
  try {
    return Buffer.concat([decipher.update(data), decipher.final()]).toString('utf8');
  } catch (cause) {
    throw damaged(cause);
  }
}

/** A name has no line feed, so no two places give the same bytes. */
function associate({ name, version }: Place): Buffer {
  return Buffer.from(`skiff secret\n${name}\n${version}`);
}

function damaged(cause?: unknown): SkiffError {
  return new SkiffError('INTERNAL', 'a stored secret is damaged or was moved', { cause });
}
