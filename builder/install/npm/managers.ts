/**
 * The package managers whose lock files are respected, each by itself: npm, pnpm and Yarn. All of them lay packages
 * out as npm does, so that what follows an install need not know which one ran.
 * Invariant: settings of a project that name other registries, programs or hooks never reach a manager.
 */
import type { NpmProgram } from '../../../infra/runtimes/contract.ts';
import { findLockText, type LockFile } from './lock-file.ts';
import { isFileWithin, type SourceTree } from '../../source/tree.ts';
import { keepBlocks } from './yaml-blocks.ts';

export type ManagerName = 'npm' | 'pnpm' | 'yarn';

export interface Manager {
  readonly name: ManagerName;
  /** An npm package that ships it; absent for the npm of this host. */
  readonly program?: NpmProgram;
  /** Path of its module below the folder that is mounted. */
  readonly module: string;
  /** Fields of a package.json that it reads beside those that all of them do. */
  readonly fields: readonly string[];
  /** A file of settings, and which of them it is given. */
  readonly settings?: { readonly file: string; readonly kept: readonly string[] };
  /** Of every run. */
  args(mayRunScripts: boolean): readonly string[];
  env(mayRunScripts: boolean): Readonly<Record<string, string>>;
  /** Its words for what went wrong; empty for a line that says nothing new. */
  tryReadError(line: string): string | undefined;
}

/** What is to be run for a project. */
export interface ChosenManager {
  readonly manager: Manager;
  readonly command: readonly string[];
  readonly lock: LockFile | undefined;
  readonly settings: LockFile | undefined;
}

/** Where the mirror is in the sandbox, whose network has nothing else on it. */
export const MIRROR_PORT = 4873;
const REGISTRY = `http://127.0.0.1:${MIRROR_PORT}/`;
const CACHE = '/install/home/cache';

const NPM_ERROR = /^npm (?:error|ERR!) ?/;
/** Lines that repeat others, or speak of files inside the sandbox. */
const NPM_NOISE =
  /^(?:code |E?\d{3}(?:$| Note that| tarball,)|\s*$|A complete log|Log files|\/install\/home)/;

const npm: Manager = {
  name: 'npm',
  module: 'bin/npm-cli.js',
  fields: ['overrides'],
  args: (mayRunScripts) => [
    ...(mayRunScripts ? ['--foreground-scripts'] : ['--ignore-scripts']),
    '--omit=dev',
    '--no-audit',
    '--no-fund',
    '--no-update-notifier',
    '--no-progress',
    '--no-color',
    '--loglevel=warn',
    '--fetch-retries=2',
    '--fetch-retry-mintimeout=500',
    '--fetch-retry-maxtimeout=2000',
    '--replace-registry-host=always',
    `--registry=${REGISTRY}`,
    `--cache=${CACHE}`,
  ],
  env: () => ({}),
  tryReadError: (line) => {
    if (!NPM_ERROR.test(line)) return undefined;
    const text = line.replace(NPM_ERROR, '');
    return NPM_NOISE.test(text) ? '' : text;
  },
};

const PNPM_INTEGRITY =
  'sha512-9ieo6XE0Ov5J39D2PQKCNCAd+oMdXLWIcz4eX42ya/FpiaMhYatcG02zsf28NzFgYGtbieAC323RmoWt+R/FqA==';
const PNPM_PACKAGE = { name: 'pnpm', integrity: PNPM_INTEGRITY };

