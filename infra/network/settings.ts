/** Settings of the processes that give sandboxes egress: the runner, and the builder for steps of Containerfiles. */
import { z } from 'zod';
import { listSetting } from '../lib/config.ts';
import { tryParseEgressEntry } from '../../sdk/protocol/reach/egress.ts';
import type { Range } from './address.ts';

export const egressSettings = {
  /** Resolver that names of functions with egress are asked of, `address` or `address:port`; absent: this host's own. */
  SKIFF_EGRESS_DNS: z.string().optional(),
  /** Devices that lead outside, with commas; empty: those with a default route. */
  SKIFF_EGRESS_DEVICES: listSetting,
  /** Internal IPv4 ranges that allow lists may name, with commas. All others are closed whatever a function says. */
  SKIFF_EGRESS_INTERNAL: listSetting.transform((ranges, context) =>
    ranges.flatMap((text): Range[] => {
      const entry = tryParseEgressEntry(text);
      if (entry?.kind === 'range' && entry.port === undefined) return [entry];
      context.addIssue({ code: 'custom', message: `"${text}" is not an IPv4 range` });
      return [];
    }),
  ),
} as const;
