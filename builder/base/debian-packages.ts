/**
 * What a runtime needs of Debian, from its own packages by the host's apt: signed, patched, and with their package
 * records, so that scanners of images recognise them.
 */
import { execFile } from 'node:child_process';
import { access, mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { digestOf } from '../../infra/oci/digest.ts';
import { listEntries, type LayerEntry } from '../../infra/oci/layer-pack.ts';
import type { BaseRecipe } from '../../infra/runtimes/contract.ts';
import { remembered } from './remembered.ts';

/** Documentation, character set modules, audit hooks and debugger scripts: 8 MB that no function reads. */
const DROPPED =
  /^usr\/(?:share\/(?!doc\/[^/]+\/copyright$)|lib\/[^/]+\/(?:gconv|audit)\/)|\/(?:gconv|audit)(?:\/|$)/;
/** `apt-get update` replaces files in it. */
const APT_LISTS = '/var/lib/apt/lists';
const APT_MS_MAX = 180_000;
// The packages go to a folder of ours, which apt's own unprivileged user cannot write to.
const APT_OPTIONS = ['-q', '-o', 'APT::Sandbox::User=root'];
const run = promisify(execFile);

export interface DebianPackage {
  readonly name: string;
  readonly file: string;
  /** `sha256:…` from apt's signed lists. */
  readonly digest: string;
}

/**
 * The versions apt would download now, in a fixed order. Downloads nothing; asks apt, which takes most of a second,
 * only after its lists changed. @throws SkiffError UNAVAILABLE when this host has no apt or no package lists
 */
export async function listPackages(
  names: readonly string[],
  folder: string,
  onProgress: (line: string) => void,
): Promise<DebianPackage[]> {
  const changedMs = await stat(APT_LISTS).then(
    (found) => found.mtimeMs,
    () => 0,
  );
  const list = names.join(' ');
  const key = `${list} ${process.arch} ${changedMs}`;
  const file = join(folder, `${digestOf(list).slice(7, 19)}.json`);
  return remembered(file, key, () => askApt(names, onProgress));
}

async function askApt(
  names: readonly string[],
  onProgress: (line: string) => void,
): Promise<DebianPackage[]> {
  const query = (): Promise<string> => apt(['--print-uris', 'download', ...names]);
  const text = await query().catch(async () => {
    onProgress('refreshing the lists of Debian packages');
    await apt(['update']);
    return query();
  });
  const found = [...text.matchAll(/^'\S+' ((\S+?)_\S+\.deb) \d+ SHA256:([0-9a-f]{64})$/gm)].map(
    ([, file, name, hex]) => ({ name: name as string, file: file as string, digest: `sha256:${hex}` }),
  );
  const missing = names.filter((name) => !found.some((one) => one.name === name));
  if (missing.length > 0) {
    throw new SkiffError(
      'UNAVAILABLE',
      `apt knows no package ${missing.join(', ')}; the base image is assembled from Debian packages`,
    );
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * Downloads what is not in `folder` yet, checks it, unpacks it below `root`, prepares it there and returns the files
 * for a layer. The recipe's command runs with that root as its "/" and an empty environment.
 */
export async function unpackPackages(
  packages: readonly DebianPackage[],
  recipe: BaseRecipe,
  folder: string,
  root: string,
  onProgress: (line: string) => void,
): Promise<LayerEntry[]> {
  await mkdir(folder, { recursive: true });
  await mkdir(root, { recursive: true });
  const absent = [];
  for (const one of packages) if (!(await isFile(join(folder, one.file)))) absent.push(one.name);
  if (absent.length > 0) {
    onProgress(`downloading ${absent.join(', ')}`);
    await apt(['download', ...absent], folder);
  }
  const records: LayerEntry[] = [];
  for (const one of packages) {
    const file = join(folder, one.file);
    const actual = digestOf(await readFile(file));
    if (actual !== one.digest) {
      throw new SkiffError(
        'UNAVAILABLE',
        `package ${file} has digest ${actual}, apt's lists say ${one.digest}; delete it and try again`,
      );
    }
    await run('dpkg-deb', ['--extract', file, root], { timeout: APT_MS_MAX });
    const { stdout } = await run('dpkg-deb', ['--field', file], { timeout: APT_MS_MAX });
    records.push({ path: `var/lib/dpkg/status.d/${one.name}`, data: stdout });
  }
  if (recipe.prepare) await prepare(recipe.prepare, root);
  const files = await listEntries(root);
  const isKept = ({ path }: LayerEntry): boolean =>
    recipe.without?.test(path) !== true && (!DROPPED.test(path) || recipe.keep?.test(path) === true);
  // Folders come back as parents of the files that are kept.
  return [...files.filter((entry) => !('directory' in entry) && isKept(entry)), ...records];
}

async function prepare([program, ...args]: readonly string[], root: string): Promise<void> {
  try {
    // A fixed hash seed, as compiled modules hold sets in the order of their hashes.
    const env = { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8', PYTHONHASHSEED: '0' };
    await run('/usr/sbin/chroot', [root, program as string, ...args], { timeout: APT_MS_MAX, env });
  } catch (cause) {
    throw new SkiffError(
      'UNAVAILABLE',
      `preparing the base image with ${program} failed: ${lastLineOf(cause) || (cause as Error).message}`,
      { cause },
    );
  }
}

function lastLineOf(error: unknown): string {
  const text = String((error as { stderr?: string }).stderr ?? '');
  return text.trim().split('\n').at(-1) ?? '';
}

async function apt(args: readonly string[], cwd?: string): Promise<string> {
  try {
    const { stdout } = await run('apt-get', [...APT_OPTIONS, ...args], {
      timeout: APT_MS_MAX,
      ...(cwd === undefined ? {} : { cwd }),
    });
    return stdout;
  } catch (cause) {
    throw new SkiffError(
      'UNAVAILABLE',
      `apt-get ${args.join(' ')} failed: ${lastLineOf(cause) || (cause as Error).message}`,
      { cause },
    );
  }
}

async function isFile(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
