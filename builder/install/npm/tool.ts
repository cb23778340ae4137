/** npm, pnpm and Yarn: one registry, on the Node of the runtime (or on the platform's, for a runtime without one). */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findRuntime } from '../../../infra/runtimes/catalog.ts';
import type { NpmProgram } from '../../../infra/runtimes/contract.ts';
import { CHANNEL, type PackageTool } from '../tool.ts';
import { MANAGERS, MIRROR_PORT } from './managers.ts';
import type { NpmMirror } from './mirror.ts';
import { planNpm } from './plan.ts';

const INSIDE = fileURLToPath(new URL('.', import.meta.url));
const NODE = '/usr/bin/node';

export interface NpmToolOptions {
  /** Called when the first install needs it: most servers only ever see functions without packages. */
  readonly createMirror: () => Promise<NpmMirror>;
  /** npm's own folder on this host. */
  readonly npmFolder: string;
  /** File of a program that an npm package ships, fetched when it is not there yet. */
  readonly openProgram: (program: NpmProgram) => Promise<string>;
}

export function createNpmTool(options: NpmToolOptions): PackageTool & { close(): Promise<void> } {
  const { createMirror, npmFolder, openProgram } = options;
  let mirror: Promise<NpmMirror> | undefined;
  const openMirror = (): Promise<NpmMirror> => {
    mirror ??= createMirror();
    mirror.catch(() => (mirror = undefined));
    return mirror;
  };
  // Installs that come at the same time wait for one download.
  const opening = new Map<string, Promise<string>>();
  const open = (program: NpmProgram): Promise<string> => {
    const known = opening.get(program.path);
    if (known) return known;
    const file = openProgram(program);
    opening.set(program.path, file);
    file.catch(() => opening.delete(program.path));
    return file;
  };
  return {
    name: 'npm',
    setting: 'SKIFF_NPM_REGISTRY',
    plan: planNpm,
    openMirror: async (socketPath) => (await openMirror()).open(socketPath),
    command: async (plan, runtime) => {
      const manager = MANAGERS[plan.manager ?? 'npm'];
      const mayRunScripts = plan.mayRunScripts === true;
      const { program } = findRuntime(findRuntime(runtime).installsOn ?? runtime).base;
      // node-gyp compiles against the headers that came with the runtime's own Node.
      const headers = mayRunScripts && program ? dirname(dirname(await open(program))) : undefined;
      const folder = manager.program ? dirname(dirname(await open(manager.program))) : npmFolder;
      return {
        runtime: findRuntime(runtime).installsOn ?? runtime,
        args: [
          NODE,
          '--require=/skiff/install/to-mirror.cjs',
          `/skiff/manager/${manager.module}`,
          ...plan.args,
          ...manager.args(mayRunScripts),
        ],
        env: {
          NODE_OPTIONS: '--max-old-space-size=700',
          SKIFF_MIRROR_PORT: String(MIRROR_PORT),
          SKIFF_MIRROR_SOCKET: CHANNEL,
          ...(headers ? { npm_config_nodedir: '/skiff/node', PYTHON: '/usr/bin/python3' } : {}),
          ...manager.env(mayRunScripts),
        },
        mounts: [
          { source: folder, target: '/skiff/manager' },
          { source: INSIDE, target: '/skiff/install' },
          ...(headers ? [{ source: headers, target: '/skiff/node' }] : []),
        ],
      };
    },
    tryReadError: (line, plan) => MANAGERS[plan.manager ?? 'npm'].tryReadError(line),
    close: async () => {
      await (await mirror?.catch(() => undefined))?.close();
    },
  };
}
