/**
 * Identifiers: a prefix that says what it names, and a ULID-like part (48 bits of milliseconds, 80 random bits,
 * Crockford base32, lower case), so ids sort by time and are valid in URLs, DNS labels and BullMQ job ids.
 */
import { randomFillSync } from 'node:crypto';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const POOL_BYTES = 10 * 256;
const pool = Buffer.alloc(POOL_BYTES);
let poolOffset = POOL_BYTES;

export type IdPrefix =
  | 'inv'
  | 'dep'
  | 'bld'
  | 'sbx'
  | 'run'
  | 'gw'
  | 'tok'
  | 'req'
  | 'node'
  | 'sch'
  | 'svc'
  | 'swm'
  | 'tsk';

export function createId(prefix: IdPrefix, nowMs: number = Date.now()): string {
  if (poolOffset + 10 > POOL_BYTES) {
    randomFillSync(pool);
    poolOffset = 0;
  }
  let text = '';
  let time = nowMs;
  for (let i = 0; i < 10; i++) {
    text = (ALPHABET[time % 32] as string) + text;
    time = Math.floor(time / 32);
  }
  let bits = 0;
  let value = 0;
  for (let i = 0; i < 10; i++) {
    value = ((value << 8) | (pool[poolOffset + i] as number)) & 0xffff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(value >> bits) & 31] as string;
    }
  }
  poolOffset += 10;
  return `${prefix}-${text}`;
}

export function isId(prefix: IdPrefix, text: string): boolean {
  return (
    text.length === prefix.length + 27 &&
    text.startsWith(`${prefix}-`) &&
    /^[0-9a-z]+$/.test(text.slice(prefix.length + 1))
  );
}

/** When an id was made, in epoch milliseconds. */
export function timeOfId(id: string): number {
  let time = 0;
  const start = id.lastIndexOf('-') + 1;
  for (let i = start; i < start + 10; i++) time = time * 32 + ALPHABET.indexOf(id[i] ?? '0');
  return time;
}

/** An id that is the same for the same time and hash, for what may be made twice. `hash` has at least 16 bytes. */
export function derivedId(prefix: IdPrefix, timeMs: number, hash: Uint8Array): string {
  let text = '';
  for (let time = timeMs, i = 0; i < 10; i++, time = Math.floor(time / 32))
    text = (ALPHABET[time % 32] as string) + text;
  for (let i = 0; i < 16; i++) text += ALPHABET[(hash[i] as number) & 31] as string;
  return `${prefix}-${text}`;
}
