/** Python: recognised so that its refusal is clear. */
import { createRefusal, type DetectedSource, type SourceRequest } from './kind.ts';
import type { SourceTree } from './tree.ts';

const MARKS = [
  'requirements.txt',
  'pyproject.toml',
  'setup.py',
  'Pipfile',
  'main.py',
  'app.py',
  'handler.py',
];

export async function detectPython(
  tree: SourceTree,
  request: SourceRequest,
): Promise<DetectedSource | undefined> {
  const mark = request.entry?.endsWith('.py')
    ? request.entry
    : tree.names.find((name) => MARKS.includes(name) || name.endsWith('.py'));
  if (mark !== undefined || request.runtime.startsWith('python:'))
    throw createRefusal(`Python source (${mark ?? request.runtime})`);
  return undefined;
}
