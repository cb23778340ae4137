/**
 * Whether this node takes a start order that it has popped, or gives others a chance first. Nobody schedules: each
 * node judges for itself, from what it has and what it last heard of the others.
 *
 *   - A constraint that this node does not meet: it gives the order on. When no node that is up meets it, the order fails.
 *   - The image is not here: it gives the order on and waits a moment, so that a node that has it is quicker. How long
 *     depends on its rank for this deployment (rendezvous hashing), so that a cold function's image is on few nodes.
 *   - Others have much more free memory: it gives the order on and waits a little.
 *
 * Invariant: a node gives an order on at most once, but for constraints; so an order always finds somebody, after at
 * most the longest of the waits. Pure.
 */
import type { NodeRecord } from '../../sdk/protocol/api.ts';
import { findUnmet, type NodeFacts } from '../../sdk/protocol/swarm/constraint.ts';

export type Verdict =
  | { readonly kind: 'take' }
  | { readonly kind: 'pass'; readonly waitMs: number }
  | { readonly kind: 'impossible'; readonly message: string };

export interface Question {
  readonly deployment: string;
  readonly constraints: readonly string[];
  readonly memoryBytes: number;
  readonly hasPassed: boolean;
  readonly hasImage: boolean;
  readonly self: NodeFacts & { readonly freeBytes: number; readonly capacityBytes: number };
  /** Active nodes that are up, without this one. */
  readonly peers: readonly NodeRecord[];
}

/** Over the time a node with the image needs to pop an order: tens of microseconds, and a busy host's scheduling. */
const IMAGE_MS = 10;
const RANK_MS = 4;
const RANKS_MAX = 5;
const CROWDED_MS = 4;
const FULL_MS = 20;
/** Free memory must differ by this share of a node's capacity to count. */
const CROWDED_SHARE = 0.2;
/** A node that cannot run an order must not take it over and over from those who can. */
const UNMET_MS = 15;

export function judge(question: Question): Verdict {
  const { constraints, self, peers, hasPassed } = question;
  const able = constraints.length === 0 ? peers : peers.filter((peer) => !findUnmet(constraints, peer));
  if (findUnmet(constraints, self) !== undefined) {
    if (able.length > 0) return { kind: 'pass', waitMs: UNMET_MS };
    const count = peers.length + 1;
    const message = `no suitable node: ${constraints.join(' and ')} is not satisfied on ${count === 1 ? 'the one node' : `any of the ${count} nodes`} that is up and active`;
    return { kind: 'impossible', message };
  }
  if (hasPassed || able.length === 0) return { kind: 'take' };
  const waitMs = imageWait(question, able) + memoryWait(question, able);
  return waitMs === 0 ? { kind: 'take' } : { kind: 'pass', waitMs };
}

function imageWait({ hasImage, deployment, self }: Question, able: readonly NodeRecord[]): number {
  if (hasImage) return 0;
  const own = weigh(deployment, self.id);
  // Ranks beyond the last one that counts need not be known: of a thousand nodes a dozen are looked at.
  let rank = 0;
  for (const peer of able) if (weigh(deployment, peer.id) > own && ++rank === RANKS_MAX) break;
  return IMAGE_MS + rank * RANK_MS;
}

function memoryWait({ self, memoryBytes }: Question, able: readonly NodeRecord[]): number {
  let mostFree = 0;
  for (const { capacity, used } of able)
    mostFree = Math.max(mostFree, capacity.memoryBytes - used.memoryBytes);
  if (self.freeBytes < memoryBytes && mostFree >= memoryBytes) return FULL_MS;
  return mostFree - self.freeBytes > self.capacityBytes * CROWDED_SHARE ? CROWDED_MS : 0;
}

/** Rendezvous hashing: for each deployment another order of nodes, that changes little when nodes come and go. */
export function weigh(deployment: string, node: string): number {
  let hash = fnv1a(node, fnv1a(deployment, FNV_BASIS));
  // FNV alone hardly lets the last letters reach the upper bits, and node ids differ in those: MurmurHash3's finalizer.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const FNV_BASIS = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** A twentieth of what a digest of the crypto module costs; a node weighs itself against hundreds of others. */
function fnv1a(text: string, basis: number): number {
  let hash = basis;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), FNV_PRIME);
  return hash;
}
