/**
 * Packs files into an image layer so that the same files always give the same digest: sorted names, time 0, owner 0,
 * modes 0444 and 0555, no names of users. gzip, because Docker 20.10 cannot read zstd layers.
 * Invariant: a layer never holds a name that starts with `.wh.`: readers would take it for a removal.
 */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { createTarPacker, type TarHeader } from 'modern-tar';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { parentOf, parseEntryPath, parseLinkTarget } from './archive/entry-path.ts';
import { clip } from './digest.ts';
import { MEDIA } from './manifest.ts';

/** One thing in a layer. Paths are relative to the image's root; parents are added by themselves. */
export type LayerEntry =
  | { readonly path: string; readonly data: Buffer | string; readonly isExecutable?: boolean }
  /** Contents of a file of this host. */
  | { readonly path: string; readonly file: string; readonly isExecutable?: boolean }
  | { readonly path: string; readonly target: string }
  | { readonly path: string; readonly directory: true; readonly mode?: number };

export interface PackedLayer {
  readonly digest: string;
  readonly diffId: string;
  /** Compressed. */
  readonly bytes: number;
  readonly mediaType: string;
}

export interface PackOptions {
  /** zlib level; 6 when absent. */
  readonly level?: number;
}

const EPOCH = new Date(0);
const CHUNK_BYTES = 256 * 1024;

/** Packs into memory: for function layers. @throws SkiffError INVALID_SOURCE for a name that a layer cannot hold */
export async function packLayer(
  entries: readonly LayerEntry[],
  options: PackOptions = {},
): Promise<PackedLayer & { readonly data: Buffer }> {
  const parts: Buffer[] = [];
  const layer = await pack(entries, options, async (chunks) => {
    for await (const chunk of chunks) parts.push(chunk);
  });
  return { ...layer, data: Buffer.concat(parts, layer.bytes) };
}

/** Packs into a file, in flat memory: for base layers. */
export async function packLayerFile(
  entries: readonly LayerEntry[],
  file: string,
  options: PackOptions = {},
): Promise<PackedLayer> {
  return pack(entries, options, (chunks) => pipeline(chunks, createWriteStream(file)));
}

/**
 * Everything below a folder as entries under `prefix`. Files are read when the layer is packed.
 * @throws SkiffError INVALID_SOURCE for devices, fifos and sockets
 */
export async function listEntries(folder: string, prefix = ''): Promise<LayerEntry[]> {
  const entries: LayerEntry[] = [];
  const found = await readdir(folder, { withFileTypes: true });
  for (const item of found) {
    const file = join(folder, item.name);
    const path = prefix === '' ? item.name : `${prefix}/${item.name}`;
    if (item.isDirectory()) entries.push({ path, directory: true }, ...(await listEntries(file, path)));
    else if (item.isSymbolicLink()) entries.push({ path, target: await readlink(file) });
    else if (item.isFile())
      entries.push({ path, file, isExecutable: ((await lstat(file)).mode & 0o111) !== 0 });
    else throw new SkiffError('INVALID_SOURCE', `"${clip(path)}" is neither file, folder nor symbolic link`);
  }
  return entries;
}

async function pack(
  entries: readonly LayerEntry[],
  options: PackOptions,
  drain: (chunks: AsyncIterable<Buffer>) => Promise<void>,
): Promise<PackedLayer> {
  const diff = createHash('sha256');
  const compressed = createHash('sha256');
  let bytes = 0;
  const gzip = createGzip({ level: options.level ?? 6, chunkSize: CHUNK_BYTES });
  async function* tar(): AsyncGenerator<Uint8Array> {
    for await (const chunk of writeTar(normalise(entries))) {
      diff.update(chunk);
      yield chunk;
    }
  }
  async function* measure(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      compressed.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  }
  await pipeline(tar(), gzip, async (chunks: AsyncIterable<Buffer>) => drain(measure(chunks)));
  return {
    digest: `sha256:${compressed.digest('hex')}`,
    diffId: `sha256:${diff.digest('hex')}`,
    bytes,
    mediaType: MEDIA.ociLayerGzip,
  };
}

/** Sorted by bytes, parents in front of their children, every name checked as a reader would. */
function normalise(entries: readonly LayerEntry[]): LayerEntry[] {
  const byPath = new Map<string, LayerEntry>();
  for (const entry of entries) {
    const path = parseEntryPath(entry.path);
    if (path.split('/').some((part) => part.startsWith('.wh.'))) {
      throw new SkiffError(
        'INVALID_SOURCE',
        `"${clip(path)}": names that start with ".wh." mean a removal in an image; rename it`,
      );
    }
    const known = byPath.get(path);
    if (known && !('directory' in known && 'directory' in entry)) {
      throw new SkiffError('INVALID_SOURCE', `"${clip(path)}" occurs twice`);
    }
    if (path !== '') byPath.set(path, { ...entry, path });
  }
  for (const path of byPath.keys()) {
    for (let parent = parentOf(path); parent !== ''; parent = parentOf(parent)) {
      const known = byPath.get(parent);
      if (known && !('directory' in known))
        throw new SkiffError(
          'INVALID_SOURCE',
          `"${clip(path)}" is below "${clip(parent)}", which is no folder`,
        );
      if (!known) byPath.set(parent, { path: parent, directory: true });
    }
  }
  return [...byPath.values()].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

async function* writeTar(entries: readonly LayerEntry[]): AsyncGenerator<Uint8Array> {
  const { readable, controller } = createTarPacker();
  const filled = fill(controller, entries).catch((error: unknown) => controller.error(error));
  yield* readable;
  await filled;
}

type TarController = ReturnType<typeof createTarPacker>['controller'];

async function fill(controller: TarController, entries: readonly LayerEntry[]): Promise<void> {
  for (const entry of entries) {
    if ('data' in entry) {
      const data = Buffer.from(entry.data);
      await write(controller, fileHeader(entry, data.length), [data]);
    } else if ('file' in entry) await writeFileEntry(controller, entry);
    else if ('target' in entry) {
      const linkname = parseLinkTarget(entry.path, entry.target);
      await write(
        controller,
        header({ name: entry.path, type: 'symlink', size: 0, mode: 0o777, linkname }),
        [],
      );
    } else {
      await write(
        controller,
        header({ name: `${entry.path}/`, type: 'directory', size: 0, mode: entry.mode ?? 0o555 }),
        [],
      );
    }
  }
  controller.finalize();
}

async function writeFileEntry(
  controller: TarController,
  entry: Extract<LayerEntry, { file: string }>,
): Promise<void> {
  // One handle for size and contents: the path could name another file a moment later.
  const handle = await open(entry.file, 'r');
  try {
    const { size } = await handle.stat();
    const chunks = handle.createReadStream({ autoClose: false, highWaterMark: CHUNK_BYTES });
    await write(controller, fileHeader(entry, size), chunks as AsyncIterable<Uint8Array>);
  } finally {
    await handle.close();
  }
}

function fileHeader(entry: { path: string; isExecutable?: boolean }, size: number): TarHeader {
  return header({ name: entry.path, type: 'file', size, mode: entry.isExecutable ? 0o555 : 0o444 });
}

function header(fields: TarHeader): TarHeader {
  return { ...fields, mtime: EPOCH, uid: 0, gid: 0, uname: '', gname: '' };
}

async function write(
  controller: TarController,
  fields: TarHeader,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const writer = controller.add(fields).getWriter();
  for await (const chunk of chunks) await writer.write(chunk);
  await writer.close();
}
