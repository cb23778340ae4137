/** Imports that are known not to work in a sandbox: said while building, not found out when called. */
import type { Metafile } from 'esbuild';

const REASONS: Readonly<Record<string, string>> = {
  cluster: 'a sandbox is one process behind one socket; use concurrency and --max instead',
  electron: 'there is no screen',
  vscode: 'it exists only inside the editor',
  puppeteer: 'there is no browser in the base image; deploy an image that has one',
  playwright: 'there is no browser in the base image; deploy an image that has one',
  fsevents: 'it is of macOS',
};

/** One sentence for each such import, with the file that has it. */
export function findUnworkable(metafile: Metafile): string[] {
  const found = new Map<string, string>();
  for (const [path, { imports }] of Object.entries(metafile.inputs)) {
    // Packages often ask for what they can do without.
    if (path.includes('node_modules/')) continue;
    for (const { path: target, original } of imports) {
      const name = (original ?? target).replace(/^node:/, '');
      const reason = Object.hasOwn(REASONS, name) ? REASONS[name] : undefined;
      if (reason !== undefined) found.set(name, `${path}: "${name}" will not work in a sandbox: ${reason}`);
    }
  }
  return [...found.values()];
}
