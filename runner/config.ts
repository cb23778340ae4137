/** Settings of the runner. See infra/lib/config.ts. */
import { totalmem } from 'node:os';
import { z } from 'zod';
import { commonSettings, listSetting, loadConfig } from '../infra/lib/config.ts';
import { egressSettings } from '../infra/network/settings.ts';

const GB = 1024 ** 3;

const settings = {
  ...commonSettings,
  /** Stable across restarts; made and kept in the data folder when absent. */
  SKIFF_RUNNER_ID: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .optional(),
  /** Memory all sandboxes may use together. A quarter stays with the host. */
  SKIFF_RUNNER_MEMORY_BYTES: z.coerce
    .number()
    .int()
    .min(256 * 1024 ** 2)
    .default(Math.floor(totalmem() * 0.75)),
  /** Stems kept ready for each base image. */
  SKIFF_RUNNER_STEMS: z.coerce.number().int().min(0).max(64).default(3),
  /** A node that serves nothing makes a synthetic invocation this often to know that it could; 0: never. */
  SKIFF_RUNNER_PROBE_MS: z.coerce.number().int().min(0).default(30_000),
  SKIFF_RUNNER_STORE_BYTES_MAX: z.coerce
    .number()
    .int()
    .default(20 * GB),
  /** Layers of images are asked of other nodes of the swarm before the registry, and given to them. */
  SKIFF_PEERS: z.stringbool().default(true),
  /** What this node gives others a second, of all layers together. Less than the least is given up by who waits for it. */
  SKIFF_PEERS_BYTES_PER_SECOND: z.coerce
    .number()
    .int()
    .min(8 * 1024 ** 2)
    .default(64 * 1024 ** 2),
  /** Functions of more than a few KB get a V8 code cache, kept beside their layer. */
  SKIFF_CODE_CACHE: z.stringbool().default(true),
  /** First host uid for sandboxes: above everything /etc/passwd and subuid ranges usually hold. */
  SKIFF_RUNNER_UID_BASE: z.coerce.number().int().min(1_000_000).default(2_000_000),
  /** Address for gateways on other hosts; absent: unix socket only. */
  SKIFF_RUNNER_LINK_HOST: z.string().optional(),
  SKIFF_RUNNER_LABELS: z.string().default(''),
  /**
   * Sandboxes of one namespace at most, on all hosts together: a number for each of them, and `name=number` for some,
   * with commas. 0: no limit.
   */
  SKIFF_NAMESPACE_SANDBOXES_MAX: listSetting.transform((parts, context) => {
    const max = new Map<string, number>();
    for (const part of parts) {
      const [, name, count] = /^(?:([a-z][a-z0-9-]*)=)?(\d{1,6})$/.exec(part) ?? [];
      if (count === undefined)
        context.addIssue({ code: 'custom', message: `"${part}" is not a number or name=number` });
      else max.set(name ?? '', Number(count));
    }
    return (namespace: string): number => max.get(namespace) ?? max.get('') ?? 0;
  }),
  SKIFF_RUNTIME: z.string().default('crun'),
  /** Runtimes that functions may ask for by name, `class=program` with commas. They must speak runc's command line. */
  SKIFF_RUNTIME_CLASSES: z
    .string()
    .default('crun=crun,runc=runc')
    .transform((text, context) => {
      const pairs = text.split(',').filter((part) => part.trim() !== '');
      return new Map(
        pairs.flatMap((pair): [string, string][] => {
          const [, name, program] = /^\s*([a-z0-9-]{1,32})=(\S+)\s*$/.exec(pair) ?? [];
          if (name !== undefined && program !== undefined) return [[name, program]];
          context.addIssue({ code: 'custom', message: `"${pair}" is not class=program` });
          return [];
        }),
      );
    }),
  ...egressSettings,
} as const;

export function loadRunnerConfig(env: Readonly<Record<string, string | undefined>>) {
  return loadConfig(settings, env);
}
