/** What every kind of source has in common: the question, the answer and how one is refused. */
import type { Language } from '../../infra/runtimes/contract.ts';
import type { SourceTree } from './tree.ts';

export interface SourceRequest {
  /** As the user gave it, normalised: a path inside the upload. */
  readonly entry: string | undefined;
  /** As the request or the configuration has it; absent where nobody said. */
  readonly runtime: string | undefined;
}

/** What a source is made into: a function of a language, or the image that a Containerfile describes. */
export type SourceLanguage = Language | 'containerfile';

export interface DetectedSource {
  readonly language: SourceLanguage;
  /** Entry module, relative to the root. */
  readonly entry: string;
  /** How it was found, for the build log. */
  readonly reason: string;
}

/** Answers undefined when the tree is not of its kind; throws INVALID_SOURCE when it is but cannot be built. */
export type SourceKind = (tree: SourceTree, request: SourceRequest) => Promise<DetectedSource | undefined>;

export const SUPPORTED_SOURCES =
  'a JavaScript, TypeScript or Python file, or a folder with package.json, index.*, src/index.* (ts, tsx, mts, js, jsx, mjs, cjs), main.py or app.py, or a Containerfile';

export function listNames(tree: SourceTree): string {
  const shown = tree.names.slice(0, 12).join(', ');
  return tree.names.length > 12 ? `${shown} and ${tree.names.length - 12} more` : shown;
}
