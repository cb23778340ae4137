/**
 * The few shared libraries that Node needs, from Debian's own packages by the host's apt: signed, patched, and with
 * their package records, so that scanners of images recognise them.
 */
import { execFile } from 'node:child_process';
import { access, mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { digestOf } from '../../infra/oci/digest.ts';
import { listEntries, type LayerEntry } from '../../infra/oci/layer-pack.ts';
import { remembered } from './remembered.ts';

/** libatomic1: Node 26 links to it, 22 and 24 do not mind. */
const PACKAGES = ['libc6', 'libstdc++6', 'libgcc-s1', 'libatomic1'];
/** Character set modules, audit hooks and debugger scripts: 8 MB that no function reads. */
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
  folder: string,
  onProgress: (line: string) => void,
): Promise<DebianPackage[]> {
  const changedMs = await stat(APT_LISTS).then(
    (found) => found.mtimeMs,
    () => 0,
  );
  const key = `${PACKAGES.join(' ')} ${process.arch} ${changedMs}`;
  return remembered(join(folder, 'packages.json'), key, () => askApt(onProgress));
}

async function askApt(onProgress: (line: string) => void): Promise<DebianPackage[]> {
  const query = (): Promise<string> => apt(['--print-uris', 'download', ...PACKAGES]);
  const text = await query().catch(async () => {
    onProgress('refreshing the lists of Debian packages');
    await apt(['update']);
    return query();
  });
  const found = [...text.matchAll(/^'\S+' ((\S+?)_\S+\.deb) \d+ SHA256:([0-9a-f]{64})$/gm)].map(
    ([, file, name, hex]) => ({ name: name as string, file: file as string, digest: `sha256:${hex}` }),
  );
  const missing = PACKAGES.filter((name) => !found.some((one) => one.name === name));
  if (missing.length > 0) {
    throw new SkiffError(
      'UNAVAILABLE',
      `apt knows no package ${missing.join(', ')}; the base image is assembled from Debian packages`,
    );
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Downloads what is not in `folder` yet, checks it and returns the files for a layer. */
export async function unpackPackages(
  packages: readonly DebianPackage[],
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
  const files = await listEntries(root);
  // Folders come back as parents of the files that are kept.
  return [...files.filter((entry) => !DROPPED.test(entry.path) && !('directory' in entry)), ...records];
}

async function apt(args: readonly string[], cwd?: string): Promise<string> {
  try {
    const { stdout } = await run('apt-get', [...APT_OPTIONS, ...args], {
      timeout: APT_MS_MAX,
      ...(cwd === undefined ? {} : { cwd }),
    });
    return stdout;
  } catch (cause) {
    const lastLine =
      String((cause as { stderr?: string }).stderr ?? '')
        .trim()
        .split('\n')
        .at(-1) ?? '';
    throw new SkiffError(
      'UNAVAILABLE',
      `apt-get ${args.join(' ')} failed: ${lastLine || (cause as Error).message}`,
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
