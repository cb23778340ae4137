/** Reads from the firewall which connections it refused since the last look. Input: nft's JSON (libnftables-json(5)). */
import type { LogLine } from '../../sdk/protocol/api.ts';

export interface Denial {
  readonly source: string;
  readonly address: string;
  readonly protocol: string;
  readonly port: number;
  readonly packets: number;
}

interface CountedElement {
  readonly elem: {
    readonly val: { readonly concat: readonly [string, string, string, number] };
    readonly counter?: { readonly packets: number };
  };
}

export class Denials {
  #seen = new Map<string, number>();

  /** What is new in this listing of the `denied` set. */
  update(json: string): Denial[] {
    const { nftables } = JSON.parse(json) as { nftables: { set?: { elem?: CountedElement[] } }[] };
    const elements = nftables.flatMap(({ set }) => set?.elem ?? []);
    const seen = new Map<string, number>();
    const fresh = elements.flatMap(({ elem }) => {
      const [source, address, protocol, port] = elem.val.concat;
      const key = elem.val.concat.join(' ');
      const packets = elem.counter?.packets ?? 1;
      seen.set(key, packets);
      const before = this.#seen.get(key) ?? 0;
      // A smaller count: the element had run out and was made anew.
      const added = packets < before ? packets : packets - before;
      return added > 0 ? [{ source, address, protocol, port, packets: added }] : [];
    });
    this.#seen = seen;
    return fresh;
  }
}

/** As a line of the function's log; `egress` is what `skiff logs --egress` looks for. */
export function describeDenial(denial: {
  target: string;
  protocol: string;
  count: number;
}): Omit<LogLine, 'cursor' | 'atMs' | 'deployment'> {
  const { target, protocol, count } = denial;
  const what = protocol === 'dns' ? `the name ${target}` : `${protocol} to ${target}`;
  return {
    level: 'warn',
    source: 'platform',
    message: `egress denied: ${what} is not allowed by the function's network policy`,
    fields: { egress: { target, protocol, count } },
  };
}
