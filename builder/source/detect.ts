/**
 * Decides what an unpacked upload is and where its entry module is. One file per kind of source; adding a kind is
 * adding a file and one line to KINDS.
 * Invariant: detection reads names, package.json and nothing else, and runs nothing of the upload.
 * Deliberately absent: unpacking (unpack.ts), installing (../install), bundling (../bundle).
 */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { detectContainerfile } from './containerfile.ts';
import { detectJavaScript } from './javascript.ts';
import {
  type DetectedSource,
  listNames,
  type SourceKind,
  type SourceRequest,
  SUPPORTED_SOURCES,
} from './kind.ts';
import { detectPython } from './python.ts';
import { type SourceTree, tryNormalizePath } from './tree.ts';

// The order decides what a mixed folder is: a Containerfile or requirements.txt beside a package.json is common in
// JavaScript projects, the reverse is not.
const KINDS: readonly SourceKind[] = [detectJavaScript, detectPython, detectContainerfile];

/** Throws INVALID_SOURCE with what was looked for and what was there. */
export async function detectSource(tree: SourceTree, request: SourceRequest): Promise<DetectedSource> {
  const entry = request.entry === undefined ? undefined : tryNormalizePath(request.entry);
  if (request.entry !== undefined && entry === undefined) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `entry "${request.entry}" is not a path inside the upload; give one like src/index.ts`,
    );
  }
  for (const kind of KINDS) {
    const found = await kind(tree, { ...request, entry });
    if (found) return found;
  }
  throw new SkiffError(
    'INVALID_SOURCE',
    `no entry module found; the upload has ${listNames(tree)}; supported is ${SUPPORTED_SOURCES}, or name the module with --entry`,
  );
}
