/** What this host knows of pip: pip itself, as a Debian package brings it, and the index it is set up for. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { getCACertificates } from 'node:tls';
import { inflateRawSync } from 'node:zlib';
import { listPackages, unpackPackages } from '../../base/debian-packages.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';

const PACKAGE = 'python3-pip-whl';
const WHEELS = 'usr/share/python-wheels';
/** pip's own default index is in it. */
const MODULE = 'pip/_internal/models/index.py';
const SETTINGS_FILES = ['/etc/pip.conf'];

/** Writes the wheel of its input with compiled modules in place of sources: pip then starts in a quarter of the time. */
const COMPILE = `
import io, sys, zipfile
from importlib._bootstrap_external import _code_to_hash_pyc
source = zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read()))
result = io.BytesIO()
with zipfile.ZipFile(result, 'w') as target:
    for name in source.namelist():
        data = source.read(name)
        if name.endswith('.py'):
            code = compile(data, '/skiff/pip/' + name, 'exec', dont_inherit=True)
            data, name = _code_to_hash_pyc(code, bytes(8), False), name + 'c'
        target.writestr(name, data)
sys.stdout.buffer.write(result.getvalue())
`;
const COMPILED = 'pip.zip';
const COMPILE_MS_MAX = 60_000;

export interface PipHost {
  /** Folder with pip in it, and the file's name. */
  readonly folder: string;
  readonly file: string;
  readonly index: string;
  readonly certificates: readonly string[] | undefined;
}

export interface PipSearch {
  /** Keeps downloads between runs. */
  readonly workDir: string;
  /** Root file system with the Python that will run pip. */
  readonly rootfs: string;
  /** Overrides what pip is set up for. */
  readonly index: string | undefined;
  /** PEM file beside what pip's settings name. */
  readonly cafile: string | undefined;
}

/** Downloads pip when it is not there yet. @throws SkiffError UNAVAILABLE */
export async function findPip(search: PipSearch): Promise<PipHost> {
  const { workDir } = search;
  const packages = await listPackages([PACKAGE], join(workDir, 'debian'), () => {});
  const root = join(workDir, 'pip');
  await unpackPackages(packages, { packages: [PACKAGE] }, join(workDir, 'debian'), root, () => {});
  const wheels = join(root, WHEELS);
  const name = (await readdir(wheels)).find((each) => /^pip-.*\.whl$/.test(each));
  if (name === undefined) throw new SkiffError('UNAVAILABLE', `Debian's package ${PACKAGE} has no pip in it`);
  const wheel = await readFile(join(wheels, name));
  const folder = join(root, 'compiled');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, COMPILED), await compile(wheel, search.rootfs), { mode: 0o644 });
  const configured = await readSettings();
  const cafile = search.cafile ?? configured['cert'];
  const extra = cafile === undefined ? undefined : await readFile(cafile, 'utf8').catch(() => undefined);
  return {
    folder,
    file: COMPILED,
    index: search.index ?? configured['index-url'] ?? readDefaultIndex(wheel),
    certificates: extra === undefined ? undefined : [...getCACertificates('default'), extra],
  };
}

async function compile(wheel: Buffer, rootfs: string): Promise<Buffer> {
  const child = execFile(
    '/usr/sbin/chroot',
    ['--userspec=65534:65534', rootfs, '/usr/bin/python3.11', '-I', '-S', '-c', COMPILE],
    { encoding: 'buffer', env: {}, timeout: COMPILE_MS_MAX, maxBuffer: 64 * 1024 * 1024 },
    () => {},
  );
  const output = buffer(child.stdout as Readable);
  child.stdin?.end(wheel);
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code === 0) return output;
  throw new SkiffError('UNAVAILABLE', `pip could not be compiled: Python ended with code ${code}`);
}

/** `name = value` lines of the section [global] or [install]. */
async function readSettings(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const file of SETTINGS_FILES) {
    const text = await readFile(file, 'utf8').catch(() => '');
    for (const [, name, value] of text.matchAll(/^([\w-]+)\s*[=:]\s*(\S+)\s*$/gm))
      found[name as string] = value as string;
  }
  return found;
}

function readDefaultIndex(wheel: Buffer): string {
  const source = readZipEntry(wheel, MODULE)?.toString('utf8');
  const address =
    source === undefined ? undefined : /PyPI = PackageIndex\(\s*["']([^"']+)["']/.exec(source)?.[1];
  if (address === undefined)
    throw new SkiffError('UNAVAILABLE', 'pip names no index on this host; set SKIFF_PIP_INDEX');
  return new URL('simple/', address.endsWith('/') ? address : `${address}/`).href;
}

/** One file of a zip archive that we trust (APPNOTE 4.3): by the central directory, stored or deflated. */
function readZipEntry(zip: Buffer, name: string): Buffer | undefined {
  const end = zip.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  let at = zip.readUInt32LE(end + 16);
  for (let count = zip.readUInt16LE(end + 10); count > 0; count--) {
    const nameBytes = zip.readUInt16LE(at + 28);
    if (zip.toString('utf8', at + 46, at + 46 + nameBytes) === name) {
      const local = zip.readUInt32LE(at + 42);
      const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
      const data = zip.subarray(start, start + zip.readUInt32LE(at + 20));
      return zip.readUInt16LE(at + 10) === 0 ? data : inflateRawSync(data);
    }
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  return undefined;
}
