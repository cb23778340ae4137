/**
 * A package of a monorepo, with what it needs: its own files, those of the packages of the same repository that it
 * depends on, and what the root says about installing and building. Other packages are represented by their
 * package.json alone, since a lock file names them.
 */
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { CliFailure } from '../failure.ts';

export interface Workspace {
  /** Folder whose package.json or pnpm-workspace.yaml names the packages. */
  readonly root: string;
  /** The package itself, relative to it. */
  readonly folder: string;
  /** Folders of it and of the packages it needs, relative to the root. */
  readonly needed: readonly string[];
  /** Of the root, and package.json of packages that are not needed. Relative to the root. */
  readonly files: readonly string[];
}

interface Member {
  readonly folder: string;
  readonly name: string | undefined;
  readonly dependencies: readonly string[];
}

const PNPM_FILE = 'pnpm-workspace.yaml';
const ROOT_FILES = [
  'package.json',
  'package-lock.json',
  'npm-shrinkwrap.json',
  'yarn.lock',
  '.yarnrc.yml',
  'pnpm-lock.yaml',
  PNPM_FILE,
];
const DEPENDENCY_FIELDS = ['dependencies', 'optionalDependencies', 'peerDependencies', 'devDependencies'];

/** Undefined when the folder is not a package of a monorepo. `folder` is a real path. */
export function tryFindWorkspace(folder: string): Workspace | undefined {
  if (!existsSync(join(folder, 'package.json'))) return undefined;
  for (let root = dirname(folder); root !== dirname(root); root = dirname(root)) {
    const manifest = tryReadManifest(root);
    const patterns = (manifest && readPatterns(manifest)) ?? tryReadPnpmPatterns(root);
    if (patterns) {
      const members = listMembers(root, patterns);
      const own = relative(root, folder).split(sep).join('/');
      if (members.some((member) => member.folder === own)) return describe(root, own, members);
    }
    if (existsSync(join(root, '.git'))) return undefined;
  }
  return undefined;
}

function describe(root: string, own: string, members: readonly Member[]): Workspace {
  const needed = new Set([own]);
  for (const folder of needed) {
    const member = members.find((one) => one.folder === folder);
    for (const name of member?.dependencies ?? []) {
      const local = members.find((one) => one.name === name);
      if (local) needed.add(local.folder);
    }
  }
  const others = members.filter(({ folder }) => !needed.has(folder));
  const configs = globSync('tsconfig*.json', { cwd: root });
  return {
    root,
    folder: own,
    needed: [...needed],
    files: [
      ...ROOT_FILES.filter((name) => existsSync(join(root, name))),
      ...configs,
      ...others.map(({ folder }) => `${folder}/package.json`),
    ],
  };
}

function listMembers(root: string, patterns: readonly string[]): Member[] {
  const isNegated = (pattern: string): boolean => pattern.startsWith('!');
  const exclude = ['**/node_modules/**', ...patterns.filter(isNegated).map((one) => one.slice(1))];
  const folders = new Set(
    patterns
      .filter((pattern) => !isNegated(pattern))
      .flatMap((pattern) =>
        globSync(pattern.replace(/^\.\//, '').replace(/\/$/, ''), { cwd: root, exclude }),
      ),
  );
  return [...folders].sort().flatMap((found) => {
    const folder = found.split(sep).join('/');
    if (statSync(join(root, folder), { throwIfNoEntry: false })?.isDirectory() !== true) return [];
    const manifest = tryReadManifest(join(root, folder));
    if (!manifest) return [];
    const dependencies = DEPENDENCY_FIELDS.flatMap((field) => Object.keys((manifest[field] ?? {}) as object));
    return [{ folder, name: manifest['name'] as string | undefined, dependencies }];
  });
}

function readPatterns(manifest: Record<string, unknown>): string[] | undefined {
  const { workspaces } = manifest;
  const list = Array.isArray(workspaces)
    ? workspaces
    : (workspaces as { packages?: unknown } | undefined)?.packages;
  return Array.isArray(list) ? list.filter((one) => typeof one === 'string') : undefined;
}

/** Undefined when there is no such file, or none that names packages: pnpm has other settings in it as well. */
function tryReadPnpmPatterns(root: string): string[] | undefined {
  const file = join(root, PNPM_FILE);
  if (!existsSync(file)) return undefined;
  try {
    const { packages } = (parseYaml(readFileSync(file, 'utf8')) ?? {}) as { packages?: unknown };
    return Array.isArray(packages) ? packages.filter((one) => typeof one === 'string') : undefined;
  } catch (error) {
    throw new CliFailure(`${file} cannot be read: ${(error as Error).message.split('\n', 1)[0]}`);
  }
}

function tryReadManifest(folder: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
  } catch {
    // Absent, or broken: the server says better what is wrong with one that is sent.
    return undefined;
  }
}
