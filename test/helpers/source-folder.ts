/** A folder of source files as a user would have it, for tests of the builder. */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export interface SourceFolder extends AsyncDisposable {
  readonly path: string;
}

/** Paths relative to the folder with their contents; objects are written as JSON. */
export async function createSourceFolder(
  files: Readonly<Record<string, string | Buffer | object>>,
  parent = tmpdir(),
): Promise<SourceFolder> {
  const path = await realpath(await mkdtemp(join(parent, 'skiff-source-')));
  for (const [name, content] of Object.entries(files)) {
    const file = join(path, name);
    await mkdir(dirname(file), { recursive: true });
    const isText = typeof content === 'string' || Buffer.isBuffer(content);
    await writeFile(file, isText ? content : JSON.stringify(content));
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
