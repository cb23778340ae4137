/**
 * Unpacks the compression of an archive and watches it: total size and ratio are limited while it streams, so a bomb
 * stops at the limit plus one buffer and costs no more memory than an honest archive.
 */
import { createHash } from 'node:crypto';
import { pipeline, type Readable, type Transform } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { Compression } from '../manifest.ts';
import { badArchive } from './tar-reader.ts';

/** Text and code compress 3 to 20 fold; zeros 1000 fold. */
const RATIO_MAX = 200;
/** Below this the ratio does not matter. */
const RATIO_FREE_BYTES = 16 * 1024 * 1024;
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const CHUNK_BYTES = 256 * 1024;
/** A frame may ask for any window and the reader must hold it: 32 MB covers all but zstd's `--long`. */
const ZSTD_OPTIONS = {
  chunkSize: CHUNK_BYTES,
  params: { [constants.ZSTD_d_windowLogMax]: 25 },
};

export interface Decompressed {
  /** The tar's bytes. Fails with INVALID_SOURCE on damage or a limit, or with the source's own error. */
  readonly chunks: AsyncIterable<Buffer>;
  /** Digest of what went through so far: the diff id once `chunks` has ended. */
  diffId(): string;
}

export function decompress(
  source: Readable,
  compression: Compression | 'detect',
  bytesMax: number,
): Decompressed {
  const hasher = createHash('sha256');
  async function* read(): AsyncGenerator<Buffer> {
    const kind = compression === 'detect' ? await detect(source) : compression;
    const meter = { bytesIn: 0, bytesOut: 0 };
    for await (const chunk of inflate(source, kind, meter)) {
      meter.bytesOut += chunk.length;
      if (meter.bytesOut > bytesMax)
        throw badArchive(`it unpacks to more than the limit of ${bytesMax} bytes`);
      if (meter.bytesOut > RATIO_FREE_BYTES && meter.bytesOut > meter.bytesIn * RATIO_MAX) {
        throw badArchive(`it unpacks to more than ${RATIO_MAX} times its size`);
      }
      hasher.update(chunk);
      yield chunk;
    }
  }
  return { chunks: read(), diffId: () => `sha256:${hasher.digest('hex')}` };
}

async function* inflate(
  source: Readable,
  compression: Compression,
  meter: { bytesIn: number; bytesOut: number },
): AsyncGenerator<Buffer> {
  if (compression === 'none') {
    // Counted as its own size: nothing expands here.
    for await (const chunk of source as AsyncIterable<Buffer>) {
      meter.bytesIn += chunk.length;
      yield chunk;
    }
    return;
  }
  const inflater: Transform =
    compression === 'gzip' ? createGunzip({ chunkSize: CHUNK_BYTES }) : createZstdDecompress(ZSTD_OPTIONS);
  let sourceFailure: unknown;
  source.once('error', (error) => (sourceFailure = error));
  source.on('data', (chunk: Buffer) => (meter.bytesIn += chunk.length));
  // `pipeline` destroys both ends when one fails or the reader leaves; its own callback has nothing to add.
  pipeline(source, inflater, () => {});
  try {
    yield* inflater as AsyncIterable<Buffer>;
  } catch (error) {
    if (sourceFailure !== undefined) throw sourceFailure;
    if (error instanceof SkiffError) throw error;
    throw badArchive(`its ${compression} data is damaged`, error);
  }
}

/** Looks at the first bytes and puts them back. */
async function detect(source: Readable): Promise<Compression> {
  const first = await readFirst(source);
  if (first.subarray(0, 2).equals(GZIP_MAGIC)) return 'gzip';
  return first.subarray(0, 4).equals(ZSTD_MAGIC) ? 'zstd' : 'none';
}

async function readFirst(source: Readable): Promise<Buffer> {
  const iterator = source.iterator({ destroyOnReturn: false });
  const parts: Buffer[] = [];
  let bytes = 0;
  while (bytes < ZSTD_MAGIC.length) {
    const next = await iterator.next();
    if (next.done) break;
    parts.push(next.value as Buffer);
    bytes += (next.value as Buffer).length;
  }
  await iterator.return?.();
  const first = Buffer.concat(parts);
  if (!source.readableEnded && first.length > 0) source.unshift(first);
  return first;
}
