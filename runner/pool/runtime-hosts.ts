/**
 * Several OCI runtimes behind one sandbox host: the default one, and others that functions ask for by class. Each has
 * its own state folder, cgroup and uids, and is opened when the first function needs it; what one of them left behind
 * in an earlier life is reaped at the start all the same.
 */
import { existsSync } from 'node:fs';
import type { SandboxHost } from '../../infra/sandbox/contract.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';

export const DEFAULT_CLASS = 'default';

export interface RuntimeClassesOptions {
  readonly host: SandboxHost;
  /** Program of `host`. */
  readonly runtime: string;
  /** Class -> program. */
  readonly classes: ReadonlyMap<string, string>;
  stateDirOf(runtimeClass: string): string;
  open(runtimeClass: string, program: string): Promise<SandboxHost>;
}

export function withRuntimeClasses(options: RuntimeClassesOptions): SandboxHost {
  const { host, classes } = options;
  const opened = new Map<string, Promise<SandboxHost>>();

  function hostOf(runtimeClass: string): Promise<SandboxHost> {
    const program = classes.get(runtimeClass);
    if (runtimeClass === DEFAULT_CLASS || program === options.runtime) return Promise.resolve(host);
    if (program === undefined) {
      const known = [DEFAULT_CLASS, ...classes.keys()].join(', ');
      throw new SkiffError(
        'COLD_START_FAILED',
        `this host has no runtime class "${runtimeClass}"; it has ${known} (SKIFF_RUNTIME_CLASSES)`,
      );
    }
    let opening = opened.get(runtimeClass);
    if (!opening) {
      opening = options.open(runtimeClass, program);
      opened.set(runtimeClass, opening);
      opening.catch(() => opened.delete(runtimeClass));
    }
    return opening;
  }

  return {
    allocateUid: () => host.allocateUid(),
    launch: async (spec) => (await hostOf(spec.runtimeClass ?? DEFAULT_CLASS)).launch(spec),
    async reap() {
      const total = await host.reap();
      for (const [runtimeClass, program] of classes) {
        if (program === options.runtime || !existsSync(options.stateDirOf(runtimeClass))) continue;
        const { containers, mounts, cgroups } = await (await hostOf(runtimeClass)).reap();
        total.containers += containers;
        total.mounts += mounts;
        total.cgroups += cgroups;
      }
      return total;
    },
    async close() {
      const others = await Promise.allSettled(opened.values());
      const hosts = others.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      await Promise.all([host, ...hosts].map((one) => one.close()));
    },
  };
}
