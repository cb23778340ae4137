/**
 * Content digests and the names of images: the only place that parses `sha256:…` and `repository@digest`.
 * Invariant: only lower-case SHA-256 is a digest here; another algorithm or upper-case hex is refused, so that
 * one blob has one name. Names are checked before they become part of a URL or a path.
 */
import { hash } from 'node:crypto';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** The distribution specification's grammar for a name. */
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const REPOSITORY_LENGTH_MAX = 255;

export function digestOf(bytes: Uint8Array | string): string {
  return `sha256:${hash('sha256', bytes, 'hex')}`;
}

export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/** @throws SkiffError BAD_REQUEST */
export function parseDigest(text: string): string {
  if (isDigest(text)) return text;
  throw new SkiffError(
    'BAD_REQUEST',
    `"${clip(text)}" is not a digest; a digest is "sha256:" and 64 lower-case hex digits`,
  );
}

/** The hex part, for folder names. @throws SkiffError BAD_REQUEST */
export function digestHex(digest: string): string {
  return parseDigest(digest).slice(7);
}

/** @throws SkiffError INVALID_NAME */
export function parseRepository(text: string): string {
  if (text.length <= REPOSITORY_LENGTH_MAX && REPOSITORY.test(text)) return text;
  throw new SkiffError(
    'INVALID_NAME',
    `"${clip(text)}" is not a repository name; use lower-case letters, digits, ".", "_", "-" and "/", at most ${REPOSITORY_LENGTH_MAX} characters`,
  );
}

/** A tag or a digest. @throws SkiffError INVALID_NAME */
export function parseTagOrDigest(text: string): string {
  if (isDigest(text) || TAG.test(text)) return text;
  throw new SkiffError('INVALID_NAME', `"${clip(text)}" is neither a tag nor a sha256 digest`);
}

export interface ImageReference {
  readonly repository: string;
  readonly digest: string;
}

/** `repository@sha256:…`. Tags are refused: what runs must not change under its name. @throws SkiffError INVALID_NAME */
export function parseReference(text: string): ImageReference {
  const at = text.lastIndexOf('@');
  if (at <= 0) {
    throw new SkiffError(
      'INVALID_NAME',
      `"${clip(text)}" has no digest; write repository@sha256:<64 hex digits>`,
    );
  }
  return { repository: parseRepository(text.slice(0, at)), digest: parseDigest(text.slice(at + 1)) };
}

/** Shortens hostile text for a message. */
export function clip(text: string, length = 80): string {
  // oxlint-disable-next-line no-control-regex -- finding control characters is the point
  const printable = text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?');
  return printable.length > length ? `${printable.slice(0, length)}…` : printable;
}
