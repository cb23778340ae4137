/**
 * Versions of what processes say to each other: links, envelopes, heartbeats, joining. A process states the newest that
 * it speaks and the oldest; two of them use the newest that both do. So a swarm is upgraded one node after the other,
 * as long as each release still speaks its predecessor's.
 * Envelopes may be taken by any runner, so they are written in the oldest version that their gateway speaks.
 */
export interface Spoken {
  readonly protocol: number;
  /** Absent: only `protocol`. */
  readonly protocolMin?: number | undefined;
}

export const LINK_SPOKEN = { protocol: 1, protocolMin: 1 } as const satisfies Spoken;
export const SWARM_SPOKEN = { protocol: 1, protocolMin: 1 } as const satisfies Spoken;

/** Undefined when there is none. */
export function agreeOn(own: Spoken, other: Partial<Spoken> | null | undefined): number | undefined {
  if (typeof other?.protocol !== 'number') return undefined;
  const agreed = Math.min(own.protocol, other.protocol);
  return agreed >= oldestOf(own) && agreed >= oldestOf({ ...other, protocol: other.protocol })
    ? agreed
    : undefined;
}

export function speaks(own: Spoken, version: number): boolean {
  return version >= oldestOf(own) && version <= own.protocol;
}

/** `1`, `1 to 2`, `none`. */
export function describeSpoken(spoken: Partial<Spoken> | null | undefined): string {
  if (typeof spoken?.protocol !== 'number') return 'none';
  const oldest = oldestOf({ ...spoken, protocol: spoken.protocol });
  return oldest === spoken.protocol ? `${oldest}` : `${oldest} to ${spoken.protocol}`;
}

function oldestOf({ protocol, protocolMin }: Spoken): number {
  return protocolMin ?? protocol;
}
