/**
 * The documents of an image (index, manifest, config) beside its root filesystem, so that another host can have them from
 * here. Invariant: what is read back has the digest it is kept under. Small, so they are in memory as well.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { digestOf } from '../digest.ts';

export interface StoredDocument {
  readonly digest: string;
  /** As it was served; of a config whatever the manifest says. */
  readonly mediaType: string;
  readonly bytes: Buffer;
}

const FILE = 'documents.json';
/** Of one image together. Larger ones are had from the registry alone. */
const BYTES_MAX = 256 * 1024;
const Stored = z.array(z.object({ mediaType: z.string(), base64: z.string() }));

export async function writeDocuments(
  folder: string,
  documents: readonly Omit<StoredDocument, 'digest'>[],
): Promise<void> {
  if (documents.reduce((sum, { bytes }) => sum + bytes.length, 0) > BYTES_MAX) return;
  const stored = documents.map(({ mediaType, bytes }) => ({ mediaType, base64: bytes.toString('base64') }));
  await writeFile(join(folder, FILE), JSON.stringify(stored));
}

/** Nothing when there are none, or they are damaged. */
export async function tryReadDocuments(folder: string): Promise<StoredDocument[]> {
  try {
    return Stored.parse(JSON.parse(await readFile(join(folder, FILE), 'utf8'))).map((stored) => {
      const bytes = Buffer.from(stored.base64, 'base64');
      return { digest: digestOf(bytes), mediaType: stored.mediaType, bytes };
    });
  } catch {
    return [];
  }
}
