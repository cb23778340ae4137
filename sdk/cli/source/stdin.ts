/** A source that is piped in: an archive is sent as it is, anything else is one module. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SOURCE_BYTES_MAX } from '../../protocol/limits.ts';
import { CliFailure } from '../failure.ts';

export type PipedSource =
  | { readonly archive: Uint8Array }
  /** A folder with the module in it; `remove` it after use. */
  | { readonly folder: string; readonly entry: string; readonly remove: () => void };

/** `file` is what the module is called. @throws CliFailure when nothing comes, or too much */
export async function readPipedSource(
  stdin: AsyncIterable<Uint8Array>,
  isTerminal: boolean,
  file: string,
): Promise<PipedSource> {
  if (isTerminal)
    throw new CliFailure('"-" reads the source from a pipe, and there is none', {
      hint: 'cat hello.ts | skiff deploy - --name hello',
    });
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of stdin) {
    bytes += chunk.length;
    if (bytes > SOURCE_BYTES_MAX)
      throw new CliFailure(
        `more than ${SOURCE_BYTES_MAX} bytes were piped in; that is the limit of a source`,
      );
    chunks.push(chunk);
  }
  const content = Buffer.concat(chunks, bytes);
  if (content.toString('utf8').trim() === '') throw new CliFailure('nothing was piped in');
  if (isArchive(content)) return { archive: content };
  const folder = mkdtempSync(join(tmpdir(), 'skiff-piped-'));
  writeFileSync(join(folder, file), content);
  return { folder, entry: file, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** tar, or gzip around it. */
function isArchive(content: Buffer): boolean {
  const isGzip = content[0] === 0x1f && content[1] === 0x8b;
  return isGzip || content.toString('latin1', 257, 262) === 'ustar';
}
