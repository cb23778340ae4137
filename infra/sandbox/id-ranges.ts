/**
 * Ranges of host uids for sandboxes that build images: 65,536 for each, so that a build may give files to any user.
 * Invariant: no two live builds of this machine share one, and none overlaps the uids of sandboxes (uids.ts).
 */
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { releaseClaim, tryClaim } from './claim.ts';
import type { IdRange } from './contract.ts';
import { UIDS_MAX } from './uids.ts';

const RANGE_SIZE = 65_536;
const RANGES_MAX = 512;

/** Give it back by `release`, when every process of it is gone. @throws SkiffError OVERLOADED when all are in use */
export function claimIdRange(
  uidBase: number,
  claimsDir = '/run/skiff/uids',
): IdRange & { release: () => void } {
  for (let index = 0; index < RANGES_MAX; index++) {
    const first = uidBase + UIDS_MAX + index * RANGE_SIZE;
    const claim = join(claimsDir, `range-${first}`);
    if (tryClaim(claim)) return { first, size: RANGE_SIZE, release: () => releaseClaim(claim) };
  }
  throw new SkiffError('OVERLOADED', `all ${RANGES_MAX} uid ranges for builds are in use`);
}
