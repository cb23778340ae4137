/**
 * Decides what an unpacked upload is and where its entry module is. One file per kind of source; adding a kind is
 * adding a file and one line to KINDS.
 * Invariant: detection reads names, package.json and nothing else, and runs nothing of the upload.
 * Deliberately absent: unpacking, installing (../install), bundling (../bundle).
 */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { tryFindRuntime } from '../../infra/runtimes/catalog.ts';
import type { Language } from '../../infra/runtimes/contract.ts';
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

// The order decides what a mixed folder is when the runtime does not: a Containerfile or requirements.txt beside a
// package.json is common in JavaScript projects, the reverse is not. --file says otherwise.
const KINDS: readonly SourceKind[] = [detectJavaScript, detectPython, detectContainerfile];
const BY_LANGUAGE: Readonly<Record<Language, SourceKind>> = {
  javascript: detectJavaScript,
  python: detectPython,
};

/** Throws INVALID_SOURCE with what was looked for and what was there, or when the runtime cannot run what was found. */
export async function detectSource(tree: SourceTree, request: SourceRequest): Promise<DetectedSource> {
  const entry = request.entry === undefined ? undefined : tryNormalizePath(request.entry);
  if (request.entry !== undefined && entry === undefined) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `entry "${request.entry}" is not a path inside the upload; give one like src/index.ts`,
    );
  }
  const wanted = request.runtime === undefined ? undefined : tryFindRuntime(request.runtime);
  const first = wanted ? [BY_LANGUAGE[wanted.language]] : [];
  for (const kind of new Set([...first, ...KINDS])) {
    const found = await kind(tree, { ...request, entry });
    if (!found) continue;
    if (wanted && wanted.language !== found.language) {
      throw new SkiffError(
        'INVALID_SOURCE',
        `runtime "${wanted.name}" cannot run ${found.entry}; leave --runtime away or give one for ${found.language}`,
      );
    }
    return found;
  }
  throw new SkiffError(
    'INVALID_SOURCE',
    `no entry module found; the upload has ${listNames(tree)}; supported is ${SUPPORTED_SOURCES}, or name the module with --entry`,
  );
}
