/**
 * Host uids of sandboxes. Invariant: no two live sandboxes of this host machine share one, also not those of two
 * servers, because each server claims blocks that are its own. A freed uid is the last to be used again, so a
 * file or kernel counter that outlived its sandbox does not meet a new owner at once.
 */
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { releaseClaim, tryClaim } from './claim.ts';

/** More than the processes a kernel with the default pid_max (32,768) could run as sandboxes. */
export const UID_BLOCK_SIZE = 8192;
/** Uids below are people's, services' and the ranges of /etc/subuid. */
export const UID_BASE_MIN = 1_000_000;
const BLOCKS_MAX = 1024;
/** All blocks together, from the base on. */
export const UIDS_MAX = BLOCKS_MAX * 2 * UID_BLOCK_SIZE;

export interface UidPool {
  /** Throws SkiffError OVERLOADED when all are in use. */
  allocate(): number;
  isAllocated(uid: number): boolean;
  /** A second uid that belongs to `uid`'s sandbox alone, for runtimes that need a root inside. */
  companionOf(uid: number): number;
  release(uid: number): void;
  close(): void;
}

export function openUidPool(uidBase: number, claimsDir: string): UidPool {
  if (!Number.isSafeInteger(uidBase) || uidBase < UID_BASE_MIN) {
    throw new SkiffError('INVALID_CONFIG', `uid base ${uidBase}; the smallest allowed is ${UID_BASE_MIN}`);
  }
  const { first, claim } = claimBlock(uidBase, claimsDir);
  const used = new Set<number>();
  let next = 0;
  return {
    allocate() {
      for (let tries = 0; tries < UID_BLOCK_SIZE; tries++) {
        const uid = first + next;
        next = (next + 1) % UID_BLOCK_SIZE;
        if (used.has(uid)) continue;
        used.add(uid);
        return uid;
      }
      throw new SkiffError('OVERLOADED', `all ${UID_BLOCK_SIZE} sandbox uids of this host are in use`);
    },
    isAllocated: (uid) => used.has(uid),
    companionOf: (uid) => uid + UID_BLOCK_SIZE,
    release: (uid) => void used.delete(uid),
    close: () => releaseClaim(claim),
  };
}

function claimBlock(uidBase: number, claimsDir: string): { first: number; claim: string } {
  for (let block = 0; block < BLOCKS_MAX; block++) {
    // The upper half of a block are the companions.
    const first = uidBase + block * 2 * UID_BLOCK_SIZE;
    const claim = join(claimsDir, String(first));
    if (tryClaim(claim)) return { first, claim };
  }
  throw new SkiffError(
    'INVALID_CONFIG',
    `all ${BLOCKS_MAX} uid blocks from ${uidBase} on are claimed in ${claimsDir}`,
  );
}
