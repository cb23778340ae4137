/**
 * What an install needs from the source and nothing more: reduced package.json files and a lock file. Scripts, .npmrc
 * and code never reach npm, so they cannot matter, and a change of them does not change the key.
 * Invariant: equal plans have equal keys, on every host of the same architecture.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { SourceTree } from '../../source/tree.ts';
import type { InstallPlan } from '../tool.ts';
import { chooseManager, type Manager } from './managers.ts';

/** Raised when an install gives another result for the same input. */
const PLAN_VERSION = 1;
const LOCAL_PACKAGES_MAX = 500;
const LOCAL_DEPTH_MAX = 6;
/** Lock files of managers that are not run. */
const FOREIGN_LOCKS = ['bun.lock', 'bun.lockb', 'deno.lock'];
const KEPT_FIELDS = [
  'name',
  'version',
  'type',
  'main',
  'dependencies',
  'optionalDependencies',
  'peerDependencies',
  'peerDependenciesMeta',
  'devDependencies',
  'workspaces',
  'engines',
  'os',
  'cpu',
  'libc',
  'bin',
];
const DEPENDENCY_FIELDS = ['dependencies', 'optionalDependencies'] as const;

/** Undefined when there is nothing to install. @throws SkiffError INVALID_SOURCE for what cannot be installed. */
export async function planNpm(
  tree: SourceTree,
  runtime: string,
  mayRunScripts = false,
): Promise<InstallPlan | undefined> {
  const manifest = tree.packageJson;
  if (!manifest || tree.names.includes('node_modules/')) return undefined;
  const { manager, command, lock, settings } = await chooseManager(tree);
  const hasWorkspaces = manifest.workspaces !== undefined || /^packages\s*:/m.test(settings?.text ?? '');
  const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
  if (names.length === 0 && !hasWorkspaces) return undefined;
  const hasLocalPackages =
    hasWorkspaces || DEPENDENCY_FIELDS.some((field) => Object.values(manifest[field]).some(isLocalSpec));
  const paths = hasLocalPackages ? await listManifests(tree.root) : ['package.json'];
  const files: { path: string; text: string }[] = [];
  for (const path of paths) files.push({ path, text: await readReduced(tree.root, path, manager) });
  for (const file of [settings, lock]) if (file) files.push(file);
  // Runs of npm without scripts keep the keys they had before there was a choice.
  const choice = manager.name === 'npm' && !mayRunScripts ? [] : [manager.name, mayRunScripts];
  const inputs = [PLAN_VERSION, runtime, process.arch, files, ...choice];
  return {
    key: createHash('sha256').update(JSON.stringify(inputs)).digest('hex'),
    title: [manager.name, ...command].join(' '),
    manager: manager.name,
    mayRunScripts,
    args: command,
    files,
    hasLocalPackages,
    warnings: lock ? [] : [describeMissingLock(tree)],
  };
}

function describeMissingLock(tree: SourceTree): string {
  const foreign = FOREIGN_LOCKS.find((name) => tree.names.includes(name));
  return foreign === undefined
    ? 'there is no package-lock.json: versions are chosen anew when package.json changes; run "npm install" and upload the lock file'
    : `${foreign} is not read: versions are chosen from package.json; add a package-lock.json ("npm install --package-lock-only")`;
}

function isLocalSpec(spec: string): boolean {
  return /^(?:file:|link:|workspace:|\.{1,2}\/)/.test(spec);
}

/** Only the registry can be reached from the sandbox; git, URLs and tarballs in the upload cannot be installed. */
function assertInstallable(path: string, name: string, spec: string): void {
  const isRegistry = /^(?:npm:)?(?:@[\w.~-]+\/)?[^:/]*$/.test(spec) || /^catalog:[\w.-]*$/.test(spec);
  const isFolder = isLocalSpec(spec) && !/\.(?:tgz|tar\.gz|tar)$/.test(spec);
  if (isRegistry || isFolder) return;
  throw new SkiffError(
    'INVALID_SOURCE',
    `${path}: dependency "${name}" is "${spec}"; only packages of the npm registry and folders of the upload can be installed`,
  );
}

async function readReduced(root: string, path: string, manager: Manager): Promise<string> {
  let manifest: Record<string, unknown>;
  try {
    manifest = JSON.parse((await readFile(join(root, path), 'utf8')).replace(/^\uFEFF/, '')) as Record<
      string,
      unknown
    >;
  } catch (error) {
    throw new SkiffError('INVALID_SOURCE', `${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const reduced = Object.fromEntries(
    [...KEPT_FIELDS, ...manager.fields].flatMap((field) =>
      manifest[field] === undefined ? [] : [[field, manifest[field]]],
    ),
  );
  for (const field of DEPENDENCY_FIELDS) {
    for (const [name, spec] of Object.entries((reduced[field] ?? {}) as Record<string, unknown>))
      assertInstallable(path, name, String(spec));
  }
  return `${JSON.stringify(reduced, null, 2)}\n`;
}

async function listManifests(root: string, folder = '', depth = 0): Promise<string[]> {
  const found: string[] = [];
  const entries = await readdir(join(root, folder), { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isFile() && entry.name === 'package.json') found.push(path);
    if (
      entry.isDirectory() &&
      entry.name !== 'node_modules' &&
      !entry.name.startsWith('.') &&
      depth < LOCAL_DEPTH_MAX
    ) {
      found.push(...(await listManifests(root, path, depth + 1)));
    }
  }
  if (found.length > LOCAL_PACKAGES_MAX)
    throw new SkiffError(
      'INVALID_SOURCE',
      `the upload has more than ${LOCAL_PACKAGES_MAX} package.json files`,
    );
  return found;
}
