/**
 * Packs a source as a tar archive. Invariant: the same files give the same bytes on every host and day: names are
 * sorted, times are zero, owners are root, and of a mode only "executable" is kept.
 */
import { readFile } from 'node:fs/promises';
import { statSync } from 'node:fs';
import { createTarPacker } from 'modern-tar';
import { SOURCE_BYTES_MAX, SOURCE_ENTRIES_MAX } from '../../protocol/limits.ts';
import { CliFailure } from '../failure.ts';
import { formatBytes } from '../output/quantities.ts';
import type { SourceFile } from './files.ts';

const EPOCH = new Date(0);

/** Throws CliFailure when the server would refuse the source for its size. Returns the bytes of all files. */
export function measureSource(files: readonly SourceFile[]): number {
  if (files.length > SOURCE_ENTRIES_MAX) {
    throw new CliFailure(`the source has ${files.length} files; the limit is ${SOURCE_ENTRIES_MAX}`, {
      hint: 'name folders that are not needed in .skiffignore',
    });
  }
  const sizes = files.map((file) => ({ name: file.name, bytes: statSync(file.path).size }));
  const total = sizes.reduce((sum, file) => sum + file.bytes, 0);
  if (total > SOURCE_BYTES_MAX) {
    const largest = sizes.toSorted((a, b) => b.bytes - a.bytes).slice(0, 3);
    throw new CliFailure(
      `the source has ${formatBytes(total)}; the limit is ${formatBytes(SOURCE_BYTES_MAX)}`,
      {
        hint: `name what is not needed in .skiffignore; the largest are ${largest
          .map((file) => `${file.name} (${formatBytes(file.bytes)})`)
          .join(', ')}`,
      },
    );
  }
  return total;
}

const BLOCK_BYTES = 512;

/** Of the archive: a header and whole blocks for each file, and two empty blocks. Long names take a little more. */
function measureArchive(files: readonly SourceFile[]): number {
  const blocks = files.map(({ path }) => 1 + Math.ceil(statSync(path).size / BLOCK_BYTES));
  return BLOCK_BYTES * blocks.reduce((sum, count) => sum + count, 2);
}

/** The archive, and what share of it has been taken so far: never all, before the server has said so. */
export function readSource(
  { files }: { readonly files: readonly SourceFile[] },
  onShare: (percent: number) => void,
): ReadableStream<Uint8Array> {
  const inAll = measureArchive(files);
  let bytes = 0;
  return packSource(files).pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        bytes += chunk.length;
        onShare(Math.min(99, Math.floor((100 * bytes) / inAll)));
        controller.enqueue(chunk);
      },
    }),
  );
}

/** The archive as a stream that reads one file at a time. Call again for the same bytes. */
export function packSource(files: readonly SourceFile[]): ReadableStream<Uint8Array> {
  const { readable, controller } = createTarPacker();
  const fill = async (): Promise<void> => {
    for (const file of files) {
      // Read whole, so that the size in the header is the size that follows, also when an editor saves meanwhile.
      const content = await readFile(file.path);
      const body = controller.add({
        name: file.name,
        size: content.length,
        mode: file.isExecutable ? 0o755 : 0o644,
        mtime: EPOCH,
        uid: 0,
        gid: 0,
        type: 'file',
      });
      const writer = body.getWriter();
      await writer.write(content);
      await writer.close();
    }
    controller.finalize();
  };
  fill().catch((error: unknown) => controller.error(error));
  return readable;
}
