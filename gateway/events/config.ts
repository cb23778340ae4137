/** Settings of the events process. See infra/lib/config.ts. */
import { z } from 'zod';
import { EVENTS_NAMESPACE_WINDOW_MAX } from '../../sdk/protocol/limits.ts';
import { DURABILITY_CLASSES } from '../../infra/events/durability.ts';
import { commonSettings, loadConfig } from '../../infra/lib/config.ts';

/** What an acknowledged event survives: see infra/events/durability.ts. The gateway reads it, too. */
export const durabilitySetting = z.enum(DURABILITY_CLASSES).default('single');

const settings = {
  ...commonSettings,
  SKIFF_GATEWAY_PORT: z.coerce.number().int().min(1).max(65_535).default(8080),
  SKIFF_EVENTS_DURABILITY: durabilitySetting,
  /** Internal IPv4 ranges that webhooks may reach, with commas. */
  SKIFF_EGRESS_INTERNAL: z
    .string()
    .default('')
    .transform((text) =>
      text
        .split(',')
        .map((range) => range.trim())
        .filter(Boolean),
    ),
  /** Jobs that this process runs at a time, in each of the shard queues. */
  SKIFF_EVENTS_CONCURRENCY: z.coerce.number().int().min(1).max(10_000).default(256),
  /** Events of one namespace that run or are in these queues, on all hosts together; the others wait in their rooms. */
  SKIFF_EVENTS_NAMESPACE_MAX: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .default(EVENTS_NAMESPACE_WINDOW_MAX),
} as const;

export function loadEventsConfig(env: Readonly<Record<string, string | undefined>>) {
  return loadConfig(settings, env);
}
