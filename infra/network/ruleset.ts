/**
 * The nftables rules of one runner, as text. One table for all its namespaces; what differs between functions is
 * elements of sets, so nothing here runs at a cold start.
 *
 * Invariant: what is not named is refused. A sandbox reaches our resolver, public addresses if it is in `internet`, and
 * what `allowed` (ranges of its allow list) and `pinned` (addresses our resolver has just told it) hold for it. Never:
 * this host in any of its addresses, other sandboxes, internal ranges, anything by IPv6 or but TCP and UDP, and never
 * with an address that is not its own. Deliberately absent: names; the resolver turns them into addresses.
 */
import { formatRange, INTERNAL_RANGES, isInternal, type Range } from './address.ts';

export interface RulesetInput {
  readonly table: string;
  /** What the host's ends of the namespaces' links begin with. */
  readonly linkPrefix: string;
  /** All sandboxes' addresses. */
  readonly block: Range;
  readonly gateway: string;
  readonly resolverPort: number;
  /** Internal ranges that allow lists may name. */
  readonly opened: readonly Range[];
  /** Devices on which forwarding is on only because of us: they forward to our namespaces and nowhere else. */
  readonly guardedDevices: readonly string[];
}

/** New connections of one sandbox that the kernel tracks at once: a full table would stop everybody's. */
const CONNECTIONS_MAX = 512;

export function createRuleset(input: RulesetInput): string {
  const { table, linkPrefix, block, gateway, resolverPort, opened, guardedDevices } = input;
  const sandbox = `"${linkPrefix}*"`;
  const openedNames = createOpenedRule(opened);
  const guard = createGuard(guardedDevices, sandbox);
  return `
table inet ${table} {}
delete table inet ${table}
table inet ${table} {
  set sources { type ifname . ipv4_addr; }
  set internal { type ipv4_addr; flags interval; elements = { ${INTERNAL_RANGES.map(formatRange).join(', ')} } }
  set internet { type ipv4_addr; }
  set allowed { type ipv4_addr . ipv4_addr . inet_service; flags interval; }
  set pinned { type ipv4_addr . ipv4_addr . inet_service; flags timeout; }
  set denied { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; timeout 2m; size 8192; }
  set connections { type ipv4_addr; flags dynamic; size 8192; }

  chain refuse {
    meta nfproto ipv4 meta l4proto { tcp, udp } update @denied { ip saddr . ip daddr . meta l4proto . th dport counter }
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain outbound {
    meta nfproto != ipv4 drop
    iifname . ip saddr != @sources drop
    ct state established,related accept
    meta l4proto != { tcp, udp } goto refuse
    oifname ${sandbox} goto refuse
    fib daddr type != unicast goto refuse
    ct state new add @connections { ip saddr ct count over ${CONNECTIONS_MAX} } goto refuse
    ip saddr . ip daddr . th dport @allowed accept
    ${openedNames}
    ip daddr @internal goto refuse
    ip saddr . ip daddr . th dport @pinned accept
    ip saddr @internet accept
    goto refuse
  }
  chain to_host {
    meta nfproto != ipv4 drop
    iifname . ip saddr != @sources drop
    ip daddr ${gateway} meta l4proto { tcp, udp } th dport ${resolverPort} accept
    goto refuse
  }
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    iifname ${sandbox} goto outbound
    oifname ${sandbox} ct state established,related accept
    oifname ${sandbox} drop
    ${guard}
  }
  chain input {
    type filter hook input priority filter - 5; policy accept;
    iifname ${sandbox} goto to_host
    iifname != "lo" ip daddr ${formatRange(block)} drop
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname ${sandbox} ip daddr ${gateway} meta l4proto { tcp, udp } th dport 53 dnat ip to ${gateway}:${resolverPort}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${formatRange(block)} oifname != ${sandbox} oifname != "lo" masquerade
  }
}
`;
}

/** Names that lead to opened internal ranges: pinned ones pass, the rest of the range stays closed. */
function createOpenedRule(opened: readonly Range[]): string {
  if (opened.length === 0) return '';
  return `ip daddr { ${opened.map(formatRange).join(', ')} } ip saddr . ip daddr . th dport @pinned accept`;
}

function createGuard(devices: readonly string[], sandbox: string): string {
  if (devices.length === 0) return '';
  return `iifname { ${devices.map((name) => `"${name}"`).join(', ')} } oifname != ${sandbox} drop`;
}

/** Ranges of an allow list that are internal and that the operator has not opened. */
export function closedRanges(ranges: readonly Range[], opened: readonly Range[]): Range[] {
  return ranges.filter((range) => isInternal(range, opened));
}
