/**
 * Which digests a host has, in a few bytes that others look them up in (a Bloom filter, as web caches tell each other).
 * One of a hundred digests that are not there seems to be; none that is there is missed, but for those that were left
 * out as too many. Digests are evenly spread already, so their own bits are the hashes. Pure.
 */
import { digestHex } from '../digest.ts';

const BITS_PER_DIGEST = 10;
const PROBES = 7;
/** Of a record that each node writes twice a second and all others read: 640 bytes. */
const DIGESTS_MAX = 512;
const BYTES_MAX = Math.ceil((DIGESTS_MAX * BITS_PER_DIGEST) / 8);

/** Base64url; of too many digests the first ones. */
export function summarize(digests: readonly string[]): string {
  const told = digests.slice(0, DIGESTS_MAX);
  const bits = Buffer.alloc(Math.ceil((told.length * BITS_PER_DIGEST) / 8));
  for (const digest of told)
    for (const at of places(digest, bits.length)) bits[at >> 3] = (bits[at >> 3] as number) | (1 << (at & 7));
  return bits.toString('base64url');
}

/** False for a summary that nobody of ours would make. */
export function mayHave(summary: string, digest: string): boolean {
  if (summary.length > BYTES_MAX * 2) return false;
  const bits = Buffer.from(summary, 'base64url');
  if (bits.length === 0 || bits.length > BYTES_MAX) return false;
  return places(digest, bits.length).every((at) => ((bits[at >> 3] as number) & (1 << (at & 7))) !== 0);
}

function places(digest: string, bytes: number): number[] {
  const hex = digestHex(digest);
  return Array.from(
    { length: PROBES },
    (_, probe) => Number.parseInt(hex.slice(probe * 8, probe * 8 + 8), 16) % (bytes * 8),
  );
}
