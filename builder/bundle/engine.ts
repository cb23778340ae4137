/**
 * One esbuild process: started once, confined, kept warm, replaced when it dies.
 * It is a copy of the module of its own, because esbuild decides at load time which binary it starts, and other parts
 * of the builder bundle code of this repository, which the confined one cannot see.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { BuildOptions, BuildResult } from 'esbuild';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { Gate } from './gate.ts';
import { createJail, type Jail, NO_JAIL } from './jail.ts';

export type Esbuild = typeof import('esbuild');

export class BundlerEngine {
  readonly esbuild: Esbuild;
  readonly jail: Jail;
  readonly #gate = new Gate();

  constructor(esbuild: Esbuild, jail: Jail) {
    this.esbuild = esbuild;
    this.jail = jail;
  }

  /** Starts the process and lets it compile once, so that the first deploy does not wait for it. */
  async warm(): Promise<void> {
    await this.build(
      { stdin: { contents: 'export default 1' }, write: false, logLevel: 'silent' },
      new AbortController().signal,
    );
  }

  /**
   * Builds. When the process dies of it, or of another build at the same time, the build is repeated alone: what it
   * dies of then is this source.
   * @throws esbuild's BuildFailure; SkiffError BUILD_FAILED when the process died of this input; the signal's reason.
   */
  async build(options: BuildOptions, signal: AbortSignal): Promise<BuildResult> {
    const first = await this.#gate.runShared(() => this.#tryBuild(options, signal));
    if (first) return first;
    const second = await this.#gate.runExclusive(() => this.#tryBuild(options, signal));
    if (second) return second;
    throw new SkiffError(
      'BUILD_FAILED',
      'the bundler ended while it worked on this source; is a file extremely large or deeply nested?',
    );
  }

  async close(): Promise<void> {
    await this.esbuild.stop();
  }

  /** Undefined when the process died; it is started again by the next build. */
  async #tryBuild(options: BuildOptions, signal: AbortSignal): Promise<BuildResult | undefined> {
    signal.throwIfAborted();
    try {
      return await this.#buildCancellable(options, signal);
    } catch (error) {
      signal.throwIfAborted();
      const isGone =
        error instanceof Error && /service (?:was stopped|is no longer running)|EPIPE/.test(error.message);
      if (!isGone) throw error;
      await this.esbuild.stop();
      return undefined;
    }
  }

  /** Through a context, because only that can be cancelled. */
  async #buildCancellable(options: BuildOptions, signal: AbortSignal): Promise<BuildResult> {
    const build = await this.esbuild.context(options);
    const cancel = (): void => void build.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    try {
      return await build.rebuild();
    } finally {
      signal.removeEventListener('abort', cancel);
      await build.dispose();
    }
  }
}

/**
 * @param root becomes "/" for esbuild; undefined: not confined, for builders that do not run as root.
 * @param env the process's environment: esbuild reads its binary's path from there while it loads.
 */
export async function openBundlerEngine(
  root: string | undefined,
  env: NodeJS.ProcessEnv,
): Promise<BundlerEngine> {
  const require = createRequire(import.meta.url);
  if (root === undefined) return new BundlerEngine(require('esbuild') as Esbuild, NO_JAIL);
  const main = require.resolve('esbuild');
  const binary = createRequire(main).resolve(`@esbuild/linux-${process.arch}/bin/esbuild`);
  const { jail, launcher } = await createJail(root, binary);
  const shared = require.cache[main];
  delete require.cache[main];
  env['ESBUILD_BINARY_PATH'] = launcher;
  try {
    return new BundlerEngine(require('esbuild') as Esbuild, jail);
  } finally {
    delete env['ESBUILD_BINARY_PATH'];
    if (shared) require.cache[main] = shared;
    else delete require.cache[main];
  }
}

/** Where sources and packages are, so that the engine can see them. */
export function engineFolders(root: string): { work: string; dependencies: string } {
  return { work: join(root, 'work'), dependencies: join(root, 'deps') };
}
