/**
 * Reads a tar stream (ustar, pax, GNU long names) entry by entry, strictly.
 * Own code, though modern-tar packs for us: its decoder reads every unknown type flag, GNU sparse included, as a
 * regular file and takes damaged headers in its stride, and a reader of hostile archives must refuse both.
 * Deliberately absent: any opinion on paths (entry-path.ts) and any file system.
 */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { clip } from '../digest.ts';

export type TarType = 'file' | 'directory' | 'symlink' | 'hardlink';

export interface TarEntry {
  /** As written in the archive. */
  readonly path: string;
  readonly type: TarType;
  readonly size: number;
  readonly isExecutable: boolean;
  /** Seconds since the epoch, never negative. */
  readonly mtimeSeconds: number;
  /** Of symbolic and hard links, else empty. */
  readonly target: string;
  /** Contents; what is not read is skipped when the next entry is asked for. */
  readonly body: AsyncIterable<Buffer>;
}

const BLOCK = 512;
/** One pax or GNU long-name record. Real ones are a few hundred bytes. */
const META_BYTES_MAX = 1024 * 1024;
/** Records in front of one entry: pax, long name, long link. */
const METAS_PER_ENTRY_MAX = 8;
const MTIME_SECONDS_MAX = 2 ** 33;
const utf8 = new TextDecoder('utf-8', { fatal: true });

const TYPES: Readonly<Record<string, TarType>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '5': 'directory',
};
const REFUSED: Readonly<Record<string, string>> = {
  '3': 'a character device',
  '4': 'a block device',
  '6': 'a fifo',
  S: 'a sparse file',
  M: 'part of a multi-volume archive',
};

export function badArchive(what: string, cause?: unknown): SkiffError {
  return new SkiffError('INVALID_SOURCE', `archive refused: ${what}`, cause === undefined ? {} : { cause });
}

const NOTHING: AsyncIterable<Buffer> = {
  [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: undefined }) }),
};

interface Overrides {
  path?: string;
  target?: string;
  size?: number;
  mtimeSeconds?: number;
}

/** @throws SkiffError INVALID_SOURCE for anything that is not a complete, plain archive */
export async function* readTar(chunks: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const source = new ByteSource(chunks);
  let overrides: Overrides = {};
  let metas = 0;
  for (;;) {
    const block = await source.take(BLOCK);
    if (block === undefined) throw badArchive('it is cut off: the end mark is missing');
    if (isZero(block)) {
      await finish(source);
      return;
    }
    const header = parseHeader(block);
    if ('xgLK'.includes(header.flag)) {
      if (++metas > METAS_PER_ENTRY_MAX)
        throw badArchive(`more than ${METAS_PER_ENTRY_MAX} extended headers in a row`);
      applyMeta(header.flag, await readMeta(source, header.size), overrides);
      continue;
    }
    const entry = describe(header, overrides);
    if (entry.size === 0) yield { ...entry, body: NOTHING };
    else {
      const body = source.body(entry.size);
      yield { ...entry, body };
      for await (const rest of body) void rest;
      await source.skip(-entry.size & (BLOCK - 1));
    }
    overrides = {};
    metas = 0;
  }
}

interface Header {
  readonly flag: string;
  readonly name: string;
  readonly mode: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly link: string;
}

function parseHeader(block: Buffer): Header {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : (block[i] as number);
  if (readNumber(block, 148, 8) !== sum) throw badArchive('a header is damaged (checksum)');
  const name = readText(block, 0, 100);
  // GNU's own magic is "ustar  " and keeps other things where POSIX has the prefix.
  const isPosix = block.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = isPosix ? readText(block, 345, 155) : '';
  return {
    flag: String.fromCharCode(block[156] as number),
    name: prefix ? `${prefix}/${name}` : name,
    mode: readNumber(block, 100, 8),
    size: readNumber(block, 124, 12),
    mtimeSeconds: readNumber(block, 136, 12, true),
    link: readText(block, 157, 100),
  };
}

function describe(header: Header, overrides: Overrides): Omit<TarEntry, 'body'> {
  const path = overrides.path ?? header.name;
  const size = overrides.size ?? header.size;
  const type = TYPES[header.flag];
  if (type === undefined) {
    throw badArchive(
      `"${clip(path)}" is ${REFUSED[header.flag] ?? `of unknown type "${clip(header.flag)}"`}`,
    );
  }
  // Archivers older than POSIX mark a directory by its name alone.
  const isDirectory = type === 'directory' || (type === 'file' && path.endsWith('/') && size === 0);
  if (type !== 'file' && size > 0)
    throw badArchive(`"${clip(path)}" is a ${type} and has ${size} bytes of content`);
  return {
    path,
    size,
    type: isDirectory ? 'directory' : type,
    isExecutable: (header.mode & 0o111) !== 0,
    mtimeSeconds: Math.min(overrides.mtimeSeconds ?? header.mtimeSeconds, MTIME_SECONDS_MAX),
    target: type === 'symlink' || type === 'hardlink' ? (overrides.target ?? header.link) : '',
  };
}

function applyMeta(flag: string, data: Buffer, overrides: Overrides): void {
  if (flag === 'L') overrides.path = decode(trimNul(data));
  else if (flag === 'K') overrides.target = decode(trimNul(data));
  else {
    for (const [key, value] of parsePax(data)) {
      if (key.startsWith('GNU.sparse.')) throw badArchive('it has a sparse file');
      if (flag === 'g') {
        if (['path', 'linkpath', 'size'].includes(key))
          throw badArchive(`it sets "${key}" for all entries at once`);
      } else applyPax(key, value, overrides);
    }
  }
}

