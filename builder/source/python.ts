/** Python: a single file, or a folder with a module of a conventional name. */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { type DetectedSource, listNames, type SourceRequest } from './kind.ts';
import { isFileWithin, type SourceTree } from './tree.ts';

/** In the order in which they are tried, here and in src/. */
const ENTRIES = ['main.py', 'app.py', 'handler.py', 'index.py', 'asgi.py', 'wsgi.py'];
const NOT_ENTRY = /^(?:setup|conftest|test_.*|.*_test|__.*__)\.py$/;
const MARKS = ['requirements.txt', 'pyproject.toml', 'setup.py', 'Pipfile'];

export async function detectPython(
  tree: SourceTree,
  request: SourceRequest,
): Promise<DetectedSource | undefined> {
  const { entry } = request;
  if (entry !== undefined) {
    if (!entry.endsWith('.py')) return undefined;
    if (await isFileWithin(tree.root, entry)) return { language: 'python', entry, reason: 'given' };
    throw new SkiffError(
      'INVALID_SOURCE',
      `entry "${entry}" is not in the upload; it has ${listNames(tree)}`,
    );
  }
  for (const folder of ['', 'src/']) {
    for (const name of ENTRIES) {
      const path = folder + name;
      if (await isFileWithin(tree.root, path))
        return { language: 'python', entry: path, reason: 'by its name' };
    }
  }
  const modules = tree.names.filter((name) => name.endsWith('.py') && !NOT_ENTRY.test(name));
  const [only] = modules;
  if (only !== undefined && modules.length === 1)
    return { language: 'python', entry: only, reason: 'the only module' };
  const isPython = modules.length > 0 || tree.names.some((name) => MARKS.includes(name));
  if (!isPython) return undefined;
  throw new SkiffError(
    'INVALID_SOURCE',
    `which Python module is the function? The upload has ${listNames(tree)}; name one main.py or give --entry`,
  );
}
