/**
 * Which node is asked for a layer: any that says it has it, in random order, so that a crowd spreads over all that do. A node
 * that failed is left alone for a while, longer each time; one that sent other bytes than asked for, for ten minutes.
 */
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { mayHave } from '../../../infra/oci/store/digest-summary.ts';

const REST_MS = 15_000;
const REST_MS_MAX = 600_000;

export interface Peer {
  readonly id: string;
  /** `https://host:port`. */
  readonly url: string;
}

export class PeerChoice {
  readonly #resting = new Map<string, { untilMs: number; restMs: number }>();
  readonly #now: () => number;
  readonly #random: () => number;

  constructor(now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#now = now;
    this.#random = random;
  }

  /** `isLast`: there is nobody else to ask, so those who are only slow or were away are asked as well. */
  choose(digest: string, nodes: readonly NodeRecord[], isLast = false): Peer[] {
    const able = nodes.filter(
      ({ id, peers }) => peers && mayHave(peers.summary, digest) && !this.#isResting(id, isLast),
    );
    return able
      .flatMap((node) => toPeer(node) ?? [])
      .map((peer) => ({ peer, at: this.#random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ peer }) => peer);
  }

  /** One node, if it can be asked. */
  find(id: string, nodes: readonly NodeRecord[]): Peer | undefined {
    const node = nodes.find((one) => one.id === id && one.peers !== undefined);
    return node && !this.#isResting(id, false) ? toPeer(node) : undefined;
  }

  onGood(id: string): void {
    this.#resting.delete(id);
  }

  onFailure(id: string, isLie: boolean): void {
    const before = this.#resting.get(id)?.restMs ?? REST_MS / 2;
    const restMs = isLie ? REST_MS_MAX : Math.min(before * 2, REST_MS_MAX);
    this.#resting.set(id, { untilMs: this.#now() + restMs, restMs });
  }

  #isResting(id: string, isLast: boolean): boolean {
    const rest = this.#resting.get(id);
    if (rest === undefined || rest.untilMs <= this.#now()) return false;
    return !isLast || rest.restMs === REST_MS_MAX;
  }
}

function toPeer({ id, address }: NodeRecord): Peer | undefined {
  const at = /^tcp:(.+:\d{1,5})$/.exec(address ?? '')?.[1];
  return at === undefined || !URL.canParse(`https://${at}`) ? undefined : { id, url: `https://${at}` };
}
