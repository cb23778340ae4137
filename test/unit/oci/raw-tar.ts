/** Writes tar archives byte by byte, also ones that no honest archiver would write. */

export interface RawEntry {
  readonly name: string;
  /** Type flag; '0' (file) when absent. */
  readonly flag?: string;
  readonly body?: Buffer | string;
  readonly link?: string;
  readonly mode?: number;
  /** Size field as it stands in the header; the body's length when absent. */
  readonly size?: number | Buffer;
  readonly prefix?: string;
  readonly magic?: string;
  readonly mtime?: number;
  /** Added to the checksum, to spoil it. */
  readonly checksumError?: number;
}

export const END = Buffer.alloc(1024);

export function rawHeader(entry: RawEntry): Buffer {
  const block = Buffer.alloc(512);
  const body = Buffer.from(entry.body ?? '');
  block.write(entry.name, 0, 100, 'utf8');
  block.write(octal(entry.mode ?? 0o644, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  if (Buffer.isBuffer(entry.size)) entry.size.copy(block, 124);
  else block.write(octal(entry.size ?? body.length, 11), 124);
  block.write(octal(entry.mtime ?? 0, 11), 136);
  block.write(entry.flag ?? '0', 156, 1, 'latin1');
  block.write(entry.link ?? '', 157, 100, 'utf8');
  block.write(entry.magic ?? 'ustar\u000000', 257, 8, 'latin1');
  block.write(entry.prefix ?? '', 345, 155, 'utf8');
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0) + (entry.checksumError ?? 0);
  block.write(`${octal(sum, 6)}\0 `, 148, 8, 'latin1');
  return block;
}

export function rawEntry(entry: RawEntry): Buffer {
  const body = Buffer.from(entry.body ?? '');
  return Buffer.concat([rawHeader(entry), body, Buffer.alloc(-body.length & 511)]);
}

/** A whole archive with its end mark. */
export function rawTar(...entries: readonly RawEntry[]): Buffer {
  return Buffer.concat([...entries.map(rawEntry), END]);
}

export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = Buffer.byteLength(rest);
  while (length !== Buffer.byteLength(`${length}${rest}`)) length = Buffer.byteLength(`${length}${rest}`);
  return `${length}${rest}`;
}

export function paxEntry(records: Readonly<Record<string, string>>, flag: 'x' | 'g' = 'x'): RawEntry {
  const body = Object.entries(records)
    .map(([key, value]) => paxRecord(key, value))
    .join('');
  return { name: 'PaxHeader', flag, body };
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
