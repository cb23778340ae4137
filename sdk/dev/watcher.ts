/**
 * Tells when files change. One save may be several events (written in pieces, renamed over): they become one call a
 * few milliseconds later. Only names are told, not what happened to them.
 */
import { basename } from 'node:path';
import { once } from 'node:events';
import { watch } from 'chokidar';

export interface FolderWatcher {
  /** Files elsewhere that matter as well. */
  add(paths: readonly string[]): void;
  close(): Promise<void>;
}

const SETTLE_MS = 8;
const IGNORED: ReadonlySet<string> = new Set(['node_modules', '.git', '.hg', '.svn']);

/** Resolves when nothing can be missed any more. */
export async function watchFolders(
  paths: readonly string[],
  onChange: (paths: readonly string[]) => void,
): Promise<FolderWatcher> {
  const changed = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    const all = [...changed];
    changed.clear();
    onChange(all);
  };
  const watcher = watch([...new Set(paths)], {
    ignoreInitial: true,
    ignored: (path) => IGNORED.has(basename(path)),
  });
  watcher.on('all', (event, path) => {
    if (event === 'addDir' || event === 'unlinkDir') return;
    changed.add(path);
    clearTimeout(timer);
    timer = setTimeout(flush, SETTLE_MS);
  });
  await once(watcher, 'ready');
  return {
    add: (more) => void watcher.add([...more]),
    async close() {
      clearTimeout(timer);
      await watcher.close();
    },
  };
}
