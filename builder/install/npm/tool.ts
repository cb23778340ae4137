/** npm: scripts off, one registry, on the Node of the runtime (or on the platform's, for a runtime without one). */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findRuntime } from '../../../infra/runtimes/catalog.ts';
import { CHANNEL, type PackageTool } from '../tool.ts';
import type { NpmMirror } from './mirror.ts';
import { planNpm } from './plan.ts';

const INSIDE = fileURLToPath(new URL('.', import.meta.url));
const NODE = '/usr/bin/node';
const ERROR_LINE = /^npm (?:error|ERR!) ?/;
/** Lines that repeat others, or speak of files inside the sandbox. */
const NOISE = /^(?:code |E?\d{3}(?:$| Note that| tarball,)|\s*$|A complete log|Log files|\/install\/home)/;
const FLAGS = [
  '--ignore-scripts',
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
  '--registry=http://127.0.0.1:{port}/',
  '--cache=/install/home/cache',
];

/** `folder` is npm's own on this host. */
export function createNpmTool(mirror: NpmMirror, folder: string): PackageTool {
  return {
    name: 'npm',
    setting: 'SKIFF_NPM_REGISTRY',
    plan: planNpm,
    openMirror: (socketPath) => mirror.open(socketPath),
    command: async (plan, runtime) => ({
      runtime: findRuntime(runtime).installsOn ?? runtime,
      args: [
        NODE,
        '/skiff/install/run-npm.cjs',
        '/skiff/npm/bin/npm-cli.js',
        CHANNEL,
        ...plan.args,
        ...FLAGS,
      ],
      env: { NODE_OPTIONS: '--max-old-space-size=700' },
      mounts: [
        { source: join(folder), target: '/skiff/npm' },
        { source: INSIDE, target: '/skiff/install' },
      ],
    }),
    tryReadError: (line) => {
      if (!ERROR_LINE.test(line)) return undefined;
      const text = line.replace(ERROR_LINE, '');
      return NOISE.test(text) ? '' : text;
    },
  };
}
