/** Python: the source as it is, and the installed packages in a layer of their own below it. */
import { join } from 'node:path';
import { type LayerEntry, listEntries } from '../../infra/oci/layer-pack.ts';
import { LAYER_FILE } from '../install/dependency-store.ts';
import type { CompiledFunction, CompileInput } from './compile.ts';

const TASK_DIR = 'var/task';
/** Made by tools on the author's machine, for its Python. */
const LEFT_OUT = /(?:^|\/)(?:__pycache__|\.pytest_cache|\.mypy_cache|\.venv|venv|\.packages)(?:\/|$)/;

export async function compilePython(input: CompileInput): Promise<CompiledFunction> {
  const { source, detected, dependencies } = input;
  const own = await source.progress.step(
    'bundle',
    () => listFiles(source.tree.root),
    (files) => `${files.length} files, sent as they are`,
  );
  const entry = `/${TASK_DIR}/${detected.entry}`;
  if (!dependencies?.layer) return { entry, layers: [{ entries: own }] };
  const packages = { packed: dependencies.layer, file: join(dependencies.folder, LAYER_FILE) };
  return { entry, layers: [packages, { entries: own }] };
}

async function listFiles(root: string): Promise<LayerEntry[]> {
  const entries = await listEntries(root, TASK_DIR);
  return entries.filter((entry) => !('directory' in entry) && !LEFT_OUT.test(entry.path));
}