const pnpm: Manager = {
  name: 'pnpm',
  program: {
    // The last one that is a JavaScript program: it runs on the Node of the base image.
    packages: { x64: PNPM_PACKAGE, arm64: PNPM_PACKAGE },
    version: '10.34.8',
    file: 'bin/pnpm.cjs',
    path: 'pnpm',
  },
  module: 'bin/pnpm.cjs',
  fields: ['pnpm'],
  settings: {
    file: 'pnpm-workspace.yaml',
    kept: [
      'packages',
      'catalog',
      'catalogs',
      'overrides',
      'packageExtensions',
      'peerDependencyRules',
      'ignoredOptionalDependencies',
      'supportedArchitectures',
      'autoInstallPeers',
      'excludeLinksFromLockfile',
      'linkWorkspacePackages',
      'injectWorkspacePackages',
    ],
  },
  args: (mayRunScripts) => [
    '--frozen-lockfile',
    '--prod',
    mayRunScripts ? '--config.dangerously-allow-all-builds=true' : '--ignore-scripts',
    '--ignore-pnpmfile',
    '--config.node-linker=hoisted',
    '--config.package-import-method=hardlink',
    '--config.manage-package-manager-versions=false',
    '--config.update-notifier=false',
    '--config.fetch-retries=2',
    '--reporter=append-only',
    `--registry=${REGISTRY}`,
    '--store-dir=/install/home/store',
  ],
  env: () => ({}),
  tryReadError: (line) => {
    const text = /^\s*(ERR_PNPM_\w+\s.*|ERROR\s.*|\* .*|- .* \(lockfile: .*)$/.exec(line)?.[1];
    return text ?? (/^(?:Note that in CI|\s*Failure reason|\s*specifiers in)/.test(line) ? '' : undefined);
  },
};

const YARN_INTEGRITY =
  'sha512-EH+A4TxAtBWXKE0DGQxW9Bo9crXHLJ73mfxjTQJuv8XonNWWTpei8BQ5JjczHJNU9GROTycwMFn8iOvRIZXUcA==';
const YARN_PACKAGE = { name: '@yarnpkg/cli-dist', integrity: YARN_INTEGRITY };
/** Codes of its lines that are news and no errors. */
const YARN_NEWS = new Set([0, 2, 3, 4, 5, 6, 7, 8, 13, 18, 19, 20, 32, 50, 60, 61, 68, 76, 85, 86, 87]);

const yarn: Manager = {
  name: 'yarn',
  program: {
    packages: { x64: YARN_PACKAGE, arm64: YARN_PACKAGE },
    version: '4.18.1',
    file: 'bin/yarn.js',
    path: 'yarn',
  },
  module: 'bin/yarn.js',
  fields: ['resolutions', 'dependenciesMeta'],
  settings: {
    file: '.yarnrc.yml',
    kept: [
      'catalog',
      'catalogs',
      'packageExtensions',
      'supportedArchitectures',
      'compressionLevel',
      'defaultProtocol',
      'nmHoistingLimits',
    ],
  },
  args: () => [],
  env: (mayRunScripts) => ({
    YARN_NPM_REGISTRY_SERVER: REGISTRY.slice(0, -1),
    YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
    YARN_NODE_LINKER: 'node-modules',
    YARN_ENABLE_SCRIPTS: mayRunScripts ? '1' : '0',
    YARN_ENABLE_TELEMETRY: '0',
    YARN_ENABLE_GLOBAL_CACHE: '0',
    YARN_ENABLE_PROGRESS_BARS: '0',
    YARN_ENABLE_COLORS: '0',
    YARN_ENABLE_HARDENED_MODE: '0',
    YARN_CACHE_FOLDER: CACHE,
    YARN_GLOBAL_FOLDER: '/install/home/yarn',
    YARN_IGNORE_PATH: '1',
  }),
  tryReadError: (line) => {
    const [, code, text = ''] = /^➤ YN(\d{4}): (?:[│┌└·] ?)*(.*)$/.exec(line) ?? [];
    if (code === undefined || YARN_NEWS.has(Number(code))) return undefined;
    return /^[+-]/.test(text) ? '' : text;
  },
};

export const MANAGERS: Readonly<Record<ManagerName, Manager>> = { npm, pnpm, yarn };

/** By the lock file that the project has; npm where there is none, or none that is read. */
export async function chooseManager(tree: SourceTree): Promise<ChosenManager> {
  const own = await findLockText(tree, ['npm-shrinkwrap.json', 'package-lock.json']);
  if (own) return choose(tree, npm, ['ci'], own);
  const ofPnpm = await findLockText(tree, ['pnpm-lock.yaml']);
  if (ofPnpm) return choose(tree, pnpm, ['install'], ofPnpm);
  const ofYarn = await findLockText(tree, ['yarn.lock']);
  // npm takes the versions of a first-generation yarn.lock.
  if (ofYarn && /^# yarn lockfile v1$/m.test(ofYarn.text)) return choose(tree, npm, ['install'], ofYarn);
  if (!ofYarn) return choose(tree, npm, ['install'], undefined);
  const version = Number(/^__metadata:\s+version: (\d+)/m.exec(ofYarn.text)?.[1] ?? 0);
  return choose(
    tree,
    yarn,
    version >= YARN_LOCK_VERSION ? ['install', '--immutable'] : ['install', '--no-immutable'],
    ofYarn,
  );
}

/** Older ones are written anew, with the versions they name. */
const YARN_LOCK_VERSION = 8;

async function choose(
  tree: SourceTree,
  manager: Manager,
  command: readonly string[],
  lock: LockFile | undefined,
): Promise<ChosenManager> {
  const { settings } = manager;
  const found =
    settings && tree.names.includes(settings.file) && (await isFileWithin(tree.root, settings.file))
      ? await findLockText(tree, [settings.file])
      : undefined;
  const text = found && settings ? keepBlocks(found.text, settings.kept) : '';
  return { manager, command, lock, settings: found && text !== '' ? { path: found.path, text } : undefined };
}
