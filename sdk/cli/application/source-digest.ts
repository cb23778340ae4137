/** The digest that a source will have on the server, without sending it. */
import { createHash } from 'node:crypto';
import { readChunks } from '../../client/fetch.ts';
import type { SourceFiles } from '../source/files.ts';
import { packSource } from '../source/pack.ts';

export async function digestSource({ files }: SourceFiles): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of readChunks(packSource(files))) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}
