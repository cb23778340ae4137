/** Bundles a folder as a deploy does, with the confined bundler where this process may make one, and loads the result. */
import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { type Bundle, bundleFunction, type BundleRequest } from '../../builder/bundle/bundle.ts';
import { type BundlerEngine, openBundlerEngine } from '../../builder/bundle/engine.ts';
import { findNativePackages, NO_NATIVE_PACKAGES } from '../../builder/bundle/native.ts';
import { openSourceTree } from '../../builder/source/tree.ts';
import { createSourceFolder } from './source-folder.ts';
import { ROOT } from './source-tree.ts';

export interface TestBundler {
  readonly engine: BundlerEngine;
  /** Folder that becomes "/" for esbuild; undefined when it is not confined. */
  readonly root: string | undefined;
  bundle(
    files: Readonly<Record<string, string | Buffer | object>>,
    entry: string,
    options?: Partial<BundleRequest>,
    packages?: readonly string[],
  ): Promise<Bundle & { readonly warnings: readonly string[] }>;
  close(): Promise<void>;
}

export async function openTestBundler(options: { confined: boolean }): Promise<TestBundler> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'skiff-bundler-')));
  const root = options.confined ? join(folder, 'root') : undefined;
  const engine = await openBundlerEngine(root, process.env);
  return {
    engine,
    root,
    async bundle(files, entry, request = {}, packages = []) {
      await using source = await createSourceFolder(
        files,
        root === undefined ? tmpdir() : join(root, 'work'),
      );
      if (root !== undefined) await promisify(execFile)('chmod', ['-R', 'go+rX', source.path]);
      const dependencies =
        packages.length === 0
          ? undefined
          : await linkPackages(join(root ?? folder, 'deps'), source.path, packages);
      const tree = await openSourceTree(source.path);
      const warnings: string[] = [];
      const bundle = await bundleFunction({
        root: tree.root,
        entry,
        runtime: 'node:26',
        packageJson: tree.packageJson,
        env: {},
        dependencies,
        native: dependencies === undefined ? await findNativePackages(tree.root) : NO_NATIVE_PACKAGES,
        engine,
        signal: new AbortController().signal,
        onWarning: (text) => warnings.push(text),
        ...request,
      });
      // Assets are named by their place in the source, which goes away now.
      const assets = await Promise.all(
        bundle.assets.map(async (asset) => ({ ...asset, source: await keep(folder, asset.source) })),
      );
      return { ...bundle, assets, warnings };
    },
    async close() {
      await engine.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Packages of this repository as an install would leave them: elsewhere, with `node_modules` as a link to them. */
async function linkPackages(parent: string, source: string, packages: readonly string[]): Promise<string> {
  await mkdir(parent, { recursive: true });
  const home = await mkdtemp(join(parent, 'k-'));
  await chmod(home, 0o755);
  for (const name of packages)
    await cp(join(ROOT, 'node_modules', name), join(home, 'node_modules', name), { recursive: true });
  await symlink(relative(source, join(home, 'node_modules')), join(source, 'node_modules'));
  return home;
}

async function keep(folder: string, source: string): Promise<string> {
  const copy = join(folder, 'assets', source.replaceAll('/', '_'));
  await mkdir(dirname(copy), { recursive: true });
  await cp(source, copy);
  return copy;
}

/** Text of the entry module. */
export function codeOf(bundle: Bundle): string {
  return bundle.outputs.find(({ path }) => bundle.entry.endsWith(path))?.bytes.toString() ?? '';
}

/**
 * Puts the files where `taskDir` is in the bundle's own words, loads the entry in a new Node process as the guest
 * does, and returns what `expression` gives; `loaded` is the module.
 */
export async function runBundle(bundle: Bundle, expression: string): Promise<unknown> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-task-'));
  try {
    for (const { path, bytes } of bundle.outputs) {
      // In an image the folder is always /var/task; here it is wherever the test may write.
      const isCode = !path.endsWith('.map');
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(
        join(folder, path),
        isCode ? bytes.toString('latin1').replaceAll('/var/task', folder) : bytes,
        isCode ? 'latin1' : undefined,
      );
    }
    for (const { path, source } of bundle.assets) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await cp(source, join(folder, path));
    }
    const entry = join(folder, bundle.entry.replace('/var/task/', ''));
    const load =
      bundle.format === 'esm' ? `import(${JSON.stringify(entry)})` : `require(${JSON.stringify(entry)})`;
    const script = `(async () => { const loaded = await ${load}; process.stdout.write(JSON.stringify(await (${expression}))); })()`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--enable-source-maps', '-e', script], {
      timeout: 20_000,
    });
    return JSON.parse(stdout);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
