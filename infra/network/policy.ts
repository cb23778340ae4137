/** A function's network setting as the firewall and the resolver need it. Pure. */
import { tryParseEgressEntry, type EgressEntry } from '../../sdk/protocol/reach/egress.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Network } from '../../sdk/protocol/manifest.ts';
import { formatRange, type Range } from './address.ts';
import { closedRanges } from './ruleset.ts';

type HostEntry = Extract<EgressEntry, { kind: 'host' }>;
export type RangeEntry = Extract<EgressEntry, { kind: 'range' }>;

export interface Policy {
  /** All public addresses. */
  readonly isInternet: boolean;
  readonly ranges: readonly RangeEntry[];
  readonly hosts: readonly HostEntry[];
}

/** Throws INVALID_CONFIG for an entry that is none, or that names an internal range the operator has not opened. */
export function createPolicy(network: Network, opened: readonly Range[]): Policy {
  if (network === 'none') return { isInternet: false, ranges: [], hosts: [] };
  if (network === 'internet') return { isInternet: true, ranges: [], hosts: [] };
  const entries = network.allow.map((text) => {
    const entry = tryParseEgressEntry(text);
    if (!entry)
      throw new SkiffError('INVALID_CONFIG', `network.allow: "${text}" is not host:port or an IPv4 range`);
    return entry;
  });
  const ranges = entries.filter((entry) => entry.kind === 'range');
  const [closed] = closedRanges(ranges, opened);
  if (closed) {
    throw new SkiffError(
      'INVALID_CONFIG',
      `network.allow: ${formatRange(closed)} is internal; the operator opens such ranges with SKIFF_EGRESS_INTERNAL`,
    );
  }
  return { isInternet: false, ranges, hosts: entries.filter((entry) => entry.kind === 'host') };
}

/** Ports of `name` that the policy allows; for the whole internet none has to be named. */
export function portsOf(policy: Policy, name: string): number[] {
  return policy.hosts.filter((entry) => matches(entry, name)).map(({ port }) => port);
}

export function allowsName(policy: Policy, name: string): boolean {
  return policy.isInternet || policy.hosts.some((entry) => matches(entry, name));
}

function matches({ host, isWildcard }: HostEntry, name: string): boolean {
  return isWildcard ? name.endsWith(`.${host}`) : name === host;
}