function applyPax(key: string, value: string, overrides: Overrides): void {
  if (key === 'path') overrides.path = value;
  else if (key === 'linkpath') overrides.target = value;
  else if (key === 'size') {
    if (!/^\d{1,15}$/.test(value)) throw badArchive(`a size of "${clip(value)}"`);
    overrides.size = Number(value);
  } else if (key === 'mtime') {
    const seconds = Math.floor(Number(value));
    overrides.mtimeSeconds = Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
  }
}

/** Records are `<length> <key>=<value>\n` where the length counts the whole record. */
function* parsePax(data: Buffer): Generator<[key: string, value: string]> {
  for (let offset = 0; offset < data.length;) {
    const space = data.indexOf(0x20, offset);
    const digits = space < 0 ? '' : data.toString('latin1', offset, space);
    const end = offset + Number(digits);
    if (!/^[1-9]\d{0,6}$/.test(digits) || end <= space + 1 || end > data.length || data[end - 1] !== 0x0a) {
      throw badArchive('an extended header is malformed');
    }
    const equals = data.indexOf(0x3d, space);
    if (equals < 0 || equals >= end) throw badArchive('an extended header has no value');
    const key = decode(data.subarray(space + 1, equals));
    // Attributes may be binary; only those that are used have to be text.
    const isUsed = key === 'path' || key === 'linkpath' || key === 'size' || key === 'mtime';
    yield [key, isUsed ? decode(data.subarray(equals + 1, end - 1)) : ''];
    offset = end;
  }
}

async function readMeta(source: ByteSource, size: number): Promise<Buffer> {
  if (size > META_BYTES_MAX)
    throw badArchive(`an extended header of ${size} bytes; the limit is ${META_BYTES_MAX}`);
  const data = await source.take(size);
  if (data === undefined && size > 0) throw badArchive('it is cut off inside an extended header');
  await source.skip(-size & (BLOCK - 1));
  return data ?? Buffer.alloc(0);
}

/** Behind the end mark only padding may follow: a second archive there is one that another reader would see. */
async function finish(source: ByteSource): Promise<void> {
  const second = await source.take(BLOCK);
  if (second === undefined || !isZero(second)) throw badArchive('the end mark is incomplete');
  for await (const rest of source.body(Number.POSITIVE_INFINITY)) {
    if (!isZero(rest)) throw badArchive('it goes on behind its end mark');
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Octal text, or big-endian binary when the first bit is set (GNU). Negative only where `clamp` makes it zero. */
function readNumber(block: Buffer, offset: number, length: number, clamp = false): number {
  const first = block[offset] as number;
  if (first & 0x80) {
    if (first === 0xff && clamp) return 0;
    let value = first & 0x7f;
    for (let i = offset + 1; i < offset + length; i++) value = value * 256 + (block[i] as number);
    if (!Number.isSafeInteger(value)) throw badArchive('a number in a header is negative or too large');
    return value;
  }
  const text = trimNul(block.subarray(offset, offset + length))
    .toString('latin1')
    .trim();
  if (!/^[0-7]*$/.test(text)) throw badArchive('a number in a header is not octal');
  return text === '' ? 0 : Number.parseInt(text, 8);
}

function readText(block: Buffer, offset: number, length: number): string {
  return decode(trimNul(block.subarray(offset, offset + length)));
}

function trimNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw badArchive('a name is not UTF-8', cause);
  }
}

/** Cuts a chunked stream into exact pieces, copying only what crosses a chunk's border. */
class ByteSource {
  readonly #iterator: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#iterator = chunks[Symbol.asyncIterator]();
  }

  /** Exactly `size` bytes; undefined at the end of the stream or when it ends inside. */
  async take(size: number): Promise<Buffer | undefined> {
    const whole = this.#chunk.length > size ? this.#chunk.subarray(0, size) : undefined;
    if (whole !== undefined && size > 0) {
      this.#chunk = this.#chunk.subarray(size);
      return whole;
    }
    const parts: Buffer[] = [];
    let missing = size;
    for await (const part of this.#pieces(size)) {
      parts.push(part);
      missing -= part.length;
    }
    if (missing > 0 || size === 0) return undefined;
    return parts.length === 1 ? parts[0] : Buffer.concat(parts, size);
  }

  async skip(size: number): Promise<void> {
    if (size < this.#chunk.length) {
      this.#chunk = this.#chunk.subarray(size);
      return;
    }
    for await (const part of this.body(size)) void part;
  }

  /** Up to `size` bytes piece by piece; a finite size must be reached. */
  async *body(size: number): AsyncGenerator<Buffer> {
    let left = size;
    for await (const part of this.#pieces(size)) {
      left -= part.length;
      yield part;
    }
    if (Number.isFinite(left) && left > 0) throw badArchive('it is cut off inside an entry');
  }

  async *#pieces(size: number): AsyncGenerator<Buffer> {
    for (let left = size; left > 0;) {
      if (this.#chunk.length === 0) {
        const next = await this.#iterator.next();
        if (next.done) return;
        this.#chunk = next.value;
        continue;
      }
      const part = this.#chunk.subarray(0, left);
      this.#chunk = this.#chunk.subarray(part.length);
      left -= part.length;
      yield part;
    }
  }
}
