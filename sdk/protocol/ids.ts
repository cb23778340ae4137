/**
 * Identifiers: a prefix that says what it names, and a ULID-like part (48 bits of milliseconds, 80 random bits,
 * Crockford base32, lower case), so ids sort by time and are valid in URLs, DNS labels and BullMQ job ids.
 */
import { randomFillSync } from 'node:crypto';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const CODES = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));
const RANDOM_BYTES = 10;
const POOL_BYTES = RANDOM_BYTES * 256;
const pool = Buffer.alloc(POOL_BYTES);
let poolOffset = POOL_BYTES;
let lastMs = -1;
let lastTime = '';

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
  | 'tsk'
  | 'vol';

export function createId(prefix: IdPrefix, nowMs: number = Date.now()): string {
  if (poolOffset + RANDOM_BYTES > POOL_BYTES) {
    randomFillSync(pool);
    poolOffset = 0;
  }
  const at = poolOffset;
  poolOffset += RANDOM_BYTES;
  return `${prefix}-${timeText(nowMs)}${randomText(at)}${randomText(at + RANDOM_BYTES / 2)}`;
}

/** Ten characters. Many ids are made in one millisecond. */
function timeText(nowMs: number): string {
  if (nowMs === lastMs) return lastTime;
  let text = '';
  let time = nowMs;
  for (let i = 0; i < 10; i++) {
    text = (ALPHABET[time % 32] as string) + text;
    time = Math.floor(time / 32);
  }
  lastMs = nowMs;
  lastTime = text;
  return text;
}

/** Eight characters of 40 bits, made at once: pieces put together would be a string each. */
function randomText(at: number): string {
  const high = (byteAt(at) << 12) | (byteAt(at + 1) << 4) | (byteAt(at + 2) >> 4);
  const low = ((byteAt(at + 2) & 15) << 16) | (byteAt(at + 3) << 8) | byteAt(at + 4);
  return String.fromCharCode(
    codeOf(high >> 15),
    codeOf(high >> 10),
    codeOf(high >> 5),
    codeOf(high),
    codeOf(low >> 15),
    codeOf(low >> 10),
    codeOf(low >> 5),
    codeOf(low),
  );
}

function byteAt(at: number): number {
  return pool[at] as number;
}

function codeOf(bits: number): number {
  return CODES[bits & 31] as number;
}

/**
 * An id of something that belongs to a function: its last two characters say where the function's keys are kept
 * (infra/contract/cells.ts), so that who has only the id finds them. 70 bits are random.
 */
export function createOwnedId(prefix: IdPrefix, functionName: string, nowMs?: number): string {
  return placeId(createId(prefix, nowMs), functionName);
}

function placeId(id: string, functionName: string): string {
  const bucket = bucketOf(functionName);
  return `${id.slice(0, -2)}${ALPHABET[bucket >> 5] as string}${ALPHABET[bucket & 31] as string}`;
}

/** 0…1023: FNV-1a of the function's name. */
export function bucketOf(functionName: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < functionName.length; i++)
    hash = Math.imul(hash ^ functionName.charCodeAt(i), 0x01000193);
  return (hash ^ (hash >>> 10) ^ (hash >>> 20)) & 1023;
}

/** Of the function that an id belongs to, if it was made for one; of others any, always the same. */
export function bucketOfId(id: string): number {
  const high = ALPHABET.indexOf(id.at(-2) ?? '0');
  return (Math.max(0, high) << 5) | Math.max(0, ALPHABET.indexOf(id.at(-1) ?? '0'));
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

/**
 * An id that is the same for the same function, time and hash, for what may be made twice. `hash` has at least 16 bytes.
 * Its last two characters are as in `createOwnedId`.
 */
export function derivedId(prefix: IdPrefix, functionName: string, timeMs: number, hash: Uint8Array): string {
  let text = '';
  for (let time = timeMs, i = 0; i < 10; i++, time = Math.floor(time / 32))
    text = (ALPHABET[time % 32] as string) + text;
  for (let i = 0; i < 16; i++) text += ALPHABET[(hash[i] as number) & 31] as string;
  return placeId(`${prefix}-${text}`, functionName);
}
