/** pip: wheels only, since anything else runs code of the package, from one index, on the runtime's own Python. */
import { fileURLToPath } from 'node:url';
import { CHANNEL, PACKAGES_FOLDER, type PackageTool } from '../tool.ts';
import type { PipHost } from './host.ts';
import { PipMirror } from './mirror.ts';
import { planPip } from './plan.ts';

const INSIDE = fileURLToPath(new URL('.', import.meta.url));
const PYTHON = '/usr/bin/python3.11';
const TARGET = `/install/tree/${PACKAGES_FOLDER}`;
/** Where the guest looks for packages: infra/runtimes/python/guest/skiff_guest/loader.py. */
const IN_IMAGE = 'var/task/.packages';
const ERROR_LINE = /^(?:ERROR: |\s+ERROR: )/;
const NOISE = /^(?:\s*$|Exception:$|Could not find a version that satisfies .*\(from versions: none\))/;
const FLAGS = [
  '--isolated',
  '--only-binary=:all:',
  '--no-compile',
  '--no-cache-dir',
  '--no-input',
  '--no-color',
  '--no-warn-script-location',
  '--disable-pip-version-check',
  '--progress-bar=off',
  '--quiet',
  '--retries=2',
  `--target=${TARGET}`,
  '--index-url=http://127.0.0.1:{port}/simple/',
];

/** `findHost` is asked when the first install needs it: most servers never install a Python package. */
export function createPipTool(
  findHost: (runtime: string) => Promise<PipHost>,
  openMirror: (host: PipHost) => PipMirror,
): PackageTool & { close(): Promise<void> } {
  let found: Promise<{ host: PipHost; mirror: PipMirror }> | undefined;
  const open = (runtime: string): Promise<{ host: PipHost; mirror: PipMirror }> => {
    found ??= findHost(runtime).then((host) => ({ host, mirror: openMirror(host) }));
    found.catch(() => (found = undefined));
    return found;
  };
  return {
    name: 'pip',
    setting: 'SKIFF_PIP_INDEX',
    layerPrefix: IN_IMAGE,
    plan: planPip,
    openMirror: async (socketPath, runtime) => (await open(runtime)).mirror.open(socketPath),
    command: async (plan, runtime) => {
      const { host } = await open(runtime);
      return {
        runtime,
        args: [
          PYTHON,
          '-I',
          '/skiff/install/run_pip.py',
          `/skiff/pip/${host.file}`,
          CHANNEL,
          TARGET,
          'install',
          ...FLAGS,
          ...plan.args,
        ],
        env: {},
        mounts: [
          { source: host.folder, target: '/skiff/pip' },
          { source: INSIDE, target: '/skiff/install' },
        ],
      };
    },
    tryReadError: (line) => {
      if (!ERROR_LINE.test(line)) return undefined;
      const text = line.replace(ERROR_LINE, '');
      return NOISE.test(text) ? '' : text;
    },
    close: async () => {
      await (await found?.catch(() => undefined))?.mirror.close();
    },
  };
}
