/** What this host knows of npm: where it is installed and which registry it is set up for. */
import { execFile } from 'node:child_process';
import { access, readFile, realpath } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { getCACertificates } from 'node:tls';
import { promisify } from 'node:util';
import { SkiffError } from '../../../sdk/protocol/errors.ts';

const run = promisify(execFile);

/** What npm is set up for. */
export interface NpmSettings {
  readonly registry: string;
  /** All certificates to trust, when npm is told of further ones. */
  readonly certificates: readonly string[] | undefined;
}

/**
 * Asks npm, which takes a quarter of a second.
 * @param folder of findNpmFolder
 * @param registry overrides npm's own setting
 * @throws SkiffError UNAVAILABLE when there is no registry
 */
export async function readNpmSettings(folder: string, registry: string | undefined): Promise<NpmSettings> {
  const settings = await readSettings(folder);
  const cafile = settings['cafile'];
  const extra = cafile === undefined ? undefined : await readFile(cafile, 'utf8').catch(() => undefined);
  const url = registry ?? settings['registry'];
  if (url === undefined) {
    throw new SkiffError('UNAVAILABLE', 'npm names no registry on this host; set SKIFF_NPM_REGISTRY');
  }
  return {
    registry: url,
    certificates: extra === undefined ? undefined : [...getCACertificates('default'), ...splitPem(extra)],
  };
}

/**
 * npm's own folder, with `bin/npm-cli.js` in it.
 * @param searchPath value of PATH
 * @throws SkiffError UNAVAILABLE when npm is not installed
 */
export async function findNpmFolder(searchPath: string): Promise<string> {
  for (const folder of searchPath.split(delimiter)) {
    // A link to …/npm/bin/npm-cli.js or a script beside it.
    const program = await realpath(join(folder, 'npm')).catch(() => undefined);
    const home = program === undefined ? undefined : dirname(dirname(program));
    if (home === undefined) continue;
    const isNpm = await access(join(home, 'bin/npm-cli.js')).then(
      () => true,
      () => false,
    );
    if (isNpm) return home;
  }
  throw new SkiffError(
    'UNAVAILABLE',
    'npm was not found on PATH; install Node.js with npm to install dependencies of functions',
  );
}

/** The host's npm, as the host has it set up. */
export function npmCommand(folder: string): { readonly program: string; readonly args: readonly string[] } {
  // npm looks for its global settings beside the Node that runs it, which is ours and not the host's.
  const globalConfig = join(folder, '../../../etc/npmrc');
  return {
    program: process.execPath,
    args: [join(folder, 'bin/npm-cli.js'), `--globalconfig=${globalConfig}`],
  };
}

async function readSettings(folder: string): Promise<Record<string, string>> {
  const { program, args } = npmCommand(folder);
  const { stdout } = await run(program, [...args, 'config', 'get', 'registry', 'cafile'], {
    timeout: 30_000,
    cwd: '/',
  });
  const lines = stdout.split('\n').map((line) => /^(\w+)=(.*)$/.exec(line.trim()));
  const pairs = lines.flatMap((match) =>
    match && match[2] !== 'null' && match[2] !== '' ? [[match[1], match[2]]] : [],
  );
  return Object.fromEntries(pairs) as Record<string, string>;
}

function splitPem(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}
