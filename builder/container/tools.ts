/**
 * The root file system that images are built in: buildah, the libraries it is linked to and a shell, copied from this
 * host once for each version of it. Nothing else of the host is in there: no settings, no credentials, no tools.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { digestOf } from '../../infra/oci/digest.ts';

const run = promisify(execFile);
const BUILDAH = '/usr/bin/buildah';
const SHELL = '/bin/sh';
const FOLDERS = ['proc', 'sys', 'dev', 'tmp', 'run', 'var/tmp', 'etc/containers', 'build', 'context'];
const FILES: Readonly<Record<string, string>> = {
  'etc/passwd': 'root:x:0:0:root:/build/home:/bin/sh\n',
  'etc/group': 'root:x:0:\n',
  // Images come from folders whose bytes were checked outside; no registry can be reached.
  'etc/containers/policy.json': '{"default":[{"type":"insecureAcceptAnything"}]}\n',
  'etc/containers/registries.conf': 'unqualified-search-registries = []\n',
};

/** Folder below `folder`. @throws SkiffError UNAVAILABLE when this host has no buildah */
export async function ensureBuildRoot(folder: string): Promise<string> {
  const found = await stat(BUILDAH).catch(() => undefined);
  if (!found) {
    throw new SkiffError(
      'UNAVAILABLE',
      'this server cannot build Containerfiles: buildah is not installed; "apt-get install buildah" on its host',
    );
  }
  const root = join(folder, `root-${digestOf(`${found.mtimeMs} ${found.size} 1`).slice(7, 19)}`);
  if (await stat(root).catch(() => undefined)) return root;
  const draft = `${root}.draft`;
  await rm(draft, { recursive: true, force: true });
  for (const name of FOLDERS) await mkdir(join(draft, name), { recursive: true, mode: 0o755 });
  for (const [name, text] of Object.entries(FILES)) await writeFile(join(draft, name), text);
  for (const program of [BUILDAH, SHELL]) {
    await copyInto(draft, program, program);
    for (const library of await listLibraries(program)) await copyInto(draft, library, library);
  }
  await rename(draft, root).catch(async (error: unknown) => {
    // Another build of this process was first.
    await rm(draft, { recursive: true, force: true });
    if (!(await stat(root).catch(() => undefined))) throw error;
  });
  return root;
}

async function copyInto(root: string, source: string, target: string): Promise<void> {
  const file = join(root, target);
  await mkdir(dirname(file), { recursive: true, mode: 0o755 });
  await copyFile(await realpath(source), file);
}

/** The loader and what it would load. */
async function listLibraries(program: string): Promise<string[]> {
  const { stdout } = await run('ldd', [program]);
  const paths = [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path as string);
  if (!paths.some((path) => basename(path).startsWith('ld-linux')))
    throw new SkiffError('UNAVAILABLE', `${program} is not linked as expected: ${stdout.trim()}`);
  return paths;
}
