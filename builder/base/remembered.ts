/** A value that is slow to compute, kept in a file together with what it was computed from. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Computes again when `key` differs or the file is absent or damaged. */
export async function remembered<T>(file: string, key: string, compute: () => Promise<T>): Promise<T> {
  const known = await readFile(file, 'utf8').then(
    (text) => tryParse<T>(text),
    () => undefined,
  );
  if (known?.key === key) return known.value;
  const value = await compute();
  await mkdir(dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.new`;
  await writeFile(temporary, JSON.stringify({ key, value }));
  await rename(temporary, file);
  return value;
}

function tryParse<T>(text: string): { key: string; value: T } | undefined {
  try {
    return JSON.parse(text) as { key: string; value: T };
  } catch {
    return undefined;
  }
}
