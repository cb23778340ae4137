/** Settings of the builder. See infra/lib/config.ts. */
import { z } from 'zod';
import { commonSettings, loadConfig, secretSetting } from '../infra/lib/config.ts';
import { egressSettings } from '../infra/network/settings.ts';

const settings = {
  ...commonSettings,
  ...egressSettings,
  /** Builds at the same time. Bundling uses several cores by itself; more builds help when installs wait for a network. */
  SKIFF_BUILDER_CONCURRENCY: z.coerce.number().int().min(1).max(32).default(2),
  /** npm registry for installs; what `npm config get registry` says on this host when absent. */
  SKIFF_NPM_REGISTRY: z.url().optional(),
  /** Python package index for installs; what pip is set up for on this host when absent. */
  SKIFF_PIP_INDEX: z.url().optional(),
  /** Logins to other registries, as in a Docker config.json; SKIFF_REGISTRY_LOGINS_FILE names such a file. */
  SKIFF_REGISTRY_LOGINS: secretSetting.optional(),
  /** First host uid of sandboxes; runner and builder claim blocks of their own from it on. */
  SKIFF_RUNNER_UID_BASE: z.coerce.number().int().min(1_000_000).default(2_000_000),
  /** OCI runtime of the install sandboxes. */
  SKIFF_RUNTIME: z.string().default('crun'),
} as const;

export function loadBuilderConfig(env: Readonly<Record<string, string | undefined>>) {
  return loadConfig(settings, env);
}
