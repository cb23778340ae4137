/** Containerfiles and image references: recognised so that their refusal is clear. */
import { createRefusal, type DetectedSource, type SourceRequest } from './kind.ts';
import type { SourceTree } from './tree.ts';

export async function detectContainerfile(
  tree: SourceTree,
  request: SourceRequest,
): Promise<DetectedSource | undefined> {
  const mark = tree.names.find((name) => /^(?:Containerfile|Dockerfile)(?:\.[\w-]+)?$/.test(name));
  if (mark !== undefined) throw createRefusal(`a ${mark}`);
  if (request.runtime === 'image') throw createRefusal('an image reference');
  return undefined;
}
